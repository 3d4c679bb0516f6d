"""Data sets: one module per source, each giving a Split."""

from ntkhpc.data import calorimeter
from ntkhpc.data.split import Split
from ntkhpc.study import Calorimeter, Study

__all__ = ["Split", "load"]

_SOURCES = {Calorimeter: calorimeter.load}


def load(study: Study) -> Split:
    """The training pool and test points of a study. Raises DataError if they cannot be used."""
    return _SOURCES[type(study.data)](study.data)
