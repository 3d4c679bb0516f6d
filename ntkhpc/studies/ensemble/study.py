"""Studies of kind `ensemble`: networks trained from many initialisations, beside their law at infinite width."""

import math
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from ntkhpc.phase.section import Increasing, NonNegativeFloat, Positive, PositiveFloat, Section, require_increasing
from ntkhpc.studies.base import AnyStudy


class Network(Section, frozen=True, kw_only=True):
    """Fully connected networks of the given widths; the depth counts hidden layers."""

    widths: Increasing
    parametrisation: Literal["ntk"] = "ntk"
    depth: Positive = 1
    activation: Literal["relu", "erf"] = "relu"
    weight_variance: PositiveFloat = 2.0
    bias_variance: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        require_increasing("widths", self.widths)


class Steps(Section, frozen=True, kw_only=True):
    """Number of full-batch steps as a rule of n_train: ceil(factor * n_train ** power)."""

    factor: PositiveFloat = 4.0
    power: NonNegativeFloat = 1.0

    def __call__(self, n_train: int) -> int:
        # The small term keeps 0.1 * 30 at 3 steps, not 4.
        return max(1, math.ceil(self.factor * n_train**self.power - 1e-9))


class Training(Section, frozen=True, kw_only=True):
    """Full-batch gradient descent, with heavy-ball momentum if it is not zero."""

    steps: Steps = Steps()
    learning_rate_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    precision: Literal["float32", "float64"] = "float32"
    matmul_precision: Literal["highest", "high", "default"] = "highest"


class Ensemble(Section, frozen=True, kw_only=True):
    """Members of the initialisation ensemble, and how they are cut into tiles and shards."""

    n_train: Increasing
    members: Annotated[int, Meta(ge=2)]
    draws: Positive = 1
    tile: Positive = 10
    shard_members: Positive = 100
    trace_points: Annotated[int, Meta(ge=2)] = 12
    predictions: bool = False

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)
        if self.shard_members % self.tile:
            raise ValueError(
                f"shard_members = {self.shard_members} must be a multiple of tile = {self.tile}: "
                f"try {max(1, round(self.shard_members / self.tile)) * self.tile}"
            )


Time = Literal["steps", "fixed", "infinite"]


class InfiniteWidth(Section, frozen=True, kw_only=True):
    """The exact learning curve of infinitely wide networks. Without `n_train`, at the ensemble's sizes."""

    n_train: tuple[Positive, ...] = ()
    draws: Positive = 1
    times: Annotated[tuple[Time, ...], Meta(min_length=1)] = ("steps", "infinite")
    fixed_steps: Positive = 512

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)
        if len(set(self.times)) < len(self.times):
            raise ValueError(f"times = {list(self.times)} names one of them twice")


class Study(AnyStudy, frozen=True, kw_only=True):
    """Trained networks of several widths and training-set sizes, and infinitely wide ones."""

    title: ClassVar[str] = "Test loss over the initialisation ensemble"
    loss: ClassVar[str] = "L = sum over test points a and outputs k of (f_k(x_a) - y_ak)^2 / (2 N_T K)"

    network: Network
    ensemble: Ensemble
    training: Training = Training()
    infinite_width: InfiniteWidth = InfiniteWidth()
    kind: Literal["ensemble"] = "ensemble"

    def __post_init__(self) -> None:
        super().__post_init__()
        for section, sizes in (("ensemble", self.ensemble.n_train), ("infinite_width", self.curve_sizes)):
            self.require_pool(f"{section}.n_train", sizes[-1])
        fewest = self.training.steps(self.ensemble.n_train[0])
        if fewest < self.ensemble.trace_points - 1:
            raise ValueError(
                f"ensemble.trace_points = {self.ensemble.trace_points} needs at least {self.ensemble.trace_points - 1} "
                f"steps, but n_train = {self.ensemble.n_train[0]} trains for {fewest}"
            )

    @property
    def orders(self) -> int:
        return max(self.ensemble.draws, self.infinite_width.draws)

    @property
    def numerics(self) -> dict[str, object]:
        training = self.training
        return {
            "tile": self.ensemble.tile,
            "precision": training.precision,
            "matmul_precision": training.matmul_precision,
        }

    @property
    def curve_sizes(self) -> tuple[int, ...]:
        """Training-set sizes of the infinite-width learning curve."""
        return self.infinite_width.n_train or self.ensemble.n_train

    def curve_steps(self, time: Time, n_train: int) -> int | None:
        """Steps of the infinite-width curve; None is the end of training."""
        steps = {"steps": self.training.steps(n_train), "fixed": self.infinite_width.fixed_steps, "infinite": None}
        return steps[time]

    def trace_steps(self, n_train: int) -> tuple[int, ...]:
        """Steps at which losses are recorded: 0, then spaced as powers, strictly increasing, the last step last."""
        points, last = self.ensemble.trace_points, self.training.steps(n_train)
        steps = [0]
        for i in range(1, points):
            wanted = round(last ** (i / (points - 1)))
            room = last - (points - 1 - i)
            steps.append(min(max(wanted, steps[-1] + 1), room))
        return tuple(steps)
