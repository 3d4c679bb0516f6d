"""The adaptive kernel, where a study asks for it: whether its populations of neurons have settled, and its losses."""

from typing import Any

import numpy as np

from analysis.posterior.results import PosteriorResults
from analysis.posterior.sampled import per_cell
from analysis.report.section import Section
from analysis.scaling import plain
from ntkhpc import convergence


def cautions(results: PosteriorResults) -> list[str]:
    drifts, losses = (per_cell(results.store[f"adaptive_{name}"], "population") for name in ("drift", "loss"))
    wrong = ~convergence.settled(drifts.values, losses.values)
    cells = [f"P = {losses.n_train.values[j]:,}, N1 = {losses.width.values[i]:,}" for i, j, _ in np.argwhere(wrong)]
    if not cells:
        return []
    return [
        f"the adaptive kernel still drifts at {'; '.join(dict.fromkeys(cells))}, by more than its error: raise "
        "adaptive.updates"
    ]


def fits(results: PosteriorResults) -> dict[str, Any]:
    return {
        "adaptive_kernel": [
            {"n_train": cell.n_train, "width": cell.width, "loss": cell.adaptive, "stderr": plain(cell.adaptive_stderr),
             "deviation": plain(cell.adaptive_deviation), "pull": plain(cell.adaptive_pull)}
            for cell in results.adaptive_cells
        ]
    }  # fmt: skip


SECTION: Section[PosteriorResults] = Section(needs=("adaptive_loss", "adaptive_drift"), cautions=cautions, fits=fits)
