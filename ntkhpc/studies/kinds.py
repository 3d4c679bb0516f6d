"""The kinds of studies, and what they make of one: the only place that tells one kind from another."""

from functools import lru_cache

from ntkhpc.phase.array import Array
from ntkhpc.phase.kind import Kind
from ntkhpc.phase.layout import Layout
from ntkhpc.studies.base import Study
from ntkhpc.studies.comparison.kind import KIND as COMPARISON
from ntkhpc.studies.ensemble.kind import KIND as ENSEMBLE
from ntkhpc.studies.posterior.kind import KIND as POSTERIOR

KINDS: dict[str, Kind] = {kind.name: kind for kind in (ENSEMBLE, POSTERIOR, COMPARISON)}
"""Kinds by the study's field `kind`; a file that names none is an `ensemble`."""

DEFAULT = ENSEMBLE.name


def kind_of(study: Study) -> Kind:
    """The kind of a study. Raises TypeError for a study of none of them."""
    for kind in KINDS.values():
        if isinstance(study, kind.study):
            return kind
    raise TypeError(f"{type(study).__name__} is no kind of study")


@lru_cache(maxsize=16)
def layout(study: Study) -> Layout:
    """The phases and arrays of a study."""
    return Layout(kind_of(study), study)


def phase_names() -> tuple[str, ...]:
    """The names of the phases of all kinds, in an order in which they can be run."""
    names = dict.fromkeys(phase.name for kind in KINDS.values() for phase in kind.phases[:-1])
    return (*names, *dict.fromkeys(kind.phases[-1].name for kind in KINDS.values()))


def markdown() -> str:
    """The tables of the arrays of every kind's store, for the documentation."""
    return "\n".join(f"Studies of kind `{kind.name}`:\n\n{_table(kind)}" for kind in KINDS.values())


def _table(kind: Kind) -> str:
    constants = (*(dim.coordinate for dim in kind.dims), *kind.constants)
    found: list[tuple[str, Array]] = [("create", array) for array in constants if array is not None]
    found += [(phase.name, array) for phase in kind.phases for array in phase.writes]
    rows = ["| array | dimensions | type | unit | written by | meaning |", "|---|---|---|---|---|---|"]
    for phase, array in dict.fromkeys(found):  # a phase may have two ways to compute its arrays
        dims, where = ", ".join(array.dims), f"{phase}, in kernel.zarr" if array.scratch else phase
        cells = (f"`{array.name}`", dims, array.dtype, array.unit, where, array.meaning)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"
