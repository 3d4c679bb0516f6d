"""Phase `ensemble`: members of one (width, n_train, draw) trained tile by tile."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from ntkhpc import training
from ntkhpc.engine import store
from ntkhpc.engine.partial import Partial
from ntkhpc.engine.plan import Shard
from ntkhpc.engine.run import Run
from ntkhpc.studies import schema
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import Study

_INPUTS = ("x_train", "y_train", "x_test", "y_test", "permutation", "learning_rate")


def compute(run: Run, shard: Shard, partial: Partial) -> tuple[dict[str, np.ndarray], int]:
    study = run.study.of_kind(Study)
    width, n_train, draw = (shard.region[dim][0] for dim in schema.CELL)
    n = study.ensemble.n_train[n_train]
    inputs = _inputs(run.store)
    chosen = inputs["permutation"][draw, :n]
    program = training.Program(
        mlp=mlp(study),
        width=study.network.widths[width],
        trace_steps=study.trace_steps(n),
        momentum=study.training.momentum,
        precision=study.training.precision,
        matmul_precision=study.training.matmul_precision,
    )
    tiles, reused = [], 0
    for tile in range(*shard.region["tile"]):
        values = partial.load(tile)
        if values is None:
            # The last tile is padded with members beyond the ensemble: the tile is what fixes the compiled program.
            first = tile * study.ensemble.tile
            trained = training.train_tile(
                program,
                inputs["x_train"][chosen],
                inputs["y_train"][chosen],
                inputs["x_test"],
                inputs["y_test"],
                learning_rate=float(inputs["learning_rate"][draw, n_train]),
                seed=study.seed,
                members=range(first, first + study.ensemble.tile),
            )
            real = min(study.ensemble.members - first, study.ensemble.tile)
            values = tile_values(study, program.trace_steps, trained, inputs["y_test"], real)
            partial.save(tile, values)
        else:
            reused += 1
        tiles.append(values)
    return _assemble(study, tiles), reused


@lru_cache(maxsize=1)
def _inputs(path: Path) -> dict[str, np.ndarray]:
    return store.load(path, *_INPUTS)


def tile_values(
    study: Study, trace_steps: tuple[int, ...], trained: training.Trained, y_test: np.ndarray, members: int
) -> dict[str, np.ndarray]:
    """The stored values of a tile's first `members` members: losses per point, traces, status, moments of f."""
    predictions = trained.predictions[:members].astype(np.float64)
    train_trace, test_trace = trained.train_loss[:members], trained.test_loss[:members]
    outputs = y_test.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        point_loss = (((predictions - y_test) ** 2).sum(axis=2) / (2 * outputs)).astype(np.float32)
        test_loss = point_loss.mean(axis=1, dtype=np.float64)
        finite = np.isfinite(train_trace) & np.isfinite(test_trace)
        # Full-batch descent below the stability bound never ends above where it began: a finite explosion diverged too.
        trained_well = finite.all(axis=1) & (train_trace[:, -1] <= train_trace[:, 0]) & np.isfinite(test_loss)
    kept = predictions[trained_well]
    empty = np.full(predictions.shape[1:], np.nan)
    mean = kept.mean(axis=0) if len(kept) else empty
    return {
        "test_point_loss": point_loss,
        "test_loss": test_loss,
        "train_loss": train_trace[:, -1].astype(np.float64),
        "test_loss_trace": test_trace.astype(np.float32),
        "train_loss_trace": train_trace.astype(np.float32),
        "steps_done": _steps_done(finite, trace_steps),
        "status": np.where(trained_well, schema.OK, schema.DIVERGED).astype(np.int8),
        "prediction_mean": mean[None],
        "prediction_m2": (((kept - mean) ** 2).sum(axis=0) if len(kept) else empty)[None],
        "prediction": predictions.astype(np.float32),
    }


def _steps_done(finite: np.ndarray, trace_steps: tuple[int, ...]) -> np.ndarray:
    """Steps at the last trace point before the first loss that is not finite; -1 if there is none."""
    count = np.where(finite.all(axis=1), finite.shape[1], finite.argmin(axis=1))
    return np.array([-1, *trace_steps], np.int32)[count]


def _assemble(study: Study, tiles: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join tiles along members, or along tiles for their moments, into the shard's region of each array."""
    values = {}
    for array in schema.arrays(study, "ensemble"):
        joined = np.concatenate([tile[array.name] for tile in tiles])
        values[array.name] = joined[(None,) * len(schema.CELL)]
    return values
