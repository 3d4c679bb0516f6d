"""Phase `ensemble`: members of one (width, n_train, draw) trained tile by tile.

Here are its section of a study file ([training]), its arrays, its cost and its computation.
"""

import itertools
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta

from ntkhpc.lanes import MAPPED, Lanes, Sizes, lane_bytes, lanes_for
from ntkhpc.optimisers import Algorithm, OptimiserName, Order, Schedule, Target
from ntkhpc.phase.array import Array
from ntkhpc.phase.block import Block
from ntkhpc.phase.phase import Phase
from ntkhpc.phase.settings import Natural, NonNegativeFloat, PositiveFloat, Settings
from ntkhpc.phase.work import Values, Work
from ntkhpc.studies import memory
from ntkhpc.studies.dims import CELL
from ntkhpc.studies.ensemble import algorithms, network, training_cost
from ntkhpc.studies.ensemble.network import mlp

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.study import EnsembleStudy
    from ntkhpc.training import Program, Trained

OK, DIVERGED, MISSING = 0, 1, -1
"""Values of `status`; the last, its fill value, means: not computed."""


MOST_STEPS = 10**15
"""Of one network: more would take years, and are no whole numbers any more in double precision."""


class StepRule(Settings, frozen=True, kw_only=True):
    """Number of steps, updates of the weights, as a rule of n_train: ceil(factor * n_train ** power)."""

    factor: PositiveFloat = 4.0
    power: NonNegativeFloat = 1.0

    def __call__(self, n_train: int) -> int:
        """Raises ValueError for more steps than MOST_STEPS."""
        try:
            steps = self.factor * n_train**self.power
        except OverflowError:
            steps = math.inf
        if steps > MOST_STEPS:
            raise ValueError(
                f"training.steps.factor = {self.factor:g} and power = {self.power:g} make {steps:.3g} steps at "
                f"n_train = {n_train}; {MOST_STEPS:,} is the most"
            )
        # The small term keeps 0.1 * 30 at 3 steps, not 4.
        return max(1, math.ceil(steps - 1e-9))

    def description(self) -> str:
        """The number of steps as a function of N_D, rounded up."""
        if not self.power:
            return f"{self.factor:g} steps at every N_D"
        return f"{self.factor:g} N_D{'' if self.power == 1 else f'^{self.power:g}'} steps"


class TrainingSettings(Settings, frozen=True, kw_only=True):
    """How networks are trained: full-batch gradient descent, with heavy-ball momentum if it is not zero, or another
    `optimiser` with its fields (optimisers.py). `learning_rate` is that of adam and adamw, in units of 1/sqrt(width),
    which have no stability bound to take a fraction of."""

    steps: StepRule = StepRule()
    optimiser: OptimiserName = "gd"
    schedule: Schedule = "constant"
    batch: Natural = 0
    order: Order = "shared"
    weight_decay: NonNegativeFloat = 0.0
    decay_towards: Target = "zero"
    learning_rate: NonNegativeFloat = 0.0
    learning_rate_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    precision: Literal["float32", "float64"] = "float32"
    matmul_precision: Literal["highest", "high", "default"] = "highest"

    def __post_init__(self) -> None:
        algorithm = self.algorithm
        if algorithm.entry.bound is None and not self.learning_rate:
            raise ValueError(
                f"learning_rate = 0: {self.optimiser} has no stability bound of which learning_rate_fraction could be "
                "one; give the peak rate in units of 1/sqrt(width), such as 0.1"
            )
        if algorithm.entry.bound is not None and self.learning_rate:
            raise ValueError(
                f"learning_rate = {self.learning_rate:g} is for adam and adamw; of {algorithm.optimiser} it is "
                "learning_rate_fraction of the stability bound"
            )

    @property
    def algorithm(self) -> Algorithm:
        """What is done at a step. Raises ValueError for fields that do not go together."""
        named = "momentum" if self.momentum and self.optimiser == "gd" else self.optimiser
        return Algorithm(
            named, self.momentum, self.schedule, self.batch, self.order, self.weight_decay, self.decay_towards
        )

    def description(self, scaled: "network.Network") -> str:
        """The training in sentences of a methods section; `scaled` says what outputs are."""
        return (
            f"Each is trained by {algorithms.name(self.algorithm)} on the mean over "
            f"{'the samples of a batch' if self.batch else 'training samples'} and outputs "
            f"of (f - y)^2/2, for {self.steps.description()}.{algorithms.details(self.algorithm)} "
            f"{algorithms.rate(self, scaled)} Training is in {self.precision}, its matrix products in "
            f"JAX's precision {self.matmul_precision}."
        )


