"""Studies of kind `ensemble`: networks trained from many initialisations, beside their law at infinite width."""

from typing import Literal

from ntkhpc.references import EHK, FEATURE_STRENGTH, LAYERWISE_RATES, LEE, NEURAL_TANGENTS, Reference
from ntkhpc.studies.base import Study
from ntkhpc.studies.ensemble import algorithms, exact, leaps, redraws, standing
from ntkhpc.studies.ensemble.curve import InfiniteWidth, Time
from ntkhpc.studies.ensemble.members import Ensemble
from ntkhpc.studies.ensemble.network import Network, require_built
from ntkhpc.studies.ensemble.train import StepRule, TrainingSettings

__all__ = ["Ensemble", "EnsembleStudy", "InfiniteWidth", "Network", "StepRule", "Time", "TrainingSettings"]


class EnsembleStudy(Study, frozen=True, kw_only=True):
    """Trained networks of several widths and training-set sizes, and infinitely wide ones."""

    network: Network
    ensemble: Ensemble
    training: TrainingSettings = TrainingSettings()
    infinite_width: InfiniteWidth = InfiniteWidth()
    kind: Literal["ensemble"] = "ensemble"

    def __post_init__(self) -> None:
        super().__post_init__()
        for section, sizes in (("ensemble", self.ensemble.n_train), ("infinite_width", self.curve_sizes)):
            self.require_pool(f"{section}.n_train", sizes[-1])
        if exact.has_curves(self):
            self.infinite_width.require_possible(self.curve_sizes)
        exact.require_possible(self)
        leaps.require_possible(self)
        if self.network.architecture and (self.facts or self.data.facts()):
            require_built(self)
        for n in (*self.ensemble.n_train, *self.curve_sizes):
            self.training.steps(n)  # which refuses more than there can be
        fewest = self.training.steps(self.ensemble.n_train[0])
        if fewest < self.ensemble.trace_points - 1:
            raise ValueError(
                f"ensemble.trace_points = {self.ensemble.trace_points} needs at least {self.ensemble.trace_points - 1} "
                f"steps, but n_train = {self.ensemble.n_train[0]} trains for {fewest}"
            )

    @property
    def references(self) -> tuple[Reference, ...]:
        library = (NEURAL_TANGENTS,) if self.network.architecture else ()
        return (EHK, LEE, *library, *self.network.references, *self._references, *super().references)

    @property
    def _references(self) -> tuple[Reference, ...]:
        bound = self.training.algorithm.entry.bound
        lowered = (FEATURE_STRENGTH,) if self.network.rate_factor != 1 and bound is not None else ()
        mean_field = self.network.parametrisation == "mup"
        own = algorithms.references(self.training.algorithm)
        return (*own, *lowered, *((LAYERWISE_RATES,) if mean_field and not self.training.algorithm.entry.bound else ()))

    def methods(self) -> tuple[str, ...]:
        return (
            *super().methods(),
            f"{self.network.description(self.outputs)} {self.training.description(self.network)}",
            f"{self.ensemble.description(self.seed)} {self._law()}{self._curves()}".strip(),
            f"The test loss L of one network is the mean over the N_T = {self.data.test:,} test points and the outputs "
            "of (f - y)^2/2; mu_L and sigma_L are its mean and standard deviation over initialisations, and "
            "eps_L = sigma_L/mu_L (arXiv:2503.05938).",
        )

    def _curves(self) -> str:
        if not exact.has_curves(self):
            return ""
        return self.infinite_width.description(self.training.steps.description(), self.curve_sizes)

    def _law(self) -> str:
        known = (
            "At infinite width f is Gaussian: its exact law after the same "
            "steps on the same samples follows from kernels of the NTK parametrisation in float64 (arXiv:1902.06720), "
            "without training a network. "
        )
        if self.network.is_scaled:
            known = known.replace("its exact law", "the exact law, at fixed gamma,")
        if not exact.has_law(self):
            without = algorithms.without_law(self.training.algorithm)
            return (
                f"There is {without}. Laws at infinite width are those of {algorithms.REFERENCE}, as a reference; they "
                "follow from kernels of the NTK parametrisation in float64 (arXiv:1902.06720). "
            )
        if not exact.has_curves(self):
            return f"{known}{standing.sentence(self)}. "
        if len(exact.orders(self)) > 1:
            return known.replace("f is Gaussian", "f is Gaussian for each order of the batches") + (
                f"The law is the mixture of those of {exact.ORDERS} orders, which are not those of the networks. "
            )
        return known

    @property
    def trained_members(self) -> int:
        """Networks of each cell that are trained step by step."""
        return self.ensemble.trained

    @property
    def leapt_members(self) -> int:
        """Networks of each cell that are trained in leaps; the first of them are those trained step by step."""
        return self.ensemble.leapt

    @property
    def orders(self) -> int:
        return max(self.ensemble.draws + redraws.orders(self), self.infinite_width.draws)

    @property
    def numerics(self) -> dict[str, object]:
        training = self.training
        return {
            "tile": self.ensemble.tile,
            "precision": training.precision,
            "matmul_precision": training.matmul_precision,
        }

    @property
    def packages(self) -> tuple[str, ...]:
        return ("neural-tangents",) if self.network.architecture else ()

    @property
    def curve_sizes(self) -> tuple[int, ...]:
        """Training-set sizes of the infinite-width learning curve."""
        return self.infinite_width.n_train or self.ensemble.n_train

    def curve_steps(self, time: Time, n_train: int) -> int | None:
        """Steps of the infinite-width curve; None is the end of training, and the posterior, which knows none."""
        steps = {"steps": self.training.steps(n_train), "fixed": self.infinite_width.fixed_steps}
        return steps.get(time)

    def finite_steps(self, time: Time, n_train: int) -> int:
        """Steps of the infinite-width curve at a time that is not the end of training."""
        steps = self.curve_steps(time, n_train)
        assert steps is not None, time
        return steps

    def trace_steps(self, n_train: int) -> tuple[int, ...]:
        """Steps at which losses are recorded: 0, then spaced as powers, strictly increasing, the last step last."""
        points, last = self.ensemble.trace_points, self.training.steps(n_train)
        steps = [0]
        for i in range(1, points):
            wanted = round(last ** (i / (points - 1)))
            room = last - (points - 1 - i)
            steps.append(min(max(wanted, steps[-1] + 1), room))
        return tuple(steps)
