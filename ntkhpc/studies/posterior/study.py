"""Studies of kind `bayes`: networks of one hidden layer whose weights have a posterior [arXiv:2209.04882].

p(theta | D) ~ exp{ -SSE/(2 T) - sum_l lam_l |W_l|^2 / 2 } ;  f = v . phi(W x / sqrt(N_0)) / sqrt(N_1)
"""

import math
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from ntkhpc.phase.section import Increasing, Positive, PositiveFloat, Section, require_increasing
from ntkhpc.studies.base import AnyStudy


class BayesNetwork(Section, frozen=True, kw_only=True):
    """Fully connected networks with one hidden layer of each of the widths; no biases."""

    widths: Increasing
    activation: Literal["erf", "relu"] = "erf"

    def __post_init__(self) -> None:
        require_increasing("widths", self.widths)


class Posterior(Section, frozen=True, kw_only=True):
    """Likelihood, prior and training sets; precisions are those of the hidden weights and of the read-out."""

    n_train: Increasing
    draws: Positive = 1
    temperature: PositiveFloat = 0.01
    precisions: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)


class Scan(Section, frozen=True, kw_only=True):
    """Other temperatures, and factors on the read-out's precision, at which theory alone is computed."""

    temperatures: tuple[PositiveFloat, ...] = ()
    readout_factors: tuple[PositiveFloat, ...] = ()

    def __post_init__(self) -> None:
        for name in ("temperatures", "readout_factors"):
            require_increasing(name, getattr(self, name))


class Sampling(Section, frozen=True, kw_only=True):
    """Chains of posterior samples. Without `widths` or `n_train` those of the study; no chains: theory alone."""

    chains: Annotated[int, Meta(ge=0)] = 4
    shard_chains: Positive = 4
    sampler: Literal["hmc", "nuts", "langevin"] = "hmc"
    warmup: Positive = 300
    draws: Annotated[int, Meta(ge=8)] = 400
    tile: Positive = 100
    thin: Positive = 1
    learning_rate: PositiveFloat = 1e-3
    widths: tuple[Positive, ...] = ()
    n_train: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        for name in ("widths", "n_train"):
            require_increasing(name, getattr(self, name))
        if self.chains == 1:
            raise ValueError("chains = 1 cannot show whether it has converged: give at least 2, or 0 for theory alone")
        if self.draws % self.tile:
            raise ValueError(
                f"draws = {self.draws} must be a multiple of tile = {self.tile}: "
                f"try {max(1, round(self.draws / self.tile)) * self.tile}"
            )


class AdaptiveKernel(Section, frozen=True, kw_only=True):
    """Populations of neurons of the theory in `ntkhpc.bayesian.adaptive`, wherever there are chains; 0: without it."""

    populations: Annotated[int, Meta(ge=0)] = 4
    neurons: Annotated[int, Meta(ge=2)] = 2000
    updates: Annotated[int, Meta(ge=20)] = 300

    def __post_init__(self) -> None:
        if self.populations == 1:
            raise ValueError("populations = 1 cannot show its error: give at least 2, or 0 to go without this theory")


class BayesStudy(AnyStudy, frozen=True, kw_only=True):
    """Theory of the posterior over widths, training-set sizes and temperatures, beside samples of it."""

    title: ClassVar[str] = "Posterior of Bayesian networks of one hidden layer"
    loss: ClassVar[str] = "L = sum over test points a of (f(x_a) - y_a)^2 / N_T, twice that of kind ensemble"

    kind: Literal["bayes"]
    network: BayesNetwork
    posterior: Posterior
    scan: Scan = Scan()
    sampling: Sampling = Sampling()
    adaptive: AdaptiveKernel = AdaptiveKernel()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_pool("posterior.n_train", self.posterior.n_train[-1])
        facts = self.facts or self.data.facts()
        if facts and facts.outputs > 1:
            raise ValueError(
                f"the data have {facts.outputs} outputs; studies of kind bayes have one: give images one number "
                "for each class (data.targets), or a table one target. ntkhpc.bayesian.multi_output knows several"
            )
        for field, chosen, known in (
            ("widths", self.sampling.widths, self.network.widths),
            ("n_train", self.sampling.n_train, self.posterior.n_train),
        ):
            if foreign := set(chosen) - set(known):
                raise ValueError(f"sampling.{field} has {min(foreign)}, which is none of {list(known)}")

    @property
    def sampled_widths(self) -> tuple[int, ...]:
        return self.sampling.widths or self.network.widths

    @property
    def sampled_sizes(self) -> tuple[int, ...]:
        """Training-set sizes at which there are chains, and populations of neurons."""
        return self.sampling.n_train or self.posterior.n_train

    @property
    def theory_widths(self) -> tuple[float, ...]:
        """Widths of the theory: those of the study, and infinity."""
        return (*map(float, self.network.widths), math.inf)

    @property
    def orders(self) -> int:
        return self.posterior.draws

    @property
    def numerics(self) -> dict[str, object]:
        return {"tile": self.sampling.tile, "shard_chains": self.sampling.shard_chains, "precision": "float64"}