ARRAYS = (
    Array("test_point_loss", (*CELL, "member", "test_point"), "f4", "1",
          "sum over outputs of (f-y)^2 / (2 outputs) at each test point"),
    Array("test_loss", (*CELL, "member"), "f8", "1", "L: mean of test_point_loss over test points"),
    Array("train_loss", (*CELL, "member"), "f8", "1", "mean of the same loss over the training points"),
    Array("test_loss_trace", (*CELL, "member", "trace_point"), "f4", "1", "L during training"),
    Array("train_loss_trace", (*CELL, "member", "trace_point"), "f4", "1", "training loss during training"),
    Array("steps_done", (*CELL, "member"), "i4", "1", "steps after which the losses were last finite"),
    Array("status", (*CELL, "member"), "i1", "1", "0 trained, 1 diverged, -1 not computed"),
    Array("prediction_mean", (*CELL, "tile", "test_point", "output"), "f8", "1",
          "mean of f over the trained members of each tile"),
    Array("prediction_m2", (*CELL, "tile", "test_point", "output"), "f8", "1",
          "sum over a tile's trained members of (f - prediction_mean)^2"),
    Array("prediction", (*CELL, "member", "test_point", "output"), "f4", "1",
          "f of each member, if ensemble.predictions", when=lambda study: study.ensemble.predictions),
    Array("last_rise", (*CELL, "member"), "i4", "1",
          "last step at which the training loss rose as no stable linear model's does; 0 if it never did, -1 if the "
          "algorithm does not tell",
          when=lambda study: is_watched(study)),
)  # fmt: skip


def compute(work: "Work[EnsembleStudy]") -> Values:
    from ntkhpc import training

    study, inputs = work.study, work.inputs
    n, draw, at = work.block.value("n_train"), work.block.index("draw"), work.block.index("n_train")
    chosen = inputs["permutation"][draw, :n]
    trained_as = program(study, work.block.value("width"), study.trace_steps(n))
    tile, written = study.ensemble.tile, [array.name for array in ARRAYS if array.when(study)]

    def train(number: int) -> dict[str, np.ndarray]:
        # The last tile is padded with members beyond the ensemble: the tile is what fixes the compiled program.
        first = number * tile
        trained = training.train_tile(
            trained_as,
            inputs["x_train"][chosen],
            inputs["y_train"][chosen],
            inputs["x_test"],
            inputs["y_test"],
            learning_rate=float(inputs["learning_rate"][draw, at]),
            seed=study.seed,
            members=range(first, first + tile),
            lanes=lanes(study, trained_as.width, n, work.lane_bytes),
        )
        real = min(study.trained_members - first, tile)
        values = tile_values(trained_as.trace_steps, trained, inputs["y_test"], real, most_growth(study))
        return {name: values[name] for name in written}  # predictions are as large as the losses

    tiles = [work.tile(number, partial(train, number)) for number in work.block.range("tile")]
    return _assemble(written, tiles)


def is_watched(study: "EnsembleStudy") -> bool:
    """Whether the training loss of single steps is looked at, of algorithms that let it fall: for the second run, and
    where outputs are scaled, as features that move may make the loss go up and down for ever."""
    return study.ensemble.recheck > 0 or study.network.is_scaled


def program(study: "EnsembleStudy", width: int, trace_steps: tuple[int, ...]) -> "Program":
    """What is trained, as the science knows it: a training option is handed on here and nowhere else."""
    from ntkhpc.training import Program

    return Program(
        mlp=mlp(study),
        width=width,
        trace_steps=trace_steps,
        momentum=study.training.momentum,
        precision=study.training.precision,
        matmul_precision=study.training.matmul_precision,
        watched=is_watched(study) and study.training.algorithm.falls,
        algorithm=study.training.algorithm,
        output_scale=study.network.output_scale(width),
        layerwise=study.network.parametrisation == "mup" and study.training.algorithm.entry.bound is None,
    )


def lanes(study: "EnsembleStudy", width: int, n_train: int, usable: int | None) -> Lanes:
    """How many members of a cell are trained at once, in so many `usable` bytes of a GPU; None of a CPU.

    Networks that are not fully connected are trained one after another.
    """
    if study.network.architecture:
        return MAPPED
    return lanes_for(sizes(study, width, n_train), study.training.algorithm, study.ensemble.tile, usable)


def sizes(study: "EnsembleStudy", width: int, n_train: int) -> Sizes:
    itemsize = np.dtype(study.training.precision).itemsize
    depth = study.network.depth
    return Sizes(study.features, width, depth, study.outputs, n_train, study.data.test, itemsize)


def lanes_of_block(study: "EnsembleStudy", block: Block, usable: int | None) -> int:
    return lanes(study, block.value("width"), block.value("n_train"), usable).count


EXPLOSION = 100.0
"""Training loss at the end over that at the start, beyond which a member diverged whose loss may rise at a step."""


def most_growth(study: "EnsembleStudy") -> float:
    """The training loss at the end over that at the start beyond which a member counts as diverged."""
    return 1.0 if study.training.algorithm.falls else EXPLOSION


