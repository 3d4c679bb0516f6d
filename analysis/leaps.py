"""Leaps of a run beside its trained networks, cell by cell: how accurate they are, and what both say together.

Networks are those of the same seeds: number i of `leap_member` began as number i of `member`. One that was to be
trained too is in the numbers only where both ended well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray

from analysis import two_level
from analysis.cell_losses import CellLosses, of_cells
from analysis.contrasts import Estimate
from analysis.two_level import Accuracy, Levels, Quantity, Sample
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble.train import DIVERGED, OK

ARRAYS = ("leap_loss", "leap_status", "test_loss", "status")
"""What `cells` needs."""

TWIN = (*ARRAYS, "twin_loss", "twin_status")
"""What `splits` needs."""

POINTS = ("leap_point_loss", "test_point_loss")
"""What eps_pop needs as well."""


OTHERS = ("leap_count", "leap_error", "twin_loss", "twin_status", "twin_kernel")
"""What is told of leapt networks beside."""


@dataclass(frozen=True)
class LeaptCell:
    """Of one width, n_train and draw.

    `leapt` networks are in the numbers, `accuracy.networks` of them trained too; `lost` were left out as they diverged.
    `quantities` are the two-level estimates by two_level.NAMES, of a cell that is refused those of the networks that
    were trained too; `raw` those of leaps as they are. `leaps` and `error` are means over the networks: accepted leaps,
    and the relative error of the training residual that leaping estimated.
    """

    width: int
    n_train: int
    draw: int
    leapt: int
    lost: int
    accuracy: Accuracy
    quantities: dict[str, Quantity]
    raw: dict[str, Quantity]
    leaps: float
    error: float

    @property
    def refusal(self) -> str:
        """Why no number of leaps is given; empty where they may be."""
        return self.accuracy.refusal

    @property
    def adds(self) -> bool:
        """Whether leaps add networks to those that were trained, and are accepted."""
        return not self.refusal and self.leapt - self.accuracy.networks >= two_level.FEWEST


def cells(store: xarray.Dataset) -> list[LeaptCell]:
    """Every cell with leapt networks, in the order of CELL. Without the arrays POINTS there is no eps_pop."""
    numbers, found = _Numbers.of(store), []
    points = _points(store, numbers) if all(name in store for name in POINTS) else None
    for i, cell in enumerate(numbers.cells):
        trained, leapt = numbers.trained[cell], numbers.leapt[cell]
        if not np.isfinite(leapt).any():
            continue
        used, losses = np.isfinite(leapt), (trained, np.where(np.isfinite(trained), leapt, np.nan), leapt)
        spreads = [None] * 3 if points is None else [one[i] for one in points]
        levels = Levels(*map(_sample, losses, spreads))
        accuracy = levels.accuracy()
        told = levels.without_alone() if accuracy.refusal else levels
        found.append(
            LeaptCell(
                *numbers.coordinates(cell),
                leapt=int(used.sum()),
                lost=int(numbers.lost[cell].sum()),
                accuracy=accuracy,
                quantities=told.quantities(),
                raw=levels.leapt_alone(),
                leaps=numbers.mean("leap_count", cell, used),
                error=numbers.mean("leap_error", cell, used),
            )
        )
    return found


@dataclass(frozen=True)
class FiniteWidth:
    """What finite width does to one width, n_train and draw, from the same networks throughout.

    By "mu_L" and "eps_L": `twin` of networks linearised where they began, `trained` of the networks themselves: the
    two-level estimates, or where leaps are refused those that were trained. `kernel` is the relative standard deviation
    over networks of the mean diagonal of the kernel they began with, None where that is not known.
    """

    width: int
    n_train: int
    draw: int
    twin: dict[str, Quantity]
    trained: dict[str, Quantity]
    kernel: Estimate | None


SPLIT = ("mu_L", "eps_L")


def splits(store: xarray.Dataset) -> list[FiniteWidth]:
    """Every cell in the order of CELL."""
    numbers, found = _Numbers.of(store), []
    twins = np.where(numbers.others["twin_status"] == OK, numbers.others["twin_loss"], np.nan)
    kernels = numbers.others.get("twin_kernel")
    for cell in numbers.cells:
        there = np.isfinite(twins[cell])
        leapt, trained, twin = (np.where(there, one[cell], np.nan) for one in (numbers.leapt, numbers.trained, twins))
        levels = _levels(trained, leapt)
        if levels.accuracy().refusal:
            levels = levels.without_alone()
        used = np.isfinite(levels.leapt.loss)
        linear = Sample.of(np.where(used, twin, np.nan))
        paired = Sample.of(np.where(levels.both, twin, np.nan))
        both, own = Levels(paired, paired, linear).quantities(), levels.quantities()
        kernel = None if kernels is None else _fluctuation(kernels[cell][there])
        width, n_train, draw = numbers.coordinates(cell)
        twin_of, network_of = ({name: one[name] for name in SPLIT} for one in (both, own))
        found.append(FiniteWidth(width, n_train, draw, twin_of, network_of, kernel))
    return found


@dataclass(frozen=True)
class _Numbers:
    """Losses (*CELL, leap_member) of leapt and of trained networks, NaN where they are in no number; `others` are
    arrays of the same shape by name, as far as they are there."""

    store: xarray.Dataset
    others: dict[str, np.ndarray]
    trained: np.ndarray
    leapt: np.ndarray
    lost: np.ndarray

    @classmethod
    def of(cls, store: xarray.Dataset) -> "_Numbers":
        dims = (*CELL, "leap_member")
        leap_status = store.leap_status.transpose(*dims).values
        leapt = np.where(leap_status == OK, store.leap_loss.transpose(*dims).values, np.nan)
        count = min(store.sizes["member"], store.sizes["leap_member"])
        status = store.status.transpose(*CELL, "member").values[..., :count]
        loss = store.test_loss.transpose(*CELL, "member").values[..., :count]
        trained = np.full(leapt.shape, np.nan)
        trained[..., :count] = np.where(status == OK, loss, np.nan)
        lost = leap_status == DIVERGED
        lost[..., :count] |= status == DIVERGED
        out = ~np.isfinite(leapt)
        out[..., :count] |= ~np.isfinite(trained[..., :count])
        others = {name: store[name].transpose(*dims).values for name in OTHERS if name in store}
        return cls(store, others, np.where(out, np.nan, trained), np.where(out, np.nan, leapt), lost)

    @property
    def cells(self) -> list[tuple[int, ...]]:
        return list(np.ndindex(self.leapt.shape[:-1]))

    def coordinates(self, cell: tuple[int, ...]) -> tuple[int, int, int]:
        width, n_train, draw = (int(self.store[dim].values[i]) for dim, i in zip(CELL, cell, strict=True))
        return width, n_train, draw

    def mean(self, name: str, cell: tuple[int, ...], used: np.ndarray) -> float:
        """Of an array over the networks that are in the numbers; NaN without it."""
        if name not in self.others or not used.any():
            return float("nan")
        return float(self.others[name][cell][used].mean(dtype=np.float64))


def _levels(trained: np.ndarray, leapt: np.ndarray) -> Levels:
    """From losses (M,) that are NaN where they are in no number."""
    paired = np.where(np.isfinite(trained), leapt, np.nan)
    return Levels(*(Sample.of(one) for one in (trained, paired, leapt)))


def _sample(loss: np.ndarray, points: CellLosses | None) -> Sample:
    if points is None:
        return Sample.of(loss)
    deviation = np.full(len(loss), np.nan)
    deviation[: len(points.deviation)] = points.deviation[: len(loss)]
    return Sample(loss, deviation, float(points.point_variance.mean()), len(points.point_variance))


def _points(store: xarray.Dataset, numbers: _Numbers) -> tuple[Sequence[CellLosses], ...]:
    """Spreads of the losses at test points, of networks that were trained and leapt by training and by leaps, and of
    all that were leapt by leaps."""
    indices = [dict(zip(CELL, cell, strict=True)) for cell in numbers.cells]
    leaps = store.leap_point_loss.rename(leap_member="member")
    both, used = (np.isfinite(one) for one in (numbers.trained, numbers.leapt))
    members = np.zeros((*both.shape[:-1], store.sizes["member"]), bool)
    count = min(members.shape[-1], both.shape[-1])
    members[..., :count] = both[..., :count]
    asked = ((store.test_point_loss, members), (leaps, both), (leaps, used))
    return tuple(of_cells(losses, xarray.DataArray(there, dims=(*CELL, "member")), (), indices)
                 for losses, there in asked)  # fmt: skip


def _fluctuation(kernel: np.ndarray) -> Estimate | None:
    """Relative standard deviation over networks of positive numbers (M,), with its error; None of fewer than 4."""
    kernel = kernel[np.isfinite(kernel)]
    if len(kernel) < two_level.FEWEST:
        return None
    quantity = Levels(*[Sample.of(kernel)] * 3).quantities()["eps_L"]
    return quantity.estimate()
