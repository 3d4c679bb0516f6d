"""What the initialisation means in the units of the task: its part of an energy resolution, or of a prediction."""

from typing import Any

from analysis.ensemble.results import EnsembleResults
from analysis.report.section import Section


def claim(results: EnsembleResults) -> str:
    return results.in_units.sentence() if results.in_units else ""


def fits(results: EnsembleResults) -> dict[str, Any]:
    found = results.in_units
    return {"resolution": found and found.to_dict()}


SECTION: Section[EnsembleResults] = Section(needs=("law_variance",), claim=claim, fits=fits)
