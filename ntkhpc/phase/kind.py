"""One kind of study: its class, the dimensions of its store, and its phases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ntkhpc.phase.array import Array
from ntkhpc.phase.dimension import Dim
from ntkhpc.phase.phase import Phase


def nothing(study: Any, load: Callable[[str], Any]) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Kind:
    """One kind of study.

    `title` stands before the name of a run in its store, `loss` says how the losses there are normalised. `constants`
    are arrays that the study alone decides, besides the coordinates of `dims`. A study has the `phases` whose `when`
    it fulfils. `smaller` says what in a study makes its store smaller. `remarks(study, load)` says what a user must
    know of a complete run, whose arrays are loaded by name.
    `probe(study)` trains or solves what costs most of such a study, and gives projected over measured time.
    """

    name: str
    study: type
    title: str
    loss: str
    dims: tuple[Dim, ...]
    phases: tuple[Phase, ...]
    probe: Callable[[Any], float]
    smaller: str = "data.test"
    constants: tuple[Array, ...] = ()
    remarks: Callable[[Any, Callable[[str], Any]], tuple[str, ...]] = nothing
