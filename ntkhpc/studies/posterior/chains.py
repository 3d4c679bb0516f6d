"""Phase `chains`: Markov chains over the posterior of one width and training set, side by side in one program.

Tile 0 is the warm-up, tile i the i-th part of the kept samples; each keeps the state after it, so that a shard told to
stop goes on where it was, with the same bits. Here are its section of a study file ([sampling]), its arrays, its cost
and its computation.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta

from ntkhpc.errors import DivergedError
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.settings import Positive, PositiveFloat, Settings, require_increasing
from ntkhpc.phase.work import Values, Work
from ntkhpc.references import RANK_R_HAT, Reference
from ntkhpc.studies import cost, memory
from ntkhpc.studies.posterior.cell import CELL, FLOPS_PER_SECOND, INPUTS, Cell, across_bytes
from ntkhpc.words import count, numbers

if TYPE_CHECKING:
    from ntkhpc.bayesian.chains import ChainProgram
    from ntkhpc.studies.posterior.study import PosteriorStudy


SAMPLERS = {
    "hmc": "Hamiltonian Monte Carlo over the hidden weights, the read-out integrated out",
    "nuts": "the no-U-turn sampler over the hidden weights, the read-out integrated out",
    "langevin": "full-batch Langevin dynamics of all weights",
}
"""Samplers in words."""


class Sampling(Settings, frozen=True, kw_only=True):
    """Chains of posterior samples. Without `widths` or `n_train` those of the study; no chains: theory alone."""

    chains: Annotated[int, Meta(ge=0)] = 4
    shard_chains: Positive = 4
    sampler: Literal["hmc", "nuts", "langevin"] = "hmc"
    warmup: Positive = 300
    draws: Annotated[int, Meta(ge=8)] = 400
    tile: Positive = 100
    thin: Positive = 1
    learning_rate: PositiveFloat = 1e-3
    widths: tuple[Positive, ...] = ()
    n_train: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        for name in ("widths", "n_train"):
            require_increasing(name, getattr(self, name))
        if self.chains == 1:
            raise ValueError("chains = 1 cannot show whether it has converged: give at least 2, or 0 for theory alone")
        if self.draws % self.tile:
            raise ValueError(
                f"draws = {self.draws} must be a multiple of tile = {self.tile}: "
                f"try {max(1, round(self.draws / self.tile)) * self.tile}"
            )

    @property
    def references(self) -> tuple[Reference, ...]:
        return (RANK_R_HAT,) if self.chains else ()

    def description(self, seed: int, widths: tuple[int, ...], sizes: tuple[int, ...]) -> str:
        """The chains in sentences of a methods section, at these N1 and P; `seed` is the study's."""
        if not self.chains:
            return "No networks are sampled."
        moves, rate = (
            ("step", f" with learning rate {self.learning_rate:g}")
            if self.sampler == "langevin"
            else ("transition", "")
        )
        return (
            f"Networks are sampled at N1 = {numbers(widths)} and P = {numbers(sizes)} by {self.chains} chains of "
            f"{SAMPLERS[self.sampler]} (seed {seed}) that start from the prior: {self.warmup:,} samples to adapt to, "
            f"which are not kept, and {count(self.draws, 'kept sample')} a chain, each after "
            f"{count(self.thin, moves)}{rate}. R-hat is that of ranks of split chains (arXiv:1903.08008)."
        )


_CHAINS = (*CELL, "chain")

ARRAYS = (
    Array("sample_loss", (*_CHAINS, "sample"), "f8", "1", "L of one network drawn from the posterior"),
    Array("sample_expected_loss", (*_CHAINS, "sample"), "f8", "1",
          "mean of L over the read-out, given the sample's hidden weights"),
    Array("sample_q_bar", (*_CHAINS, "sample"), "f8", "1",
          "lam_1 |v|^2 / N_1 of the read-out v, mean given the hidden weights: its mean is Qb"),
    Array("sample_potential", (*_CHAINS, "sample"), "f8", "1",
          "-log p(hidden weights | D), but for a constant"),
    Array("chain_mean", (*_CHAINS, "test_point"), "f8", "1", "mean of f over the chain"),
    Array("chain_point_variance", (*_CHAINS, "test_point"), "f8", "1", "variance of f over the chain"),
    Array("chain_acceptance", _CHAINS, "f8", "1", "mean acceptance probability; NaN for Langevin"),
    Array("chain_divergences", _CHAINS, "i8", "1", "kept samples on whose way the energy error exploded"),
    Array("chain_step_size", _CHAINS, "f8", "1", "step size that the sampler used"),
    Array("chain_curvature", _CHAINS, "f8", "1", "largest curvature of the energy, for Langevin; else NaN"),
    Array("chain_gradients", _CHAINS, "i8", "1", "gradients of the potential that the kept samples took"),
)  # fmt: skip

_STATE = "state_"


