"""Phase `chains`: Markov chains over the posterior of one width and training set, side by side in one program.

Tile 0 is the warm-up, tile i the i-th part of the kept samples; each keeps the state after it, so that a shard told to
stop goes on where it was, with the same bits.
"""

import jax
import numpy as np

from ntkhpc.bayesian.chains import Program, State, Values
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.errors import DivergedError
from ntkhpc.studies.posterior.cell import Cell
from ntkhpc.studies.posterior.study import BayesStudy

_STATE = "state_"


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    cell = Cell.of(run, shard)
    program = _program(cell.study, (cell.width,))
    state, tiles, reused = _sample(cell, program, shard, partial)
    return _assemble(state, tiles, langevin=cell.study.sampling.sampler == "langevin"), reused


def _program(study: BayesStudy, widths: tuple[int, ...]) -> Program:
    sampling = study.sampling
    return Program(
        activation=study.network.activation,
        widths=widths,
        sampler=sampling.sampler,
        warmup=sampling.warmup,
        tile=sampling.tile,
        thin=sampling.thin,
        learning_rate=sampling.learning_rate,
        at_once=jax.default_backend() != "cpu",
    )


def _sample(cell: Cell, program: Program, shard: Shard, partial: Partial) -> tuple[State, list[Values], int]:
    """The last state and the values of every tile, and how many tiles were there from an earlier attempt."""
    study, problem, seed = cell.study, cell.problem, cell.seed
    state: State | None = None
    tiles: list[Values] = []
    reused = 0
    for tile in range(1 + study.sampling.draws // study.sampling.tile):
        kept = partial.load(tile) if reused == tile else None
        if kept is None:
            if state is None:
                state = program.warm(problem, seed, program.start(problem, seed, range(*shard.region["chain"])))
                values: Values = {}
            else:
                state, values = program.advance(problem, seed, state)
            _require_finite(study, shard, {**state, **values})
            partial.save(tile, {f"{_STATE}{name}": value for name, value in state.items()} | values)
        else:
            reused += 1
            state = {name.removeprefix(_STATE): kept.pop(name) for name in list(kept) if name.startswith(_STATE)}
            values = kept
        tiles.append(values)
    assert state is not None
    return state, tiles[1:], reused


_FINITE = ("position", "log_density", "loss", "expected_loss", "q_bar", "mean", "mean_square", "spread")


def _require_finite(study: BayesStudy, shard: Shard, arrays: dict[str, np.ndarray]) -> None:
    """Raises DivergedError if a chain has left the finite numbers: what it gave would be read as missing."""
    if all(np.isfinite(arrays[name]).all() for name in _FINITE if name in arrays):
        return
    langevin = study.sampling.sampler == "langevin"
    raise DivergedError(
        f"a chain of {study.sampling.sampler} left the finite numbers",
        where=f"shard {shard.id}",
        cause=f"sampling.learning_rate = {study.sampling.learning_rate} is above the stability bound 2/curvature"
        if langevin
        else f"posterior.temperature = {study.posterior.temperature} is too small for float64 at this width",
        todo='lower it, or use sampler = "hmc"' if langevin else "raise it; theory alone has no such limit",
    )


def _assemble(state: State, tiles: list[Values], *, langevin: bool) -> dict[str, np.ndarray]:
    """The shard's region of each array of the phase."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([tile[name] for tile in tiles], axis=1)

    def mean(name: str) -> np.ndarray:
        return np.mean([tile[name] for tile in tiles], axis=0)

    average = mean("mean")[:, :, 0]
    values = {
        "sample_loss": joined("loss"),
        "sample_expected_loss": joined("expected_loss"),
        "sample_q_bar": joined("q_bar")[:, :, 0, 0],
        "sample_potential": joined("potential"),
        "chain_mean": average,
        "chain_point_variance": mean("mean_square")[:, :, 0] - average**2 + mean("spread"),
        "chain_acceptance": joined("acceptance").mean(axis=1) * (np.nan if langevin else 1.0),
        "chain_divergences": joined("divergent").sum(axis=1).astype(np.int64),
        "chain_step_size": state["step_size"],
        "chain_curvature": state["curvature"],
        "chain_gradients": joined("gradients").sum(axis=1).astype(np.int64),
    }
    return {name: value[None, None, None] for name, value in values.items()}
