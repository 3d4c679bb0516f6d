"""Phase `leaps`: members of one (width, n_train, draw) trained in leaps, tile by tile; and their linearised twins.

A leapt member starts from the same weights as the trained one of its number and sees the same samples, so that the two
are compared, and combined, network by network. It takes the trained one's steps in a few closed forms (ntkhpc.leaps).
"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.lanes import MAPPED, Lanes, even_power, shared_bytes
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import memory
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble import algorithms, leaps_cost, train
from ntkhpc.studies.ensemble.train import DIVERGED, OK

if TYPE_CHECKING:
    from ntkhpc.leaps import Leapt
    from ntkhpc.studies.ensemble.study import EnsembleStudy
    from ntkhpc.twins import Twins

TIMES = 5
"""Shards of leapt members hold so many times `ensemble.shard_members`, tiles so many times `ensemble.tile`: they take
less time, and there are fewer files."""

PADDED = 0.1
"""Tiles are the larger ones where no more than this share of the members is added to fill up the last."""

ARRAYS = (
    Array("leap_point_loss", (*CELL, "leap_member", "test_point"), "f4", "1",
          "in leaps: sum over outputs of (f-y)^2 / (2 outputs) at each test point"),
    Array("leap_loss", (*CELL, "leap_member"), "f8", "1", "in leaps: L, the mean of leap_point_loss over test points"),
    Array("leap_train_loss", (*CELL, "leap_member"), "f8", "1",
          "in leaps: mean of the same loss over the training points"),
    Array("leap_count", (*CELL, "leap_member"), "i4", "1", "leaps that all steps took"),
    Array("leap_error", (*CELL, "leap_member"), "f4", "1",
          "in leaps: estimated relative error of the residual f-y at the training points"),
    Array("leap_status", (*CELL, "leap_member"), "i1", "1", "0 trained in leaps, 1 diverged, -1 not computed"),
    Array("twin_loss", (*CELL, "leap_member"), "f8", "1",
          "L of the network linearised at its initial weights, after the same steps",
          when=lambda study: study.ensemble.twin),
    Array("twin_status", (*CELL, "leap_member"), "i1", "1", "of the same: 0 trained, 1 diverged, -1 not computed",
          when=lambda study: study.ensemble.twin),
    Array("twin_kernel", (*CELL, "leap_member"), "f8", "1",
          "mean over training points and outputs of the diagonal of the network's NTK at its initial weights",
          when=lambda study: study.ensemble.twin),
)  # fmt: skip


def require_possible(study: "EnsembleStudy") -> None:
    """Raises ValueError for a study that asks for leaps of what they are not known of, naming the field to change."""
    if not study.leapt_members:
        return
    name = "ensemble.method" if study.ensemble.method == "leaps" else "ensemble.leap_members"
    field = f'{name} = "leaps"' if study.ensemble.method == "leaps" else f"{name} = {study.ensemble.leap_members}"
    if not (algorithm := study.training.algorithm).has_leaps:
        decay = f" with weight decay {algorithm.weight_decay:g}" if algorithm.weight_decay else ""
        raise ValueError(
            f"{field}: leaps take many steps of full-batch gradient descent at once, with momentum and schedules or "
            f"without; of {algorithms.name(algorithm)}{decay} none are known. Leave {name} out, or take "
            'training.optimiser = "gd", "momentum" or "nesterov" without training.weight_decay'
        )


def compute(work: "Work[EnsembleStudy]") -> Values:
    study, block = work.study, work.block
    written = [array.name for array in ARRAYS if array.when(study)]
    tiles = [work.tile(number, partial(_tile, work, number)) for number in block.range("leap_tile")]
    return {name: np.concatenate([tile[name] for tile in tiles])[(None,) * len(CELL)] for name in written}


def _tile(work: "Work[EnsembleStudy]", number: int) -> dict[str, np.ndarray]:
    """The values (members, ...) of a tile. The last is padded, as that of training is, to have the same program."""
    from ntkhpc.leaps import leap_tile
    from ntkhpc.twins import twin_tile

    study, inputs = work.study, work.inputs
    n, draw, at = work.block.value("n_train"), work.block.index("draw"), work.block.index("n_train")
    chosen, y_test = inputs["permutation"][draw, :n], inputs["y_test"]
    program = train.program(study, work.block.value("width"), (0, study.training.steps(n)))
    tile = tile_members(study)
    real, first = min(study.leapt_members - number * tile, tile), number * tile
    data = (inputs["x_train"][chosen], inputs["y_train"][chosen], inputs["x_test"], y_test)
    rate = float(inputs["learning_rate"][draw, at])
    members, side_by_side = range(first, first + tile), lanes(study, program.width, n, work.lane_bytes)
    leapt = leap_tile(
        program,
        *data,
        learning_rate=rate,
        seed=study.seed,
        members=members,
        tolerance=study.ensemble.leap_tolerance,
        lanes=side_by_side,
    )
    values = leapt_values(leapt, y_test, real)
    if study.ensemble.twin:
        twins = twin_tile(program, *data, learning_rate=rate, seed=study.seed, members=members, lanes=side_by_side)
        values |= twin_values(twins, y_test, real)
    return values


def lanes(study: "EnsembleStudy", width: int, n_train: int, usable: int | None) -> Lanes:
    """How many members of a cell are computed at once, in so many `usable` bytes of a GPU; None of a CPU, where each
    takes its own number of leaps, one member after another, as those that are not fully connected do everywhere."""
    if usable is None or study.network.architecture:
        return MAPPED
    fitting = (usable - shared_bytes(train.sizes(study, width, n_train), dual=False)) // leaps_cost.lane_bytes(
        study, width, n_train
    )
    return Lanes(even_power(tile_members(study), fitting))


def lanes_of_block(study: "EnsembleStudy", block: Block, usable: int | None) -> int:
    return lanes(study, block.value("width"), block.value("n_train"), usable).count


def leapt_values(leapt: "Leapt", y_test: np.ndarray, members: int) -> dict[str, np.ndarray]:
    """The stored values of a tile's first `members` members. One whose losses are not finite diverged."""
    point_loss, loss = _losses(leapt.predictions[:members], y_test)
    train_loss = leapt.train_loss[:members].astype(np.float64)
    return {
        "leap_point_loss": point_loss,
        "leap_loss": loss,
        "leap_train_loss": train_loss,
        "leap_count": leapt.leaps[:members].astype(np.int32),
        "leap_error": leapt.error[:members].astype(np.float32),
        "leap_status": _status(loss, train_loss),
    }


