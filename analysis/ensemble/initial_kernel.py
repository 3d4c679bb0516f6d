"""How much the kernel varies that networks begin with, beside what that is at leading order in 1/width.

The second is exact for random networks (ntkhpc.finite_width), of each cell's own training samples; nothing is fitted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray

from analysis.contrasts import Estimate
from analysis.leaps import FiniteWidth
from analysis.report.numbers import percent
from analysis.report.section import Table, led
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import EnsembleStudy

MOST = 300
"""Training samples, the first of a cell, by which its kernel is known: all pairs of them, in a second or less."""

LEVEL = 0.01
"""Chance that any of the sizes is told from order 1/width where none differs."""

MEASURED = (
    "Relative standard deviation over networks of the mean, over training samples and outputs, of the diagonal of the "
    "neural tangent kernel that they begin with, ± half of its 68 % interval."
)

BESIDE = " At order 1/width: as the cumulants of random networks predict it at leading order, of the same samples."

FIRST = " Of more than {most} samples it is of the first {most}."


@dataclass(frozen=True)
class Fluctuation:
    """Of one width and n_train, at the first draw: the relative standard deviation over networks of the mean diagonal
    of the NTK that they begin with, `measured`, and at leading order in 1/width, None where that is not known."""

    width: int
    n_train: int
    measured: Estimate
    predicted: float | None

    @property
    def ratio(self) -> Estimate | None:
        """Measured over predicted, which is of the same samples; None where it is of other ones, or not known."""
        return self.measured.scaled(1 / self.predicted) if self.predicted and self.n_train <= MOST else None


def fluctuations(
    study: EnsembleStudy, store: xarray.Dataset, splits: Mapping[tuple[int, int], Sequence[FiniteWidth]]
) -> list[Fluctuation]:
    """Where they were measured; `splits` are by width and n_train, over draws."""
    found: list[Fluctuation] = []
    known: dict[int, float | None] = {}
    for (width, n), (first, *_) in splits.items():
        if first.kernel:
            if n not in known:
                known[n] = _coefficient(study, store, first.draw, n)
            coefficient = known[n]
            predicted = None if coefficient is None else coefficient / math.sqrt(width)
            found.append(Fluctuation(width, n, first.kernel, predicted))
    return found


def _coefficient(study: EnsembleStudy, store: xarray.Dataset, draw: int, n_train: int) -> float | None:
    """The relative standard deviation, times sqrt(width); None of networks that are not fully connected, or without
    the samples."""
    if study.network.architecture or not {"x_train", "permutation"} <= set(store):
        return None
    from ntkhpc.finite_width import kernel_fluctuations  # imports JAX, as only such reports need
    from ntkhpc.networks import MLP

    network = mlp(study)
    assert isinstance(network, MLP)
    rows = store.permutation.isel(order=draw).values[: min(n_train, MOST)]
    return kernel_fluctuations(network, store.x_train.values[rows])


def tables(found: Sequence[Fluctuation]) -> list[Table]:
    if not found:
        return []
    known = any(one.predicted for one in found)
    rows: list[Sequence[str]] = [
        ("width", "N_D", "spread of the initial kernel", *(["at order 1/width"] if known else []))
    ]
    for one in found:
        beside = (f"{100 * one.predicted:.3g} %" if one.predicted else "-",) if known else ()
        rows.append((f"{one.width:,}", f"{one.n_train:,}", percent(one.measured).removeprefix("+"), *beside))
    first = FIRST.format(most=MOST) if any(one.n_train > MOST for one in found) else ""
    return [Table(rows, MEASURED + (BESIDE + first if known else ""))]


LEAD = (
    "How much the initial kernel varies is known at leading order in 1/width. The spread that was measured, over that, "
    "from the least to the largest over the training-set sizes:"
)


def sentences(found: Sequence[Fluctuation]) -> list[str | list[str]]:
    """By width: how near the measured spread is to that at leading order, and where it is told from it."""
    widths = dict.fromkeys(one.width for one in found)
    return led(LEAD, [_sentence(width, [one for one in found if one.width == width]) for width in widths])


def _sentence(width: int, mine: Sequence[Fluctuation]) -> str:
    ratios = [one.ratio for one in mine if one.ratio]
    if not ratios:
        return ""
    told = sum(one.p_value(1.0) < LEVEL / len(ratios) for one in ratios)
    where = "at every size" if told == len(ratios) else f"at {told} of {len(ratios)} sizes" if told else "at no size"
    low, high = (f"{end:.2f}" for end in (min(one.value for one in ratios), max(one.value for one in ratios)))
    return f"width {width:,}: {low if low == high else f'{low} to {high}'} times (told from one {where})"
