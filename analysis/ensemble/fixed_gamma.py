"""Networks of the mu-parametrisation, or centred ones, beside the law at infinite width and fixed gamma."""

from matplotlib.figure import Figure

from analysis import infinite
from analysis.ensemble import reference
from analysis.ensemble.results import EnsembleResults
from analysis.report.section import Section, Table
from ntkhpc.studies.ensemble import standing

WHAT = "the law at infinite width and fixed gamma, after as many steps on the same samples"

REMARK = "It is drawn as a reference: at finite width kernels are random and features move, so no agreement is tested."

NOTE = (
    "Ratio: the ensemble over the law at infinite width and fixed gamma, after as many steps on the same samples: what "
    "finite width does, by its random initial kernel and by features that move; this study cannot tell them apart."
)


def against_fixed_gamma(results: EnsembleResults) -> Figure:
    """mu_L and eps_L against n_train for every width, and the law at its gamma."""
    return reference.beside(results, _label(results))


def caption(results: EnsembleResults) -> str:
    lazy = results.study.network.parametrisation == "mup"
    return reference.caption(results, f"the lazy law, {WHAT}" if lazy else WHAT, REMARK)


def _label(results: EnsembleResults) -> str:
    return "infinite width, centred" if results.study.network.centred else "lazy law"


def _claim(results: EnsembleResults) -> str:
    return f"{standing.sentence(results.study)}."


SECTION: Section[EnsembleResults] = Section(
    title="Beside the law at fixed gamma",
    needs=infinite.BESIDE,
    claim=_claim,
    figure=against_fixed_gamma,
    caption=caption,
    tables=lambda results: [Table(reference.rows(results, _label(results)), NOTE)],
    fits=lambda results: {"law": standing.short(results.study)},
)