def twin_values(twin: "Twins", y_test: np.ndarray, members: int) -> dict[str, np.ndarray]:
    """The stored values of the twins of the same members."""
    loss = _losses(twin.predictions[:members], y_test)[1]
    kernel = twin.kernel[:members].astype(np.float64)
    return {"twin_loss": loss, "twin_status": _status(loss, twin.train_loss[:members], kernel), "twin_kernel": kernel}


def _losses(predictions: np.ndarray, y_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of predictions (m, n_test, outputs) the loss at each test point (m, n_test), rounded as it is stored, and L (m,),
    as those of trained members are."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = (predictions.astype(np.float64) - y_test) ** 2
        point_loss = (squares.sum(axis=2) / (2 * y_test.shape[1])).astype(np.float32)
        return point_loss, point_loss.mean(axis=1, dtype=np.float64)


def _status(*numbers: np.ndarray) -> np.ndarray:
    finite = np.logical_and.reduce([np.isfinite(one) for one in numbers])
    return np.where(finite, OK, DIVERGED).astype(np.int8)


def remarks(study: "EnsembleStudy", status: np.ndarray) -> tuple[str, ...]:
    """What a user must know of leapt members, from the status of all."""
    if not (lost := int(np.count_nonzero(status == DIVERGED))):
        return ()
    return (
        f"{lost:,} networks that were trained in leaps diverged (leap_status 1); they are in no mean. Lower "
        "training.learning_rate_fraction, or mind the initial variance",
    )


def shard_members(study: "EnsembleStudy") -> int:
    """Leapt members of a shard, a multiple of those of a tile."""
    return TIMES * study.ensemble.shard_members


def tile_members(study: "EnsembleStudy") -> int:
    """Leapt members of a tile."""
    many = TIMES * study.ensemble.tile
    return many if -study.leapt_members % many <= PADDED * study.leapt_members else study.ensemble.tile


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """The last tile is computed whole, padded with members beyond the ensemble."""
    return _seconds(study, block, len(block.range("leap_tile")) * tile_members(study))


def tile_seconds(study: "EnsembleStudy", block: Block) -> float:
    return _seconds(study, block, tile_members(study))


def _seconds(study: "EnsembleStudy", block: Block, members: int) -> float:
    return leaps_cost.members_seconds(study, block.value("width"), block.value("n_train"), members)


def memory_bytes(study: "EnsembleStudy") -> int:
    """The split, one network, the predictions of a tile, and the values: as tiles, joined, as they are written, as they
    are read back."""
    values = memory.of_numbers(3 * tile_members(study) * study.data.test * study.outputs) + 4 * chunk_bytes(study)
    return memory.LEAPS + memory.rows(study) + values + leaps_cost.network_bytes(study)


def chunk_bytes(study: "EnsembleStudy", *names: str) -> int:
    """Size of one shard's chunks, with their checksums, of all arrays or of those that are named."""
    along = {
        **dict.fromkeys(CELL, 1),
        "leap_member": min(study.leapt_members, shard_members(study)),
        "test_point": study.data.test,
    }
    return memory.of_chunks(study, ARRAYS, along, names)


PHASE = Phase(
    "leaps",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation", "learning_rate"),
    writes=ARRAYS,
    blocks=(*CELL, "leap_member"),
    seconds=seconds,
    tile_seconds=tile_seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    compiled=("width", "n_train"),
    lanes=lanes_of_block,
    when=lambda study: study.leapt_members > 0,
    fewer="raise ensemble.shard_members (a multiple of ensemble.tile) or lower ensemble.draws",
    lower="network.widths, ensemble.n_train, data.test or ensemble.shard_members",
    shorten="ensemble.tile",
)
