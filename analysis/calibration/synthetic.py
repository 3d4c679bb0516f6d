"""A study that was never run: its store, made from a sample of the exact law, and the results that a report reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray

from analysis.calibration.truth import LawMoments
from analysis.calibration.world import World, sample
from analysis.ensemble.results import EnsembleResults
from ntkhpc import loss_law, studies
from ntkhpc.studies.dims import CELL, PROBABILITIES
from ntkhpc.studies.ensemble import redraws
from ntkhpc.studies.ensemble.study import EnsembleStudy
from ntkhpc.studies.ensemble.train import DIVERGED, OK


@dataclass(frozen=True)
class Synthetic:
    """The results of a synthetic study, and the exact moments of its own samples [draw][size]."""

    results: EnsembleResults
    own: list[list[LawMoments]]

    def without_redraws(self) -> "Synthetic":
        """As of a run that computed no further draws."""
        found = self.results
        lacking = [name for name in found.store if str(name).startswith("redraw_")]
        return Synthetic(EnsembleResults(found.run, found.store.drop_vars(lacking), ""), self.own)


@dataclass(frozen=True)
class Losses:
    """What its losses are like: `tail` as in `truth`, and the share of members that `diverged`, whatever their loss."""

    tail: float = 0.0
    diverged: float = 0.0


PLAIN = Losses()


@dataclass(frozen=True)
class Pool:
    """The samples of a study's pool, rows of the world's, and moments [draw][size] of draws of it by tail: of further
    draws, that share as few samples as can be, and of those of the exact curve."""

    rows: np.ndarray
    further: dict[float, list[list[LawMoments]]]
    curve: dict[float, list[list[LawMoments]]]

    @classmethod
    def of(cls, world: World, tails: Sequence[float], rng: np.random.Generator) -> "Pool":
        rows, y, infinite = world.pool(rng), world.split.y_test, world.study.infinite_width

        def moments(chosen: np.ndarray) -> dict[float, list[list[LawMoments]]]:
            laws = [world.laws(one) for one in chosen]
            return {s: [[LawMoments.of(law, y, s).without_points() for law in one] for one in laws] for s in tails}

        further = world.rows(rng, rows, infinite.redraws, redraws.apart(world.study))
        return cls(rows, moments(further), moments(world.rows(rng, rows, infinite.draws)))


def make(world: World, losses: Losses, pool: Pool, rng: np.random.Generator) -> Synthetic:
    """One synthetic study; the pool's further draws are those of `redraws` and of the curve."""
    study = world.study
    draws = world.draws(world.rows(rng, pool.rows, study.ensemble.draws))
    own = [[LawMoments.of(law, world.split.y_test, losses.tail) for law in row] for row in draws.laws]
    members = study.ensemble.members
    widths = [width_arrays(world, losses, sample(world, draws, members, rng), rng) for _ in study.network.widths]
    store = xarray.Dataset(
        trained_arrays(widths) | law_arrays(world, draws.laws, own, tabulated=not losses.tail)
        | _others(study, pool, losses.tail) | data_arrays(world),
        coords=coordinates(study) | {
            "width": list(study.network.widths), "draw": range(study.ensemble.draws), "quantile": list(PROBABILITIES),
        },
        attrs=attributes(study),
    )  # fmt: skip
    return Synthetic(results_of(study, store), own)


def laws_alone(study: EnsembleStudy, pool: Pool, tail: float) -> EnsembleResults:
    """Of a study that trained no network."""
    store = xarray.Dataset(_others(study, pool, tail), coords=coordinates(study), attrs=attributes(study))
    return results_of(study, store)


def coordinates(study: EnsembleStudy) -> dict[str, Any]:
    sizes = list(study.ensemble.n_train)
    return {"n_train": sizes, "curve_n_train": sizes, "test_size": list(study.test_sizes), "time": [0]}


def attributes(study: EnsembleStudy) -> dict[str, Any]:
    return {"study_toml": studies.dumps(study).decode(), "format": 2}


def results_of(study: EnsembleStudy, store: xarray.Dataset) -> EnsembleResults:
    run: Any = SimpleNamespace(study=study)
    return EnsembleResults(run, store, "")


_DIMS: dict[str, tuple[str, ...]] = {
    "test_point_loss": ("member", "test_point"),
    "test_loss": ("member",),
    "status": ("member",),
    "prediction_mean": ("tile", "test_point", "output"),
    "prediction_m2": ("tile", "test_point", "output"),
    "bias2": ("test_point",),
    "variance": ("test_point",),
}


