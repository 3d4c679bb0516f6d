"""Tables of a posterior: rows of text for a reader, frames for other programs, and everything fitted."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray

from analysis.bayes import words
from analysis.bayes.cautions import cautions
from analysis.bayes.comparison import Cell
from analysis.bayes.exponents import QUANTITIES
from analysis.bayes.results import Results
from analysis.numbers import exponent, pm, probability
from analysis.scaling import plain

ADAPTIVE = ("adaptive kernel", "deviation from it")
NETWORK = {"finite": "finite width", "infinite": "infinite width", "": "undecided"}


def losses(results: Results) -> list[Sequence[str]]:
    """One row a (P, N1), its heading first."""
    several = results.study.posterior.draws > 1
    adaptive = bool(results.adaptive_cells)
    also = (*(ADAPTIVE if adaptive else ()), *(("sd over draws",) if several else ()))
    return [
        ("P", "N1", "theory", "infinite width", "sampled", "deviation", "closer", *also, "s", "R-hat", "ESS"),
        *(_losses(cell, adaptive=adaptive, several=several) for cell in results.cells),
    ]


def _losses(cell: Cell, *, adaptive: bool, several: bool) -> Sequence[str]:
    return (
        f"{cell.n_train:,}",
        f"{cell.width:,}",
        words.loss(cell.theory),
        words.loss(cell.infinite),
        pm(cell.sampled, cell.stderr),
        _deviation(cell.deviation, cell.pull),
        (cell.closer or "undecided") if cell.is_sampled else "",
        *(_adaptive(cell) if adaptive else ()),
        *([_number(cell.spread, ".2g")] if several else []),
        _number(cell.s, ".3g"),
        *_convergence(cell.r_hat, cell.ess),
    )


def _adaptive(cell: Cell) -> tuple[str, str]:
    return pm(cell.adaptive, cell.adaptive_stderr), _deviation(cell.adaptive_deviation, cell.adaptive_pull)


def _deviation(fraction: float, pull: float) -> str:
    return f"{words.per_cent(fraction)} ({pull:+.1f} s.e.)" if math.isfinite(fraction) else ""


def terminal(results: Results) -> str:
    """The end of `make submit`: a compact table, the claim, what to mind."""
    shown = 8 if results.adaptive_cells else 7
    rows = [row[:shown] for row in losses(results)]
    widths = [max(len(row[i]) for row in rows) for i in range(shown)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["test loss: mean of (f - y)^2, twice that of kind ensemble", "", words.claim(results)]
    lines += ["", *(f"  {text}" for text in words.sign_rule(results))]
    if found := cautions(results):
        lines += ["", *(f"mind: {text}" for text in found)]
    return "\n".join(lines) + "\n"


def chains(results: Results) -> list[Sequence[str]]:
    """One row a cell and draw, its heading first."""
    rows: list[Sequence[str]] = [
        ("P", "N1", "draw", "chains", "R-hat", "ESS", "ESS of L", "acceptance", "divergences", "gradients a sample")
    ]
    if results.chains is None:
        return rows
    for n in results.chains.n_train.values:
        for width in results.chains.width.values:
            for draw in results.chains.draw.values:
                one = results.chains.sel(n_train=n, width=width, draw=draw)
                rows.append(
                    (f"{n:,}", f"{width:,}", f"{draw}", f"{int(one.chains)}",
                     *_convergence(float(one.r_hat), float(one.ess)), _number(one.loss_ess, ",.0f"),
                     _number(one.acceptance, ".2f"), _number(one.divergences, ",.0f"),
                     _number(one.gradients_per_ess, ",.1f"))
                )  # fmt: skip
    return rows


def fits(results: Results) -> list[Sequence[str]]:
    """One row an exponent, its heading first; empty but for that with fewer than 3 sizes."""
    rows: list[Sequence[str]] = [("quantity", "networks", "N_D", "exponent", "p", "this draw only", "last slope")]
    for quantity in QUANTITIES:
        for (name, network), fit in results.exact_fits.items():
            if name == quantity:
                rows.append(
                    (quantity, network, f"{fit.n[0]:.0f}-{fit.n[1]:.0f}", pm(fit.exponent, fit.exponent_stderr), "",
                     "", f"{fit.last_slope:.2f}")
                )  # fmt: skip
        for (name, width), found in results.sampled_fits.items():
            if name == quantity:
                one = found.sampled.any_draw
                rows.append(
                    (quantity, f"sampled, width {width:,}", f"{one.n[0]:.0f}-{one.n[-1]:.0f}", exponent(one.none),
                     probability(one.none.p_value), exponent(found.sampled.this_draw.none), "")
                )  # fmt: skip
    return rows


def summary(results: Results) -> dict[str, Any]:
    """Everything fitted and compared, JSON-able; what could not be had is null."""
    chi = results.chi_square
    return {
        "study": results.run.plan.run_name,
        "loss": words.LOSS,
        "missing": results.missing,
        "claim": words.claim(results),
        "chi_square": chi
        and {"cells": chi.cells, "finite_width": chi.finite, "infinite_width": chi.infinite,
             "p_finite_width": chi.p_finite, "p_infinite_width": chi.p_infinite,
             "adaptive_kernel_cells": chi.adaptive_cells, "adaptive_kernel": plain(chi.adaptive),
             "p_adaptive_kernel": plain(chi.p_adaptive)},
        "adaptive_kernel": [
            {"n_train": cell.n_train, "width": cell.width, "loss": cell.adaptive, "stderr": plain(cell.adaptive_stderr),
             "deviation": plain(cell.adaptive_deviation), "pull": plain(cell.adaptive_pull)}
            for cell in results.adaptive_cells
        ],
        "exact": {f"{name} {network}": fit.to_dict() for (name, network), fit in results.exact_fits.items()},
        "sampled": {
            f"{name} width {width}": {**fit.sampled.to_dict(), "theory": fit.theory and fit.theory.to_dict()}
            for (name, width), fit in results.sampled_fits.items()
        },
        "posterior_less_trained": {
            name: {"exponent": one.value, "stderr": plain(one.stderr), "draws": one.draws}
            for name, one in results.differences.items()
        },
    }  # fmt: skip


def frames(results: Results) -> dict[str, pd.DataFrame]:
    """losses, theory, exponents; chains, coverage and scans where there are any."""
    found = {
        "losses": pd.DataFrame([_loss_row(cell) for cell in results.cells]),
        "moments": moments(results),
        "exponents": _exponents(results),
    }
    if results.chains is not None:
        found["chains"] = _frame(results.chains)
    if results.coverage is not None:
        found["coverage"] = _frame(results.coverage)
    return found | {f"scan_{name}": _frame(scan) for name, scan in results.scans.items()}


def moments(results: Results) -> pd.DataFrame:
    """One row per (network, width, n_train, draw): mu_L, sigma_L, eps_L, eps_pop; errors where they were sampled."""
    names = ["mu_L", "sigma_L", "eps_L", "eps_pop", "bias", "variance"]
    theory = _frame(results.theory[[*names, "q_bar", "mixture", "s", "log_evidence"]])
    theory = theory.rename(columns={"theory_width": "width"}).assign(network="posterior, theory")
    descent = _frame(results.descent[names]).assign(network="trained to the end", width=math.inf)
    parts = [theory, descent]
    if results.chains is not None:
        parts.append(_frame(results.chains).assign(network="posterior, sampled"))
    whole = pd.concat(parts, ignore_index=True)
    first = ["network", "width", "n_train", "draw"]
    return whole[[*first, *(name for name in whole.columns if name not in first)]]


def _loss_row(cell: Cell) -> dict[str, Any]:
    return {
        "n_train": cell.n_train, "width": cell.width, "theory": cell.theory, "infinite_width": cell.infinite,
        "mixture": cell.mixture, "adaptive": cell.adaptive, "adaptive_stderr": cell.adaptive_stderr,
        "sampled": cell.sampled, "sampled_stderr": cell.stderr,
        "draw_spread": cell.spread, "deviation": cell.deviation, "pull": cell.pull,
        "infinite_width_deviation": cell.infinite_deviation, "infinite_width_pull": cell.infinite_pull,
        "adaptive_deviation": cell.adaptive_deviation, "adaptive_pull": cell.adaptive_pull,
        "closer": NETWORK[cell.closer] if cell.is_sampled else "", "q_bar": cell.q_bar,
        "sampled_q_bar": cell.sampled_q_bar, "sampled_q_bar_stderr": cell.q_bar_stderr, "s": cell.s,
        "r_hat": cell.r_hat, "ess": cell.ess, "draws": cell.draws,
    }  # fmt: skip


def _exponents(results: Results) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for (name, network), fit in results.exact_fits.items():
        rows.append(
            {"quantity": name, "network": network, "n_min": fit.n[0], "n_max": fit.n[1], "exponent": fit.exponent,
             "stderr": fit.exponent_stderr, "draws": fit.draws, "last_slope": fit.last_slope}
        )  # fmt: skip
    for (name, width), found in results.sampled_fits.items():
        for errors, one in (("any draw", found.sampled.any_draw), ("this draw", found.sampled.this_draw)):
            rows.append(
                {"quantity": name, "network": f"sampled, width {width}", "n_min": one.n[0], "n_max": one.n[-1],
                 "errors": errors, "exponent": one.none.exponent, "stderr": one.none.exponent_stderr,
                 "p_value": one.none.p_value, "theory": found.theory.exponent if found.theory else math.nan}
            )  # fmt: skip
    columns = ["quantity", "network", "n_min", "n_max", "exponent", "stderr"]
    return pd.DataFrame(rows, columns=None if rows else columns)


def _frame(dataset: xarray.Dataset) -> pd.DataFrame:
    """One row a cell of all dimensions but `quantile`."""
    kept = dataset.drop_dims("quantile", errors="ignore")
    return kept.to_dataframe().reset_index()


def _convergence(r_hat: float, ess: float) -> tuple[str, str]:
    return _number(r_hat, ".3f"), _number(ess, ",.0f")


def _number(value: Any, form: str) -> str:
    return format(float(value), form) if np.isfinite(float(value)) else "-"
