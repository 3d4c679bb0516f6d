"""Section [ensemble] of a study file: how many networks there are, which are trained step by step and which in leaps.

The networks of a cell that are trained and those that are leapt have the same numbers from 0 on: the first ones of both
are the same networks, which is what leaps are judged by.
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from ntkhpc.phase.settings import Increasing, Natural, Positive, Settings, require_increasing
from ntkhpc.words import count, numbers

Method = Literal["train", "leaps"]

TOLERANCE, VALIDATION = 0.1, 20
"""What `leap_tolerance` and `validation` are if a study does not say."""


class Ensemble(Settings, frozen=True, kw_only=True):
    """Members of the initialisation ensemble, and how they are cut into tiles and shards.

    With the method "train" all `members` are trained step by step, and the first `leap_members` of the same stream of
    initialisations, more or fewer than `members`, are trained in leaps beside them. With the method "leaps" all
    `members` are trained in leaps, and the first `validation` of them step by step too. `twin` adds to each network in
    leaps the one that is linearised at its initial weights.
    """

    introduced: ClassVar[dict[str, object]] = {"recheck": 0.0}

    n_train: Increasing
    members: Annotated[int, Meta(ge=2)]
    draws: Positive = 1
    tile: Positive = 10
    shard_members: Positive = 100
    trace_points: Annotated[int, Meta(ge=2)] = 12
    predictions: bool = False
    recheck: Annotated[float, Meta(ge=0, le=1)] = 0.05
    method: Method = "train"
    leap_members: Natural = 0
    leap_tolerance: Annotated[float, Meta(ge=0.001, le=0.5)] = TOLERANCE
    validation: Annotated[int, Meta(ge=2)] = VALIDATION
    twin: bool = False

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)
        if self.shard_members % self.tile:
            raise ValueError(
                f"shard_members = {self.shard_members} must be a multiple of tile = {self.tile}: "
                f"try {max(1, round(self.shard_members / self.tile)) * self.tile}"
            )
        self._require_leaps()

    def _require_leaps(self) -> None:
        """Raises ValueError for fields of leaps that do not go together, or that nothing would come of."""
        if self.method == "leaps" and self.leap_members:
            raise ValueError(
                f'leap_members = {self.leap_members}: with method = "leaps" all networks are trained in leaps, and '
                "members says how many: leave leap_members out"
            )
        if self.method == "leaps" and self.validation > self.members:
            raise ValueError(
                f"validation = {self.validation} of the networks in leaps are trained step by step too, and there are "
                f"members = {self.members}: lower validation, or raise members"
            )
        if self.method == "train" and self.validation != VALIDATION:
            raise ValueError(
                f'validation = {self.validation} is for method = "leaps"; with method = "train" all members are '
                "trained step by step, and leaps are judged by all networks that are trained both ways: leave it out"
            )
        if self.leap_members == 1:
            raise ValueError("leap_members = 1: one network has no spread; 2 is the least, and 0 means none")
        if self.leapt:
            return
        given = {"twin": self.twin, "leap_tolerance": self.leap_tolerance != TOLERANCE}
        for name in (name for name, is_given in given.items() if is_given):
            raise ValueError(
                f"{name} = {str(getattr(self, name)).lower()} is about networks that are trained in leaps, and there "
                f'are none: give leap_members, such as 200, or method = "leaps", or leave {name} out'
            )

    @property
    def trained(self) -> int:
        """Networks of each cell that are trained step by step."""
        return self.members if self.method == "train" else self.validation

    @property
    def leapt(self) -> int:
        """Networks of each cell that are trained in leaps."""
        return self.leap_members if self.method == "train" else self.members

    def description(self, seed: int) -> str:
        """The ensemble in sentences of a methods section; `seed` is the study's."""
        return (
            f"For each width and each size of the training set there are {max(self.trained, self.leapt):,} networks, "
            f"which differ by their initialisation alone (seed {seed}). Sizes are N_D = {numbers(self.n_train)}; every "
            "size has the same initialisations, and each training set begins with the one before. "
            f"There {'is' if self.draws == 1 else 'are'} {count(self.draws, 'draw')} of the training set."
            + self._leaps()
            + self._recheck()
        )

    def _leaps(self) -> str:
        """What is trained how, in sentences that begin with a space; none where all is trained step by step."""
        if not self.leapt:
            return ""
        every = max(self.trained, self.leapt)
        step_by_step, in_leaps = (
            "all of them" if some == every else f"the first {some:,} of them" for some in (self.trained, self.leapt)
        )
        return (
            f" Trained step by step are {step_by_step}, and in leaps {in_leaps}, with the same weights to begin with. "
            "A leap takes many steps of gradient descent at once, those of the network linearised at its present "
            "weights, and moves the weights by their sum. It ends where the training residual would leave that of the "
            f"linearised network by more than {self.leap_tolerance:g} of its norm." + self._twins()
        )

    def _twins(self) -> str:
        if not self.twin:
            return ""
        return (
            " Each network that is trained in leaps has a twin, the network linearised at its initial weights, trained "
            "by the same steps in closed form."
        )

    def _recheck(self) -> str:
        if not self.recheck:
            return ""
        whose = "networks" if not self.leapt else "networks that are trained step by step"
        return (
            f" At most {100 * self.recheck:g} % of the {whose} of each cell, those whose training loss rose or that "
            "carry much of sigma_L^2 first, are trained a second time in the other precision (float64 for float32)."
        )
