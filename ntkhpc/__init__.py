"""Measure and predict how much a neural network's test loss varies because of its random initialisation."""

from pathlib import Path
from typing import TYPE_CHECKING

from ntkhpc.version import __version__

if TYPE_CHECKING:
    from ntkhpc.library import OpenRun

__all__ = ["__version__", "open_run"]


def open_run(path: Path | str) -> "OpenRun":
    """A run directory to look at. Raises RunError if `path` is none, or this version cannot read it."""
    from ntkhpc.library import OpenRun  # here, as every import of the package passes through this module

    return OpenRun(path)
