"""The inputs of every Bayesian theory and sampler, checked once: data, widths, temperature, precisions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Activation = Literal["erf", "relu", "linear"]


@dataclass(frozen=True)
class Data:
    """Inputs x_train (P, d), x_test (M, d) and targets y_train (P, D), y_test (M, D) in float64, all finite."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @classmethod
    def make(cls, x_train: Any, y_train: Any, x_test: Any, y_test: Any) -> "Data":
        """Targets of one output may be (n,) too. Raises ValueError for shapes that do not fit or values not finite."""
        x_train, x_test = _array("x_train", x_train, (2,)), _array("x_test", x_test, (2,))
        y_train, y_test = _array("y_train", y_train, (1, 2)), _array("y_test", y_test, (1, 2))
        y_train, y_test = (y[:, None] if y.ndim == 1 else y for y in (y_train, y_test))
        if x_train.shape[1] != x_test.shape[1]:
            raise ValueError(f"x_train {x_train.shape} and x_test {x_test.shape} differ in features")
        if y_train.shape[1] != y_test.shape[1]:
            raise ValueError(f"y_train {y_train.shape} and y_test {y_test.shape} differ in outputs")
        for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
            if len(x) != len(y):
                raise ValueError(f"x_{name} {x.shape} and y_{name} {y.shape} differ in rows")
        return cls(x_train, y_train, x_test, y_test)

    def require_one_output(self) -> None:
        if self.y_train.shape[1] != 1:
            raise ValueError(f"y_train has {self.y_train.shape[1]} outputs; more than one are for multi_output")


def require_activation(activation: str) -> None:
    if activation not in get_args(Activation):
        raise ValueError(f"activation {activation!r} is none of {', '.join(get_args(Activation))}")


def require_widths(widths: Sequence[float]) -> None:
    """Hidden units of each layer: numbers from 1 to infinity."""
    if not widths:
        raise ValueError("no widths given: a network has at least one hidden layer")
    for width in widths:
        if not width >= 1:
            raise ValueError(f"width = {width} must be at least 1 (inf for the infinite-width limit)")


def require_temperature(temperature: float) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature = {temperature} must be finite and not negative")


def require_precisions(precisions: Sequence[float], layers: int) -> None:
    """Prior precisions lam_0 (first layer) to lam_L (read-out) of L hidden layers."""
    if len(precisions) != layers + 1:
        raise ValueError(
            f"{len(precisions)} precisions given; {layers} hidden layers have {layers + 1}: "
            "one for each layer of weights, the read-out's last"
        )
    for precision in precisions:
        if not 0 < precision < math.inf:
            raise ValueError(f"precision = {precision} must be positive and finite")


def _array(name: str, values: Any, dimensions: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim not in dimensions or 0 in array.shape:
        raise ValueError(
            f"{name} has shape {array.shape}; it must be (rows, columns){' or (rows,)' * (1 in dimensions)}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}{np.argwhere(~np.isfinite(array))[0].tolist()} is not finite")
    return array


def require_random(
    widths: Sequence[float], temperature: float, activation: str, precisions: Sequence[float], seed: int
) -> None:
    """What weights are drawn for: whole numbers of units, a posterior that has a density, and a seed.

    Raises ValueError for anything else.
    """
    require_activation(activation)
    require_widths(widths)
    for width in widths:
        if math.isinf(width) or int(width) != width:
            raise ValueError(f"width = {width} must be a whole number of hidden units: a network is sampled")
    require_temperature(temperature)
    if temperature == 0:
        raise ValueError(
            "temperature = 0 has no density to sample: the posterior lies on the surface of the weights that "
            "interpolate; give a small temperature, or ask the theory, which has that limit"
        )
    require_precisions(precisions, len(widths))
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed} must be from 0 to 2^32 - 1")
