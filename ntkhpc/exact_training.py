"""How infinitely wide networks are trained, for their exact law: how long, how fast, and what filter that makes.

After t steps of gradient descent at the rate eta each eigenmode l of the NTK has G(l) = 1 - (1 - eta l/c)^t of its end,
c = n_train * outputs; heavy-ball momentum has a polynomial of its own. Other algorithms are those of responses.py.
"""

import math
from dataclasses import dataclass

import numpy as np

from ntkhpc import optimisers
from ntkhpc.optimisers import Algorithm


@dataclass(frozen=True)
class Training:
    """How long and how fast: `time` steps (inf: to the end) at `learning_rate`, or, where that is None, at
    `learning_rate_fraction` of the stability bound, 2 (1 + momentum) c / lambda_max for heavy-ball descent.

    Orders of mini-batches are those of `seed`: what all members share, or one (`order`) of those that stand for the
    members' own. `degree` is the `homogeneity` of the network, which weight decay to zero needs.
    """

    time: float = math.inf
    learning_rate: float | None = None
    learning_rate_fraction: float = 0.5
    momentum: float = 0.0
    algorithm: Algorithm = optimisers.PLAIN
    seed: int = 0
    order: int | None = None
    degree: int | None = None

    @property
    def trained_by(self) -> Algorithm:
        """The algorithm with its momentum."""
        return optimisers.trained_by(self.algorithm, self.momentum)

    def __post_init__(self) -> None:
        algorithm = self.trained_by
        if not algorithm.has_law(self.degree):
            raise ValueError(
                f"optimiser = {algorithm.optimiser!r} with weight_decay = {algorithm.weight_decay:g} has no "
                "known law: adam and adamw have none, decay to zero has one for ReLU networks without biases only"
            )
        if not (self.time == math.inf or (self.time >= 0 and self.time == int(self.time))):
            raise ValueError(f"time = {self.time} must be a whole number of steps, or inf")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum = {self.momentum} must be in [0, 1)")
        if not 0 < self.learning_rate_fraction < 1:
            raise ValueError(f"learning_rate_fraction = {self.learning_rate_fraction} must be in (0, 1)")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate = {self.learning_rate} must be positive")


def learning_rate(training: Training, largest: float, c: float, diagonal: np.ndarray | None = None) -> float:
    """eta of a training, its peak, given lambda_max and c = n_train * outputs. Raises ValueError if it diverges.

    `diagonal` (n_train,) is that of the kernel, which the bound of mini-batches needs.
    """
    algorithm = training.trained_by
    samples = c if diagonal is None else len(diagonal)
    if algorithm.batch:
        bound = optimisers.stability_bound(algorithm, largest, samples, c / samples, diagonal)
    else:
        bound = optimisers.stability_bound(algorithm, largest, c, 1)
    if training.learning_rate is None:
        return training.learning_rate_fraction * bound
    if training.time < math.inf and training.learning_rate >= bound:
        raise ValueError(
            f"learning_rate = {training.learning_rate:g} diverges: the bound "
            f"{'2 (1 + momentum) c/lambda_max' if algorithm.is_plain else f'of {algorithm.optimiser}'} is {bound:g}"
        )
    return training.learning_rate


def filtered_inverse(values: np.ndarray, training: Training, rate: float) -> np.ndarray:
    """G(l)/l at each eigenvalue l: what multiplies T^-1 after `time` steps; `rate` is eta/c.

    G = 1 - p_t(l) with p_0 = 1, p_1 = 1 - rate l, p_(t+1) = (1 + beta - rate l) p_t - beta p_(t-1): gradient descent
    for beta = 0. G is computed without the difference, which would lose the modes that have hardly moved. Raises
    ValueError for other algorithms, which responses.py is for.
    """
    if not training.trained_by.is_plain:
        raise ValueError(f"the filter of {training.trained_by.optimiser} is in ntkhpc.responses")
    if training.time == math.inf:
        return 1 / values
    x, steps, beta = rate * values, int(training.time), training.trained_by.momentum
    if not beta:
        with np.errstate(divide="ignore"):
            slow = -np.expm1(steps * np.log1p(-np.minimum(x, 0.5)))
        g = np.where(x < 0.5, slow, 1 - (1 - x) ** steps)
    else:
        before, g = np.zeros_like(x), x if steps else np.zeros_like(x)
        for _ in range(steps - 1):
            before, g = g, (1 + beta - x) * g - beta * before + x
    # At l = 0 (rounding may leave a little less) the limit is the sum of all steps.
    tiny = abs(values) < np.finfo(float).tiny
    return np.where(tiny, rate * _path_length(steps, beta), g / np.where(tiny, 1, values))


def _path_length(steps: int, beta: float) -> float:
    """dG/dx at x = 0: the sum over steps of 1 + beta + beta^2 + ... up to the step's own number of terms."""
    return (steps - beta * (1 - beta**steps) / (1 - beta)) / (1 - beta)


def ridge_of_decay(algorithm: Algorithm, c: float) -> float:
    """r of the end of training with weight decay; c = n_train * outputs. Raises ValueError where nothing is reached.

    Towards the start the fixed point is that of the penalty r |theta - theta_0|^2 / (2c) with r = (1 - momentum)
    weight_decay c, as a constant gradient makes a velocity of 1/(1 - momentum) times itself and the decay none. To
    zero the untrained part of f dies out, and with it the law; mini-batches have no fixed point in common.
    """
    if not algorithm.weight_decay:
        return 0.0
    if algorithm.decay_towards == "zero":
        raise ValueError("time = inf: weight decay to zero has no law at the end of training, where kernels have moved")
    if algorithm.batch:
        raise ValueError(
            "time = inf: mini-batches with weight decay have no fixed point in common; name a number of steps"
        )
    return (1 - algorithm.momentum) * algorithm.weight_decay * c


def shrinks(algorithm: Algorithm) -> bool:
    """Whether weights decay towards zero."""
    return bool(algorithm.weight_decay) and algorithm.decay_towards == "zero"