def tile_values(
    trace_steps: tuple[int, ...], trained: "Trained", y_test: np.ndarray, members: int, most_growth: float = 1.0
) -> dict[str, np.ndarray]:
    """The stored values of a tile's first `members` members: losses per point, traces, status, moments of f.

    A member whose training loss ends at more than `most_growth` of what it began with diverged.
    """
    predictions = trained.predictions[:members].astype(np.float64)
    train_trace, test_trace = trained.train_loss[:members], trained.test_loss[:members]
    outputs = y_test.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        point_loss = (((predictions - y_test) ** 2).sum(axis=2) / (2 * outputs)).astype(np.float32)
        test_loss = point_loss.mean(axis=1, dtype=np.float64)
        finite = np.isfinite(train_trace) & np.isfinite(test_trace)
        # Full-batch descent below the stability bound never ends above where it began: a finite explosion diverged too.
        descended = train_trace[:, -1] <= most_growth * train_trace[:, 0]
        trained_well = finite.all(axis=1) & descended & np.isfinite(test_loss)
        # What explodes in float64 may be beyond float32.
        test_stored, train_stored, stored = (a.astype(np.float32) for a in (test_trace, train_trace, predictions))
    kept = predictions[trained_well]
    empty = np.full(predictions.shape[1:], np.nan)
    mean = kept.mean(axis=0) if len(kept) else empty
    return {
        "test_point_loss": point_loss,
        "test_loss": test_loss,
        "train_loss": train_trace[:, -1].astype(np.float64),
        "test_loss_trace": test_stored,
        "train_loss_trace": train_stored,
        "steps_done": _steps_done(finite, trace_steps),
        "status": np.where(trained_well, OK, DIVERGED).astype(np.int8),
        "prediction_mean": mean[None],
        "prediction_m2": (((kept - mean) ** 2).sum(axis=0) if len(kept) else empty)[None],
        "prediction": stored,
        "last_rise": trained.last_rise[:members].astype(np.int32),
    }


def _steps_done(finite: np.ndarray, trace_steps: tuple[int, ...]) -> np.ndarray:
    """Steps at the last trace point before the first loss that is not finite; -1 if there is none."""
    count = np.where(finite.all(axis=1), finite.shape[1], finite.argmin(axis=1))
    return np.array([-1, *trace_steps], np.int32)[count]


def _assemble(written: list[str], tiles: list[dict[str, np.ndarray]]) -> Values:
    """Join tiles along members, or along tiles for their moments, into the block's part of each array."""
    return {name: np.concatenate([tile[name] for tile in tiles])[(None,) * len(CELL)] for name in written}


def seconds(study: "EnsembleStudy", block: Block) -> float:
    """The last tile is trained whole, padded with members beyond the ensemble."""
    members = len(block.range("tile")) * study.ensemble.tile
    return training_cost.members_seconds(study, block.value("width"), block.value("n_train"), members)


def tile_seconds(study: "EnsembleStudy", block: Block) -> float:
    return training_cost.members_seconds(study, block.value("width"), block.value("n_train"), study.ensemble.tile)


def memory_bytes(study: "EnsembleStudy") -> int:
    """The split, networks, and the values: as tiles, joined, as they are written, as they are read back."""
    network = training_cost.network_bytes(study, study.training.precision)
    return memory.TRAINING + memory.rows(study) + 4 * chunk_bytes(study) + network + _lanes_bytes(study)


def _lanes_bytes(study: "EnsembleStudy") -> int:
    """What the small networks take that a CPU trains at once; at test points each is evaluated by itself."""
    found, algorithm = 0, study.training.algorithm
    for width, n in itertools.product(study.network.widths, study.ensemble.n_train):
        if (chosen := lanes(study, width, n, None)).count:
            training = replace(sizes(study, width, n), n_test=0)
            found = max(found, chosen.count * lane_bytes(training, algorithm, chosen.dual))
    return found


def chunk_bytes(study: "EnsembleStudy", *names: str) -> int:
    """Size of one shard's chunks, with their checksums, of all arrays or of those that are named."""
    ensemble = study.ensemble
    members = min(study.trained_members, ensemble.shard_members)
    along = {
        **dict.fromkeys(CELL, 1),
        "member": members,
        "tile": math.ceil(members / ensemble.tile),
        "trace_point": ensemble.trace_points,
        "test_point": study.data.test,
        "output": study.outputs,
    }
    return memory.of_chunks(study, ARRAYS, along, names)


PHASE = Phase(
    "ensemble",
    reads=("x_train", "y_train", "x_test", "y_test", "permutation", "learning_rate"),
    writes=ARRAYS,
    blocks=(*CELL, "member"),
    seconds=seconds,
    tile_seconds=tile_seconds,
    memory_bytes=memory_bytes,
    compute=compute,
    compiled=("width", "n_train"),
    lanes=lanes_of_block,
    prefix="",
    fewer="raise ensemble.shard_members (a multiple of ensemble.tile) or lower ensemble.draws",
    lower="network.widths, ensemble.n_train, data.test or ensemble.shard_members",
    shorten="ensemble.tile",
    probed=True,
)