def compute(work: "Work[PosteriorStudy]") -> Values:
    cell, study = Cell.of(work), work.study
    program = _program(study, (cell.width,))

    def advance(number: int, before: Values) -> Values:
        """The state after a tile, and what the tile keeps."""
        values: Values = {}
        if number == 0:
            start = program.start(cell.problem, cell.seed, work.block.range("chain"))
            after = program.warm(cell.problem, cell.seed, start)
        else:
            after, values = program.advance(cell.problem, cell.seed, dict(before))
        _require_finite(study, {**after, **values})
        return {f"{_STATE}{name}": value for name, value in after.items()} | dict(values)

    state: Values = {}
    tiles: list[Values] = []
    for number in range(1 + study.sampling.draws // study.sampling.tile):
        kept = work.tile(number, partial(advance, number, state))
        state = {name.removeprefix(_STATE): value for name, value in kept.items() if name.startswith(_STATE)}
        tiles.append({name: value for name, value in kept.items() if not name.startswith(_STATE)})
    return _assemble(state, tiles[1:], langevin=study.sampling.sampler == "langevin")


def _program(study: "PosteriorStudy", widths: tuple[int, ...]) -> "ChainProgram":
    import jax

    from ntkhpc.bayesian.chains import ChainProgram

    sampling = study.sampling
    return ChainProgram(
        activation=study.network.activation,
        widths=widths,
        sampler=sampling.sampler,
        warmup=sampling.warmup,
        tile=sampling.tile,
        thin=sampling.thin,
        learning_rate=sampling.learning_rate,
        at_once=jax.default_backend() != "cpu",
    )


_FINITE = ("position", "log_density", "loss", "expected_loss", "q_bar", "mean", "mean_square", "spread")


def _require_finite(study: "PosteriorStudy", arrays: Values) -> None:
    """Raises DivergedError if a chain has left the finite numbers: what it gave would be read as missing."""
    if all(np.isfinite(arrays[name]).all() for name in _FINITE if name in arrays):
        return
    langevin = study.sampling.sampler == "langevin"
    raise DivergedError(
        f"a chain of {study.sampling.sampler} left the finite numbers",
        cause=f"sampling.learning_rate = {study.sampling.learning_rate} is above the stability bound 2/curvature"
        if langevin
        else f"posterior.temperature = {study.posterior.temperature} is too small for float64 at this width",
        todo='lower it, or use sampler = "hmc"' if langevin else "raise it; theory alone has no such limit",
    )


def _assemble(state: Values, tiles: list[Values], *, langevin: bool) -> Values:
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


PROGRAM_SECONDS = 12.0
"""Seconds to compile a sampler, anew for each width and training-set size."""

SECONDS_PER_GRADIENT = 150e-6


def seconds(study: "PosteriorStudy", block: Block) -> float:
    """Warm-up and kept samples."""
    warmup, sample = _seconds_per_draw(study, block)
    per_chain = study.sampling.warmup * warmup + study.sampling.draws * sample
    return cost.SECONDS_PER_SHARD + PROGRAM_SECONDS + len(block.range("chain")) * per_chain


def tile_seconds(study: "PosteriorStudy", block: Block) -> float:
    """The start, and the warm-up or a tile of kept samples, whichever takes longer."""
    warmup, sample = _seconds_per_draw(study, block)
    per_chain = max(study.sampling.warmup * warmup, study.sampling.tile * sample)
    return cost.SECONDS_PER_SHARD + PROGRAM_SECONDS + len(block.range("chain")) * per_chain


def _seconds_per_draw(study: "PosteriorStudy", block: Block) -> tuple[float, float]:
    """Seconds of one chain a draw in its warm-up, and a kept sample.

    Gradients of the potential: hidden units at the training points, one factorisation, and the way back.
    """
    sampling, width, n_train = study.sampling, block.value("sampled_width"), block.value("sampled_n_train")
    rank, small = min(n_train, study.features), min(n_train, width)
    flops = 6.0 * n_train * rank * width + 6.0 * n_train * width * small + 2.0 * small**3
    gradients = sampling.thin * gradients_per_transition(study, rank * width)
    moves = gradients * (flops / FLOPS_PER_SECOND + SECONDS_PER_GRADIENT)
    # A kept sample predicts every test point, across the span of the training inputs too.
    kept = 2.0 * study.data.test * width * (rank + min(study.data.test, study.features) + small)
    return moves, moves + kept / FLOPS_PER_SECOND


def gradients_per_transition(study: "PosteriorStudy", weights: int) -> float:
    """Leapfrog steps of a trajectory; as the dimension grows they shrink like its fourth root."""
    if study.sampling.sampler == "langevin":
        return 1.0
    return float((0.9 if study.sampling.sampler == "hmc" else 4.0) * weights**0.25)


def memory_bytes(study: "PosteriorStudy") -> int:
    """One chain's gradient, hidden units at the test points, and what all chains keep: on a CPU they take turns."""
    n, test, features = study.sampled_sizes[-1], study.data.test, study.features
    width, rank = study.sampled_widths[-1], min(n, features)
    gradient = 8 * (n + rank) * width + 4 * min(n, width) ** 2
    kept = study.sampling.shard_chains * 4 * rank * width
    working = memory.of_numbers(gradient + test * width + kept) + across_bytes(test, features)
    return memory.SAMPLERS[study.sampling.sampler] + memory.rows(study) + working


PHASE = Phase(
    "chains",
    reads=INPUTS,
    writes=ARRAYS,
    blocks=_CHAINS,
    seconds=seconds,
    tile_seconds=tile_seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    compiled=("sampled_width", "sampled_n_train"),
    when=lambda study: study.sampling.chains > 0,
    prefix="",
    fewer="raise sampling.shard_chains or lower posterior.draws",
    lower="sampling.widths, sampling.n_train, sampling.shard_chains or data.test",
    sequential=True,
    shorten="sampling.warmup, sampling.tile or sampling.shard_chains",
)
