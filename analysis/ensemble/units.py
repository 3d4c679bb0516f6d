"""What the initialisation means in the units of the task: its part of an energy resolution, or of a prediction."""

from typing import Any

from analysis.ensemble.results import EnsembleResults
from analysis.report.section import Section
from analysis.scaling import plain


def claim(results: EnsembleResults) -> str:
    return results.in_units.sentence() if results.in_units else ""


def fits(results: EnsembleResults) -> dict[str, Any]:
    found = results.in_units
    return {"resolution": found and {key: plain(value) for key, value in found.to_dict().items()}}


SECTION: Section[EnsembleResults] = Section(needs=("law_variance",), claim=claim, fits=fits)
