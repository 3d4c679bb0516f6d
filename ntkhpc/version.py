"""The version of this software; CITATION.cff names the same."""

__version__ = "0.2.0.dev0"
