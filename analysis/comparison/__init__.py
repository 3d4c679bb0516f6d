"""The report of a comparison: are scaling laws of the test loss robust to how networks are trained and scaled?"""

from analysis import ensemble
from analysis.comparison import (
    agreement,
    answer,
    cautions,
    exponents_figure,
    feature_strength,
    learning_curves,
    overview,
    untrained_section,
    varied,
)
from analysis.comparison.results import ComparisonResults, collect
from analysis.report.compose import Cover
from analysis.report.compose import compose as compose_sections
from analysis.report.publication import Publication
from analysis.report.section import Section
from ntkhpc.engine.run import Run
from ntkhpc.words import count, joined, numbers

SECTIONS: list[Section[ComparisonResults]] = [
    answer.SECTION,
    answer.VALUES,
    exponents_figure.SECTION,
    overview.SECTION,
    cautions.SECTION,
    agreement.SECTION,
    learning_curves.SECTION,
    untrained_section.SECTION,
    feature_strength.SECTION,
]
"""In the order of the page."""

STATISTICS = (
    "Variants are compared with the first one, member by member: the deviates of a difference are those of both less "
    "one another, so that its variance is the jackknife's of both together. Probabilities of a quantity and width are "
    "Holm's over the variants, and a difference is called one below 0.01. What would have been seen is the difference "
    "that such a test, at 0.01 over the number of variants, finds with the probability 0.95. What follows is of single "
    "variants; how often intervals of differences cover was not measured."
)
"""How differences were made, for the methods section."""


def compose(run: Run, *, partial: bool = False) -> Publication:
    """Analyse a run. Raises RunError for an incomplete one unless `partial`."""
    return publication(collect(run, partial=partial))


def publication(results: ComparisonResults) -> Publication:
    """The report of what was collected."""
    return compose_sections(SECTIONS, results, cover(results))


def cover(results: ComparisonResults) -> Cover:
    known = ensemble.cover(results.reference.results).definitions
    return Cover(
        name=results.study.name,
        run_name=results.run.plan.run_name,
        subject="Whether scaling laws of the test loss depend on how networks are trained and scaled.",
        about=_about(results),
        measured=[STATISTICS, ensemble.STATISTICS],
        definitions={
            **{name: text for name, text in known.items() if name != "infinite width"},
            "variant": "one of the ensembles that are compared: the same data, draws, sizes, widths, seeds and "
                       "members, with other settings of training or network",
            "paired": "of two variants, what member i does to both: where they begin with the same weights what "
                      "these have in common drops out of differences",
            "infinite width": "the exact law of a variant's own algorithm as networks grow wide, after as many steps "
                              "on the same samples (arXiv:1902.06720); no network is trained for it",
        },
        fits={
            "study": results.run.plan.run_name,
            "missing": results.missing,
            "reference": results.reference.name,
            "variants": {},
            "differences": [],
            "agreement": {},
            "removed_by_centring": [],
            "feature_strength": [],
            "diverged": [],
            "oscillating": [],
            "dominant_members": [],
            "second_runs": [],
        },
    )  # fmt: skip


def _about(results: ComparisonResults) -> str:
    one = results.reference.results.study
    names = joined(f"`{name}`" for name in varied.fields(results.variants))
    return (
        f"{count(len(results.variants), 'variant')} ({joined(one.name for one in results.variants)}) of an ensemble of "
        f"{one.ensemble.members:,} networks of width {numbers(results.widths)} at {len(results.sizes)} training-set "
        f"sizes from {results.sizes[0]:,} to {results.sizes[-1]:,}, {count(one.ensemble.draws, 'draw')}"
        + (f"; what varies is {names}." if names else ".")
    )
