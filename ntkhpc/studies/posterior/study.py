"""Studies of kind `bayes`: networks of one hidden layer whose weights have a posterior [arXiv:2209.04882].

p(theta | D) ~ exp{ -SSE/(2 T) - sum_l lam_l |W_l|^2 / 2 } ;  f = v . phi(W x / sqrt(N_0)) / sqrt(N_1)
"""

import math
from typing import Literal

from ntkhpc.phase.settings import Increasing, Positive, PositiveFloat, Settings, require_increasing
from ntkhpc.references import EHK, LEE, PAP, Reference
from ntkhpc.studies.base import Study
from ntkhpc.studies.posterior.adaptive import AdaptiveKernel
from ntkhpc.studies.posterior.chains import Sampling
from ntkhpc.studies.posterior.theory import DESCRIPTION as THEORY_DESCRIPTION
from ntkhpc.studies.posterior.theory import Scan
from ntkhpc.words import count, numbers

__all__ = ["AdaptiveKernel", "PosteriorNetwork", "PosteriorSettings", "PosteriorStudy", "Sampling", "Scan"]


class PosteriorNetwork(Settings, frozen=True, kw_only=True):
    """Fully connected networks with one hidden layer of each of the widths; no biases."""

    widths: Increasing
    activation: Literal["erf", "relu"] = "erf"

    def __post_init__(self) -> None:
        require_increasing("widths", self.widths)

    def description(self) -> str:
        """The networks in a sentence of a methods section."""
        return (
            f"Networks f = v . phi(W x/sqrt(N0))/sqrt(N1) have N0 inputs, one hidden layer of N1 = "
            f"{numbers(self.widths, 'or')} units, {self.activation.replace('relu', 'ReLU')} activation phi, one linear "
            "output and no biases."
        )


class PosteriorSettings(Settings, frozen=True, kw_only=True):
    """Likelihood, prior and training sets; precisions are those of the hidden weights and of the read-out."""

    n_train: Increasing
    draws: Positive = 1
    temperature: PositiveFloat = 0.01
    precisions: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)

    def __post_init__(self) -> None:
        require_increasing("n_train", self.n_train)

    def description(self) -> str:
        """Likelihood, prior and training sets in sentences of a methods section."""
        hidden, readout = self.precisions
        return (
            "Their weights have the posterior p(W, v | data) ~ exp(-SSE/(2 T) - lam_0 |W|^2/2 - lam_1 |v|^2/2), with "
            f"SSE the sum over training samples of (f - y)^2, temperature T = {self.temperature:g}, lam_0 = {hidden:g} "
            f"and lam_1 = {readout:g}. Training sets have P = N_D = {numbers(self.n_train)} samples and are nested: "
            f"each begins with the one before; there {'is' if self.draws == 1 else 'are'} {count(self.draws, 'draw')} "
            "of them."
        )


class PosteriorStudy(Study, frozen=True, kw_only=True):
    """Theory of the posterior over widths, training-set sizes and temperatures, beside samples of it."""

    kind: Literal["bayes"]
    network: PosteriorNetwork
    posterior: PosteriorSettings
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
    def references(self) -> tuple[Reference, ...]:
        return (PAP, EHK, LEE, *super().references, *self.sampling.references)

    def methods(self) -> tuple[str, ...]:
        computed = (
            THEORY_DESCRIPTION,
            self.scan.description(),
            self.adaptive.description(),
            self.sampling.description(self.seed, self.sampled_widths, self.sampled_sizes),
        )
        return (
            *super().methods(),
            f"{self.network.description()} {self.posterior.description()}",
            " ".join(one for one in computed if one),
            f"The test loss L of one network is the mean over the N_T = {self.data.test:,} test points of (f - y)^2, "
            "without the factor 1/2 of studies of kind ensemble; mu_L and sigma_L are its mean and standard deviation, "
            "and eps_L = sigma_L/mu_L (arXiv:2503.05938). All is computed in float64.",
        )

    @property
    def orders(self) -> int:
        return self.posterior.draws

    @property
    def numerics(self) -> dict[str, object]:
        return {"tile": self.sampling.tile, "shard_chains": self.sampling.shard_chains, "precision": "float64"}
