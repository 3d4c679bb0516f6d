"""What the errors of exponents contain, in words: of what is in this report, and no more."""

from collections.abc import Iterable

from analysis.contrasts import Curve
from analysis.ensemble.curves import DRAW, ITERATION, MEMBERS, POINTS, SOURCES
from analysis.ensemble.results import EnsembleResults
from ntkhpc.words import joined

PHRASES = {MEMBERS: "their members", **SOURCES}


def brackets(results: EnsembleResults) -> str:
    """ ", ± half of its 68 % interval (of trained networks for their members; ...)"; empty without any error."""
    found = {"trained networks": results.curves.values(), "exact curves": results.exact_curves.values()}
    said = [f"of {who} for {words}" for who, curves in found.items() if (words := sources(curves))]
    if knows_points(results):
        said.append(f"of eps_pop for {PHRASES[POINTS]} too")
    return f", ± half of its 68 % interval ({'; '.join(said)})" if said else ""


def sources(curves: Iterable[Curve]) -> str:
    """Those of any of the curves, but for the test points, which are in errors of eps_pop alone."""
    known = {one.name for curve in curves for one in curve.sources}
    return joined(PHRASES[name] for name in (MEMBERS, DRAW, ITERATION) if name in known)


def knows_points(results: EnsembleResults) -> bool:
    """Whether errors of eps_pop contain those of the test points."""
    return any(
        one.name == POINTS
        for curves in (results.curves, results.exact_curves)
        for (name, _), curve in curves.items()
        if name == "eps_pop"
        for one in curve.sources
    )
