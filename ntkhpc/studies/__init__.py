"""What a study is: the kinds there are, their phases, and how a study file is read."""

from ntkhpc.studies.load import KINDS, dumps, find, load, loads

__all__ = ["KINDS", "dumps", "find", "load", "loads"]
