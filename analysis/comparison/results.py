"""What the report of a comparison is made from: each variant's results, as if it had been a run alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray

from analysis.comparison import differences
from analysis.comparison.cut import cut
from analysis.comparison.differences import PairedDifference
from analysis.ensemble.results import EnsembleResults
from analysis.opened import opened
from analysis.report import completeness
from ntkhpc.engine import conflicts
from ntkhpc.engine.run import Run
from ntkhpc.studies.base import Study
from ntkhpc.studies.comparison.study import ComparisonStudy


@dataclass(frozen=True)
class Variant:
    """One of the ensembles that are compared: its name in the study file, and what was computed of it."""

    name: str
    results: EnsembleResults


@dataclass(frozen=True)
class ComparisonResults:
    """Variants of one ensemble on the same data, draws, sizes and widths, whose members are paired by number.

    The first variant is the reference, with which the others are compared. `store` is that of the whole run, `missing`
    says in words which of its shards are missing.
    """

    run: Run
    study: Study
    store: xarray.Dataset
    missing: str
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        if not self.variants:
            raise ValueError("a comparison needs a variant, and has none")

    @cached_property
    def conflicts(self) -> str:
        """Executions of one shard that differ, in a sentence; empty if there are none."""
        return conflicts.sentence(self.run)

    @property
    def reference(self) -> Variant:
        return self.variants[0]

    @property
    def others(self) -> tuple[Variant, ...]:
        """All but the reference."""
        return self.variants[1:]

    @property
    def widths(self) -> list[int]:
        """Of all variants."""
        return [int(width) for width in self.reference.results.store.width.values]

    @property
    def sizes(self) -> np.ndarray:
        """Training-set sizes (n_train,) of all variants."""
        return np.asarray(self.reference.results.store.n_train.values)

    @cached_property
    def moments(self) -> xarray.Dataset:
        """Those of every variant, as `analysis.aggregate.moments` has them, over `variant`, which has their names."""
        each = [one.results.moments for one in self.variants]
        names = pd.Index([one.name for one in self.variants], name="variant")
        return xarray.concat(each, names, data_vars="all", coords="minimal", compat="override", join="exact")

    @cached_property
    def differences(self) -> tuple[PairedDifference, ...]:
        """Every variant against the reference."""
        return differences.compare({one.name: one.results for one in self.variants})


def of(run: Run, study: Study, store: xarray.Dataset, missing: str, variants: Sequence[Variant]) -> ComparisonResults:
    """Raises ValueError for variants that are not of the same widths and sizes, or are called alike."""
    found = ComparisonResults(run, study, store, missing, tuple(variants))
    names = [one.name for one in variants]
    if len(set(names)) < len(names):
        raise ValueError(f"variants must have different names, not {', '.join(names)}")
    for one in found.others:
        mine = (one.results.store.width.values.tolist(), one.results.store.n_train.values.tolist())
        if mine != (found.widths, found.sizes.tolist()):
            raise ValueError(
                f"variant {one.name!r} has widths {mine[0]} and sizes {mine[1]}, "
                f"{found.reference.name!r} has {found.widths} and {found.sizes.tolist()}: they cannot be paired"
            )
    return found


def collect(run: Run, *, partial: bool = False) -> ComparisonResults:
    """Open a run. Raises RunError for one with missing shards unless `partial` allows it."""
    missing, store = completeness.require(run, partial=partial), opened(run)
    study = run.study.of_kind(ComparisonStudy)
    ensembles = [EnsembleResults(run, cut(store, study, i), missing, one) for i, one in enumerate(study.ensembles)]
    variants = [Variant(one.name, found) for one, found in zip(study.variants, ensembles, strict=True)]
    return of(run, study, store, missing, variants)
