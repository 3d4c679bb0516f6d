"""What a study is: the kinds there are, their phases, and how a study file is read."""

from ntkhpc.studies.kinds import KINDS, kind_of, layout, markdown, phase_names
from ntkhpc.studies.load import dumps, find, load, loads

__all__ = ["KINDS", "dumps", "find", "kind_of", "layout", "load", "loads", "markdown", "phase_names"]
