"""Chains: their convergence and cost, cell by cell, and traces of the worst. And chains.csv."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from analysis.posterior.drawing import LOSS, NORMALISATION
from analysis.posterior.results import PosteriorResults, frame
from analysis.posterior.sampled import ARRAYS
from analysis.posterior.text import convergence_text, number
from analysis.report.look import series
from analysis.report.section import Section, Table

NOTE = (
    "R-hat: of ranks, split chains (arXiv:1903.08008), the larger of those of expected loss and order parameter; ESS: "
    "effective samples, the smaller of these two; ESS of L: of the loss of single networks. Gradients a sample: of the "
    "potential, for each effective sample."
)

CAPTION = (
    f"{NORMALISATION} The chains of the cell whose R-hat is largest: expected loss (left) and order parameter (right) "
    "of each kept sample, one colour a chain. Chains that have converged wander about the same value."
)


DENSE = 4000
"""Points from which traces are drawn as pixels."""


def chains(results: PosteriorResults) -> Figure | None:
    """Traces of the cell with the largest R-hat; None while there are no samples."""
    if results.chains is None or not results.sampled_cells:
        return None
    figure = Figure(figsize=(10, 3.4))
    axes = figure.subplots(1, 2)
    ranked = results.chains.r_hat.fillna(-math.inf)
    worst = ranked.isel({dim: int(i) for dim, i in ranked.argmax(...).items()})
    cell = results.store.sel(sampled_width=int(worst.width), sampled_n_train=int(worst.n_train), draw=int(worst.draw))
    for axis, name, label in zip(
        axes, ("sample_expected_loss", "sample_q_bar"), (LOSS, "order parameter $\\bar Q$"), strict=True
    ):
        traces = cell[name].values
        for chain, look in zip(traces, series(len(traces)), strict=True):
            # Thousands of points would make the page heavy; what is read is how the chains lie to one another.
            axis.plot(cell["sample"].values, chain, color=look.color, lw=0.6, rasterized=traces.size > DENSE)
        axis.set_xlabel("kept sample")
        axis.set_ylabel(label)
    axes[0].set_title(
        f"P = {int(worst.n_train):,}, $N_1$ = {int(worst.width):,}, draw {int(worst.draw)}: "
        f"$\\hat R$ = {float(worst):.3f}", loc="left",
    )  # fmt: skip
    return figure


def rows(results: PosteriorResults) -> list[Sequence[str]]:
    """One row a cell and draw, its heading first."""
    found: list[Sequence[str]] = [
        ("P", "N1", "draw", "chains", "R-hat", "ESS", "ESS of L", "acceptance", "divergences", "gradients a sample")
    ]
    if results.chains is None:
        return found
    for n in results.chains.n_train.values:
        for width in results.chains.width.values:
            for draw in results.chains.draw.values:
                one = results.chains.sel(n_train=n, width=width, draw=draw)
                found.append(
                    (f"{n:,}", f"{width:,}", f"{draw}", f"{int(one.chains)}",
                     *convergence_text(float(one.r_hat), float(one.ess)), number(one.loss_ess, ",.0f"),
                     number(one.acceptance, ".2f"), number(one.divergences, ",.0f"),
                     number(one.gradients_per_ess, ",.1f"))
                )  # fmt: skip
    return found


def files(results: PosteriorResults) -> dict[str, pd.DataFrame]:
    return {} if results.chains is None else {"chains": frame(results.chains)}


SECTION: Section[PosteriorResults] = Section(
    title="Chains",
    needs=ARRAYS,
    figure=chains,
    caption=CAPTION,
    tables=lambda results: [Table(rows(results), NOTE)],
    files=files,
    order=("tables", "figure"),
)
