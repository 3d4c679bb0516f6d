"""Phase `recheck`: suspicious members are trained a second time, from the same weights in another precision.

A member on the edge of instability amplifies rounding: another version of JAX or another processor gives it another
loss. Training it again in float64 (in float32 where the study's own precision is float64) shows which members these
are. Nearly all of them have a training loss that rose at some step, as no stable linear model's does: in 36 ensembles
of 400 small networks without momentum 201 losses differ by more than 1 %, and 200 of these networks did.
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import cost, memory
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble import train, training_cost
from ntkhpc.studies.ensemble.train import DIVERGED, OK

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy

ROSE, LOST, HEAVY = 1, 2, 4
"""Bits of `recheck_reason`: the training loss rose; the member diverged; it carries much of sigma_L^2."""

SHARE = 0.1
"""A member is heavy if (L - mu_L)^2 is more than this share of the sum over the trained members of its cell."""

ARRAYS = (
    Array("recheck_reason", (*CELL, "member"), "i1", "1",
          "why a member is suspicious, the sum of: 1 its training loss rose (last_rise), 2 it diverged, 4 it carries "
          "more than a tenth of sigma_L^2; 0 if it is not"),
    Array("recheck_loss", (*CELL, "member"), "f8", "1",
          "L of the second run, from the same weights in the other precision; inf if it diverged, NaN without one"),
)  # fmt: skip


_LOOKED_AT = ("status", "last_rise", "test_loss")


def compute(work: "Work[EnsembleStudy]") -> Values:
    study = work.study
    cell = tuple(work.block.index(dim) for dim in CELL)
    status, last_rise, loss = (np.asarray(work.inputs.open(name)[cell]) for name in _LOOKED_AT)
    reason = reasons(status, last_rise, loss)
    chosen = most_suspicious(reason, last_rise, loss)[: most(study)]
    second, tile = np.full(len(reason), np.nan), study.ensemble.tile
    for number, first in enumerate(range(0, len(chosen), tile)):
        values = work.tile(number, partial(_train, work, chosen[first : first + tile]))
        second[values["member"]] = values["loss"]
    return {"recheck_reason": reason[(None,) * len(CELL)], "recheck_loss": second[(None,) * len(CELL)]}


def reasons(status: np.ndarray, last_rise: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Why each member of a cell is suspicious, as bits; all arrays are (members,)."""
    heavy = shares(np.where(status == OK, loss, np.nan)) > SHARE
    return (ROSE * (last_rise > 0) + LOST * (status == DIVERGED) + HEAVY * heavy).astype(np.int8)


def shares(loss: np.ndarray) -> np.ndarray:
    """Each member's share of sigma_L^2, (L - mu_L)^2 over its sum over members: the last axis of loss (..., members).

    Members that are NaN are left out, and have none (NaN).
    """
    count = np.isfinite(loss).sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = (loss - np.nansum(loss, axis=-1, keepdims=True) / count) ** 2
        return squares / np.nansum(squares, axis=-1, keepdims=True)


def most_suspicious(reason: np.ndarray, last_rise: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Numbers of the suspicious members (k,), the most suspicious first.

    First come those whose loss rose, the later it did the earlier, as they were unstable longest; then those that carry
    much of sigma_L^2. Members that diverged are in no number of the report, and come last.
    """
    share = np.nan_to_num(shares(np.where(reason & LOST, np.nan, loss)))
    rose = np.where(reason & ROSE, last_rise, 0)
    order = np.lexsort((np.arange(len(reason)), -share, -rose, (reason & LOST) > 0))
    return order[reason[order] > 0]


def most(study: "EnsembleStudy") -> int:
    """How many members of a cell are trained again at most."""
    wanted = study.ensemble.recheck * study.trained_members
    return max(1, int(wanted + 1e-9)) if wanted else 0


def precision(study: "EnsembleStudy") -> str:
    """That of the second run."""
    return "float32" if study.training.precision == "float64" else "float64"


def _train(work: "Work[EnsembleStudy]", members: np.ndarray) -> dict[str, np.ndarray]:
    """The second losses of these members, each trained by itself: one program whatever their number."""
    from ntkhpc import training

    study, inputs = work.study, work.inputs
    n, draw, at = work.block.value("n_train"), work.block.index("draw"), work.block.index("n_train")
    chosen, y_test = inputs["permutation"][draw, :n], inputs["y_test"]
    first = train.program(study, work.block.value("width"), (0, study.training.steps(n)))
    second = replace(first, precision=precision(study), drawn=first.precision, watched=False)
    losses = []
    for member in members:
        trained = training.train_tile(
            second,
            inputs["x_train"][chosen],
            inputs["y_train"][chosen],
            inputs["x_test"],
            y_test,
            learning_rate=float(inputs["learning_rate"][draw, at]),
            seed=study.seed,
            members=[int(member)],
        )
        values = train.tile_values(second.trace_steps, trained, y_test, 1, train.most_growth(study))
        losses.append(values["test_loss"][0] if values["status"][0] == OK else np.inf)
    return {"member": members, "loss": np.array(losses, np.float64)}


def _seconds(study: "EnsembleStudy", block: Block, members: int) -> float:
    one = training_cost.member_seconds(study, block.value("width"), block.value("n_train"), precision(study))
    return cost.SECONDS_PER_SHARD + members * one


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """As many members as there may be; where none is suspicious it takes no time."""
    return _seconds(study, block, most(study))


def tile_seconds(study: "EnsembleStudy", block: Block) -> float:
    return _seconds(study, block, min(most(study), study.ensemble.tile))


def memory_bytes(study: "EnsembleStudy") -> int:
    """The whole split, and one network; of a cell a few numbers a member."""
    members = 64 * study.trained_members
    return memory.SECOND_TRAINING + memory.rows(study) + members + training_cost.network_bytes(study, precision(study))


PHASE = Phase(
    "recheck",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation", "learning_rate", *_LOOKED_AT),
    writes=ARRAYS,
    blocks=CELL,
    seconds=seconds,
    tile_seconds=tile_seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    compiled=("width", "n_train"),
    when=lambda study: study.ensemble.recheck > 0,
    fewer="lower ensemble.draws",
    lower="network.widths, ensemble.n_train or data.test",
    shorten="ensemble.tile",
)
