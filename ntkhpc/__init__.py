"""Measure and predict how much a network's test loss varies because of its random initialisation."""

__version__ = "0.1.0"