def trained_arrays(widths: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Of all widths, with their dimensions."""
    return {name: ((*CELL, *_DIMS[name]), np.stack([one[name] for one in widths])) for name in widths[0]}


def width_arrays(world: World, losses: Losses, f: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays (n_train, draw, ...) of one width from outputs f (draw, n_train, member, test_point)."""
    f = np.swapaxes(f, 0, 1)
    members, tile = f.shape[2], world.study.ensemble.tile
    y = world.split.y_test[:, 0]
    factor = np.exp(losses.tail * rng.standard_normal(members) - losses.tail**2 / 2)
    values = (f - y) ** 2 / 2 * factor[:, None]
    lost = np.asarray(rng.random(members) < losses.diverged)
    values[:, :, lost] = np.nan
    status = np.broadcast_to(np.where(lost, DIVERGED, OK), values.shape[:3])
    there = np.where(lost, np.nan, 1.0)[:, None] * f
    starts = range(0, members, tile)
    tiles = [there[:, :, start : start + tile] for start in starts]
    counts = [np.isfinite(one[..., :1]).sum(axis=2, keepdims=True) for one in tiles]
    mean = np.stack([np.where(n[..., 0] > 0, np.nansum(t, axis=2) / np.maximum(n[..., 0], 1), 0)
                     for t, n in zip(tiles, counts, strict=True)], axis=2)  # fmt: skip
    m2 = np.stack([np.nansum((t - mean[:, :, i, None]) ** 2, axis=2) for i, t in enumerate(tiles)], axis=2)
    variance = np.nanvar(there, axis=2, ddof=1)
    used = np.count_nonzero(~lost)
    return {
        "test_point_loss": values,
        "test_loss": values.mean(axis=-1),
        "status": np.array(status),
        "prediction_mean": mean[..., None],
        "prediction_m2": m2[..., None],
        "bias2": ((np.nanmean(there, axis=2) - y) ** 2 - variance / used) / 2,
        "variance": variance / 2,
    }


def law_arrays(world: World, laws: list[list[Any]], own: list[list[LawMoments]], *, tabulated: bool) -> dict[str, Any]:
    """The phase `law`; the distribution of the largest size is tabulated where it is asked for."""
    y, count = world.split.y_test, len(world.study.test_sizes)
    cell = ("draw", "n_train")

    def each(value: Any) -> np.ndarray:
        return np.array([[value(i, j) for j in range(len(world.sizes))] for i in range(len(laws))])

    def quantiles(i: int, j: int) -> np.ndarray:
        if not tabulated or j < len(world.sizes) - 1:  # nobody looks at those of other sizes
            return np.full(len(PROBABILITIES), np.nan)
        mean, covariance = laws[i][j]
        return loss_law.quantiles(mean, covariance, y, np.array(PROBABILITIES))

    return {
        "law_mean": ((*cell, "test_point", "output"), each(lambda i, j: laws[i][j][0])),
        "law_variance": ((*cell, "test_point"), each(lambda i, j: np.diag(laws[i][j][1]))),
        "law_cumulant": ((*cell, "cumulant"), each(lambda i, j: [own[i][j].mu, own[i][j].sigma2, 0.0, 0.0])),
        "law_population_variance": (cell, each(lambda i, j: own[i][j].population)),
        "law_size_variance": ((*cell, "test_size"), each(lambda i, j: [own[i][j].sigma2] * count)),
        "law_quantile": ((*cell, "quantile"), each(quantiles)),
        "law_point_mean": ((*cell, "test_point"), each(lambda i, j: own[i][j].point_mean)),
        "law_point_covariance": ((*cell, "test_point"), each(lambda i, j: own[i][j].point_covariance)),
    }  # fmt: skip


def _others(study: EnsembleStudy, pool: Pool, tail: float) -> dict[str, Any]:
    """The phases `redraws` and `curve`."""
    columns = {"mu": "mu", "sigma2": "sigma2", "population_variance": "population", "bias2": "bias2",
               "variance": "variance"}  # fmt: skip
    found: dict[str, Any] = {}
    count, cell = study.infinite_width.draws, ("curve_draw", "time", "curve_n_train")
    for name, field in columns.items():
        further, curve = (np.array([[getattr(one, field) for one in row] for row in rows[tail]])
                          for rows in (pool.further, pool.curve))  # fmt: skip
        found[f"redraw_{name}"] = (("redraw", "n_train"), further)
        found[f"curve_{name}"] = (cell, curve[:, None])
    shape = (count, 1, len(study.ensemble.n_train))
    found["curve_largest_share"] = (cell, np.zeros(shape))
    found["curve_size_variance"] = ((*cell, "test_size"), np.zeros((*shape, len(study.test_sizes))))
    found["curve_steps"] = (cell[1:], np.zeros(shape[1:], int))
    return found


def data_arrays(world: World) -> dict[str, Any]:
    split = world.split
    return {
        "y_test": (("test_point", "output"), split.y_test),
        "target_test": (("test_point", "output"), split.target_test),
        "target_scale": (("output",), split.target_scale),
    }
