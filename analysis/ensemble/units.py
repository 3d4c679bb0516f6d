"""What the initialisation means in the units of the task: its part of an energy resolution, or of a prediction."""

from typing import Any

from analysis.ensemble.results import EnsembleResults
from analysis.report.section import Section
from analysis.resolution import Resolution, resolution
from analysis.scaling import plain
from analysis.spread import Spread, spread


def in_units(results: EnsembleResults) -> Resolution | Spread | None:
    """Of the widest ensemble at the largest n_train; None if it is not there."""
    data = results.study.data
    if getattr(data, "energy_target", data.noun == "showers"):
        return resolution(results.store)
    return spread(results.store, data)


def claim(results: EnsembleResults) -> str:
    found = in_units(results)
    return found.sentence() if found else ""


def fits(results: EnsembleResults) -> dict[str, Any]:
    found = in_units(results)
    return {"resolution": found and {key: plain(value) for key, value in found.to_dict().items()}}


SECTION: Section[EnsembleResults] = Section(needs=("law_variance",), claim=claim, fits=fits)
