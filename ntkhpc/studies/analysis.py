"""Phase `analysis`: the report. It reads whatever the other phases wrote, and writes no array.

Figures, tables and sentences are made in the package `analysis`, which stands above this one: so its computation is
handed to the worker from there.
"""

from collections.abc import Callable
from typing import Any

from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase

NAME = "analysis"


def phase(
    others: tuple[Phase, ...],
    *,
    seconds: Callable[[Any, Block], float],
    memory_bytes: Callable[[Any], int],
    lower: str,
) -> Phase:
    """The last phase of a kind with the other phases `others`."""
    return Phase(
        NAME,
        reads=tuple(array.name for one in others for array in one.writes if not array.scratch),
        writes=(),
        seconds=seconds,
        memory_bytes=memory_bytes,
        compute=None,
        lower=lower,
    )
