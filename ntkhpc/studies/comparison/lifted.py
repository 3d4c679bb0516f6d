"""Phases, dimensions and arrays of kind `ensemble` for all variants of a comparison: a dimension more, called variant.

A shard belongs to one variant, and computes what the variant's own phase computes. Arrays of the store have the variant
in front. Where a variant has no such phase, or not that array, there is the fill value.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.dimension import Dim
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Inputs, Values, Work
from ntkhpc.studies.ensemble import exact

if TYPE_CHECKING:
    from ntkhpc.studies.comparison.study import ComparisonStudy
    from ntkhpc.studies.ensemble.study import EnsembleStudy

VARIANT = "variant"

TIME = "time"
"""Dimension of what only variants with curves at infinite width have."""

DIM = Dim(
    VARIANT, lambda study: range(len(study.variants)), "number of the variant, as the study lists them", label="v"
)

SECONDS_WITHOUT = 0.1
"""Of a shard whose variant has no such phase."""


def dim(one: Dim) -> Dim:
    """A dimension that is the same for all variants that have it."""

    def of_base(ask: Callable[..., Any]) -> Callable[..., Any]:
        return lambda study, *more: ask(study.base, *more)

    return replace(
        one,
        values=one.values and of_base(one.values),
        size=one.size and of_base(one.size),
        every=of_base(one.every),
        span=one.span and of_base(one.span),
    )


def constant(one: Array) -> Array:
    """An array that each variant's study decides; of one without curves those of curves have the fill value."""
    values = one.values
    assert values is not None, one.name

    def all_of(study: "ComparisonStudy") -> list[Any]:
        shape = np.shape(values(study.base))
        has = [exact.has_curves(ensemble) or TIME not in one.dims for ensemble in study.ensembles]
        return [values(ensemble) if there else np.full(shape, one.fill_value)
                for ensemble, there in zip(study.ensembles, has, strict=True)]  # fmt: skip

    return replace(one, dims=(VARIANT, *one.dims), values=all_of)


def array(one: Array) -> Array:
    """An array with an entry for each variant, in stores of studies of which any variant has it."""
    return replace(one, dims=(VARIANT, *one.dims), when=lambda study: any(map(one.when, study.ensembles)))


def own(ensemble: "EnsembleStudy", phases: Sequence[Phase]) -> Phase | None:
    """That of the phases which a variant has."""
    return next((phase for phase in phases if phase.when(ensemble)), None)


def phase(*phases: Phase, dims: Sequence[Dim], shared: Collection[str], when: Callable[[Any], bool]) -> Phase:
    """The phase of all variants, of which each has one of `phases` or none; `dims` are those of the variants.

    The first one describes it: all are cut alike, and those of its arrays that others have without some dimension are
    repeated along it. `shared` are the arrays that are the same for all variants.
    """
    first = phases[0]
    lifted = _Lifted(phases, {one.name: one for one in dims}, frozenset(shared))
    return replace(
        first,
        writes=tuple(map(array, first.writes)),
        blocks=(VARIANT, *first.blocks),
        compiled=(VARIANT, *first.compiled) if first.compiled else (),
        seconds=lifted.seconds,
        tile_seconds=lifted.tile_seconds if first.tile_seconds else None,
        memory_bytes=lifted.memory_bytes,
        compute=lifted.compute,
        wide=lifted.wide,
        lanes=lifted.lanes if first.lanes else None,
        fewer=f"{first.fewer}, or compare fewer variants" if first.fewer else "compare fewer variants",
        when=lambda study: when(study) and any(own(ensemble, phases) for ensemble in study.ensembles),
    )


@dataclass(frozen=True)
class _Lifted:
    """What a phase of all variants does: what its own one does for the variant of a block."""

    phases: tuple[Phase, ...]
    dims: dict[str, Dim]
    shared: frozenset[str]

    def compute(self, work: Work[Any]) -> Values:
        number = work.block.index(VARIANT)
        ensemble = work.study.ensembles[number]
        chosen = own(ensemble, self.phases)
        values: Values = {}
        block = _without_variant(work.block)
        if chosen is not None:
            assert chosen.compute is not None, chosen.name
            inputs = _OfVariant(work.inputs, number, self.shared)
            values = chosen.compute(replace(work, study=ensemble, block=block, inputs=inputs))
        there = {one.name: one for one in chosen.writes} if chosen is not None else {}
        found = {}
        for one in self.phases[0].writes:
            if array(one).when(work.study):
                shape = self._shape(work.study.base, one, block)
                found[one.name] = _placed(values.get(one.name), there.get(one.name, one), one, shape)[None]
        return found

    def _shape(self, base: "EnsembleStudy", one: Array, block: Block) -> tuple[int, ...]:
        spans = (block.region.get(name, (0, self.dims[name].length(base))) for name in one.dims)
        return tuple(stop - start for start, stop in spans)

    def seconds(self, study: "ComparisonStudy", block: Block) -> float:
        chosen, ensemble, inside = self._of(study, block)
        return SECONDS_WITHOUT if chosen is None else chosen.seconds(ensemble, inside)

    def tile_seconds(self, study: "ComparisonStudy", block: Block) -> float:
        chosen, ensemble, inside = self._of(study, block)
        if chosen is None or chosen.tile_seconds is None:
            return SECONDS_WITHOUT
        return chosen.tile_seconds(ensemble, inside)

    def memory_bytes(self, study: "ComparisonStudy") -> int:
        return max(chosen.memory_bytes(one) for one in study.ensembles if (chosen := own(one, self.phases)))

    def wide(self, study: "ComparisonStudy") -> int:
        return max(chosen.wide(one) for one in study.ensembles if (chosen := own(one, self.phases)))

    def lanes(self, study: "ComparisonStudy", block: Block, lane_bytes: int | None) -> int:
        chosen, ensemble, inside = self._of(study, block)
        return 0 if chosen is None or chosen.lanes is None else chosen.lanes(ensemble, inside, lane_bytes)

    def _of(self, study: "ComparisonStudy", block: Block) -> "tuple[Phase | None, EnsembleStudy, Block]":
        ensemble = study.ensembles[block.index(VARIANT)]
        return own(ensemble, self.phases), ensemble, _without_variant(block)


def _without_variant(block: Block) -> Block:
    return replace(block, region={name: span for name, span in block.region.items() if name != VARIANT})


def _placed(values: np.ndarray | None, given: Array, wanted: Array, shape: tuple[int, ...]) -> np.ndarray:
    """Values of an array that a variant has as `given`, of `shape` as all variants have it; fill values for None."""
    if values is None:
        return np.full(shape, wanted.fill_value, wanted.dtype)
    missing = [axis for axis, name in enumerate(wanted.dims) if name not in given.dims]
    return np.broadcast_to(np.expand_dims(values, missing), shape)


@dataclass(frozen=True)
class _OfVariant:
    """The inputs of a variant: its own entry of what has a variant, and what all share as it is."""

    inputs: Inputs
    number: int
    shared: frozenset[str]

    def __getitem__(self, name: str) -> np.ndarray:
        whole = self.inputs[name]
        return whole if name in self.shared else whole[self.number]

    def open(self, name: str) -> Any:
        opened = self.inputs.open(name)
        return opened if name in self.shared else _Entry(opened, self.number)


@dataclass(frozen=True)
class _Entry:
    """One variant's part of an array that is read as it is indexed."""

    opened: Any
    number: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.opened.shape[1:])

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = key if isinstance(key, tuple) else (key,)
        return np.asarray(self.opened[(self.number, *keys)])
