"""Networks on the edge of instability, by the second run of the suspicious ones. And second_runs.csv."""

import math
from collections.abc import Sequence
from typing import Any

from analysis import second_run
from analysis.ensemble.members import records, training_set
from analysis.ensemble.results import EnsembleResults
from analysis.report.page import count
from analysis.report.section import Section, Table
from ntkhpc.studies.ensemble import algorithms, recheck
from ntkhpc.studies.ensemble.recheck import HEAVY, LOST, ROSE
from ntkhpc.studies.ensemble.train import EXPLOSION

WHY = {ROSE: "its loss rose", LOST: "it diverged", HEAVY: "its share of sigma_L^2"}

SHOWN, TOLD = 5, 3

NOTE = (
    "Networks whose L differs by more than 1 % when they are trained again from the same weights in the other "
    "precision. Rounding decides what they learn: another processor or version of JAX may give them another loss."
)


def sentences(results: EnsembleResults) -> list[str]:
    again = results.second_runs
    waiting, rose = not_trained_again(results)
    unseen = _unseen(results)
    if again.empty and not waiting:
        return ["No network is suspected of instability, so none was trained again." + unseen]
    unstable = int(again.unstable.sum())
    said = (
        f"{count(len(again), 'suspicious network')} {'was' if len(again) == 1 else 'were'} trained again from the same "
        f"weights in {recheck.precision(results.study)}: "
        + (f"the loss of {unstable:,} differs by more than 1 %." if unstable else "no loss differs by more than 1 %.")
    )
    if waiting:
        said += (
            f" {waiting:,} less suspicious ones were not, as ensemble.recheck allows {recheck.most(results.study):,} a "
            "cell" + (f"; the training loss of {rose:,} of these rose at some step." if not unseen else ".")
        )
    return [said + unseen]


def _unseen(results: EnsembleResults) -> str:
    """What is not looked at."""
    algorithm = results.study.training.algorithm
    if algorithm.falls:
        return ""
    decay = " and weight decay" if algorithm.weight_decay else ""
    return (
        " The training loss of single steps was not looked at: by how much it may rise with "
        f"{algorithms.name(algorithm)}{decay} is not known. So only networks that diverged are suspected, which here "
        f"means a training loss that is not finite or ends at more than {EXPLOSION:g} times what it began with, and "
        "those that carry much of sigma_L^2."
    )


def tables(results: EnsembleResults) -> Sequence[Table]:
    """The largest differences."""
    unstable = results.second_runs[results.second_runs.unstable]
    if unstable.empty:
        return []
    first, second = results.study.training.precision, recheck.precision(results.study)
    heading = ("width", "N_D", "draw", "network", f"L in {first}", f"L in {second}", "why it was suspected")
    rows = [
        (
            f"{one.width:,}", f"{one.n_train:,}", f"{one.draw}", f"{one.member}", _loss(one.loss),
            _loss(one.second_loss), _why(one.reason, one.last_rise),
        )
        for one in unstable.head(SHOWN).itertuples()
    ]  # fmt: skip
    more = len(unstable) - len(rows)
    return [Table([heading, *rows], NOTE + (f" {more:,} more are in second_runs.csv." if more else ""))]


def cautions(results: EnsembleResults) -> list[str]:
    """One sentence a cell, of those whose eps_L the unstable networks change most."""
    cells = results.unstable_cells
    said = [_caution(results, one) for one in cells.head(TOLD).itertuples()]
    if more := len(cells) - len(said):
        said.append(f"{count(more, 'more cell')} have networks on the edge of instability (second_runs.csv)")
    waiting = not_trained_again(results)[0] if said else 0
    rate = "learning_rate" if results.study.training.algorithm.entry.bound is None else "learning_rate_fraction"
    if waiting:
        said.append(
            f"{waiting:,} more networks are suspected of instability and were not trained again: raise "
            f"ensemble.recheck, or lower training.{rate}"
        )
    return said


def not_trained_again(results: EnsembleResults) -> tuple[int, int]:
    """How many suspicious networks were not trained again, and the training loss of how many of these rose."""
    one = results.store[["recheck_reason", "recheck_loss"]].load()
    left = (one.recheck_reason > 0) & one.recheck_loss.isnull()
    return int(left.sum()), int((left & ((one.recheck_reason & ROSE) > 0)).sum())


def entries(results: EnsembleResults) -> dict[str, Any]:
    again = results.second_runs
    return {
        "precision": recheck.precision(results.study),
        "trained_again": len(again),
        "not_trained_again": not_trained_again(results)[0],
        "unstable": records(again[again.unstable]),
        "cells": records(results.unstable_cells),
    }


def _caution(results: EnsembleResults, one: Any) -> str:
    first, second = results.study.training.precision, recheck.precision(results.study)
    return (
        f"{count(one.unstable, 'network')} of width {one.width:,} at {training_set(one)} "
        f"{'is' if one.unstable == 1 else 'are'} on the edge of instability: network {one.worst} has L = "
        f"{_loss(one.loss)} in {first} and {_loss(one.second_loss)} in {second}; eps_L is {one.eps_L:.3g} there, and "
        f"{one.eps_L_without:.3g} without {'it' if one.unstable == 1 else 'them'}"
    )


def _why(reason: int, last_rise: int) -> str:
    said = [text for bit, text in WHY.items() if reason & bit]
    return ", ".join(said).replace(WHY[ROSE], f"{WHY[ROSE]}, last at step {last_rise:,}")


def _loss(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "diverged"


SECTION: Section[EnsembleResults] = Section(
    needs=second_run.ARRAYS,
    tables=tables,
    sentences=sentences,
    cautions=cautions,
    fits=lambda results: {"second_run": entries(results)},
    files=lambda results: {"second_runs": results.second_runs},
    order=("sentences", "tables", "figure"),
)
