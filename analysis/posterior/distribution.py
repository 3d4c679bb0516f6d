"""How the losses of single networks are distributed, and how many lie where theory says. And coverage.csv."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.posterior.coverage import LAWS
from analysis.posterior.drawing import NORMALISATION, widths
from analysis.posterior.results import PosteriorResults, frame
from analysis.report.look import UNIT, Look
from analysis.report.numbers import pm
from analysis.report.plotting import legend
from analysis.report.section import Section

DENSE = 4000
"""Losses from which their steps are drawn as pixels."""

SHOWN = 3
"""Training-set sizes whose distributions are shown."""

CAPTION = (
    f"{NORMALISATION} Above: the losses of single networks sampled from the posterior (steps), what theory says of "
    "that width (smooth line of the same colour, f Gaussian at the saddle point), and infinite width (black). Below: "
    "the share of sampled networks inside the central credible intervals of finite-width theory (filled) and of "
    "infinite width (open), against what the intervals promise (dotted). Curves are of the first draw of the "
    "training set, shares the mean over draws."
)


def distribution(results: PosteriorResults) -> Figure:
    """L of sampled networks against theory's distribution; coverage of credible intervals below."""
    sampled = results.coverage is not None
    known = results.sampled.n_train.values if results.sampled is not None else results.theory.n_train.values
    chosen = [int(known[i]) for i in sorted({0, len(known) // 2, len(known) - 1})][:SHOWN]
    figure = Figure(figsize=(max(3.6 * len(chosen), 5), 7 if sampled else 3.8))
    axes = figure.subplots(2 if sampled else 1, len(chosen), squeeze=False, sharey="row")
    probability = results.theory["quantile"].values
    for column, n in zip(axes.T, chosen, strict=True):
        law = results.theory.quantiles.sel(n_train=n).isel(draw=0)
        for width, look, line, label in widths(results.theory.theory_width.values):
            column[0].plot(law.sel(theory_width=width), probability, **line, label=label)
            if look and sampled and width in results.store.sampled_width:
                _empirical(results, column, width, n, look)
        column[0].set_title(f"P = {n:,}")
        column[0].set_xlabel("$L$ of one network, mean of $(f-y)^2$")
        column[0].xaxis.set_major_locator(MaxNLocator(5))
        if sampled:
            column[1].plot([0, 1], [0, 1], **UNIT, ls=":")
            column[1].set_xlabel("credible interval")
            column[1].set_xlim(0.45, 0.99)
            column[1].set_ylim(-0.03, 1.03)
            column[1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
            column[1].yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    axes[0, 0].set_ylabel("share of networks with a smaller loss")
    if sampled:
        axes[0, -1].step([], [], color="0.4", lw=0.9, label="thin steps: sampled")
    legend(axes[0, -1], fontsize=8, loc="lower right")
    if sampled:
        axes[1, 0].set_ylabel("share of sampled networks inside")
        for law_name, fill in zip(LAWS, ("black", "none"), strict=True):
            axes[1, 0].plot([], [], "o", color="black", mfc=fill, label=f"interval of {law_name}")
        legend(axes[1, 0], fontsize=8)
    return figure


def _empirical(results: PosteriorResults, column: Any, width: float, n: int, look: Look) -> None:
    losses = results.store.sample_loss.sel(sampled_width=int(width), sampled_n_train=n).isel(draw=0).values.ravel()
    losses = np.sort(losses[np.isfinite(losses)])
    if len(losses):
        share = np.arange(1, len(losses) + 1) / len(losses)
        column[0].step(losses, share, where="post", color=look.color, lw=0.9, rasterized=len(losses) > DENSE)
    if results.coverage is None:
        return
    for law, fill in zip(LAWS, (look.color, "none"), strict=True):
        one = results.coverage.sel(law=law, width=int(width), n_train=n)
        error = np.sqrt((one.stderr**2).sum("draw")) / np.isfinite(one.stderr).sum("draw").clip(1)
        column[1].errorbar(one["level"] + 0.012 * look.place, one.share.mean("draw"), error, fmt=look.marker,
                           color=look.color, mfc=fill, elinewidth=1.1)  # fmt: skip


def intervals(results: PosteriorResults) -> list[str]:
    """Coverage of theory's credible intervals, averaged over cells."""
    if results.coverage is None:
        return []
    said = []
    for law in LAWS:
        of = results.coverage.sel(law=law)
        shares = []
        for level in of["level"].values:
            share, stderr = of.share.sel(level=level).values, of.stderr.sel(level=level).values
            there = np.isfinite(share)
            if not there.any():
                continue
            error = math.sqrt(float((stderr[there] ** 2).sum())) / there.sum()
            shares.append(f"{pm(100 * float(share[there].mean()), 100 * error)} % inside the {100 * level:.0f} %")
        if shares:
            said.append(f"{law}: {', '.join(shares)} interval, mean over cells")
    return said


def widths_of_intervals(results: PosteriorResults) -> str:
    """Is the theory's spread of L too small or too large?"""
    if results.sampled is None:
        return ""
    theory = results.theory.sigma_L.mean("draw").sel(
        theory_width=results.sampled.width.astype(float), n_train=results.sampled.n_train
    )
    ratio = (results.sampled.sigma_L / theory).values
    if not np.isfinite(ratio).any():
        return ""
    low, middle, high = np.nanmin(ratio), np.nanmedian(ratio), np.nanmax(ratio)
    return (
        f"The standard deviation of L of sampled networks is {middle:.2f} times that of theory (median over cells, "
        f"{low:.2f} to {high:.2f}), in which f is Gaussian at one Qb."
    )


def files(results: PosteriorResults) -> dict[str, pd.DataFrame]:
    return {} if results.coverage is None else {"coverage": frame(results.coverage)}


SECTION: Section[PosteriorResults] = Section(
    title="The distribution of the loss",
    figure=distribution,
    caption=CAPTION,
    sentences=lambda results: [intervals(results), widths_of_intervals(results)],
    files=files,
)
