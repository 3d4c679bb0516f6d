"""Bayesian networks at finite width: published numbers on real data, and what is refused."""

import math
from pathlib import Path

import pytest
from support.bayesian_problem import (
    DATA,
    DATA2,
    X_TEST,
    Y2,
    Y2_TEST,
    Y_TEST,
    P,
    X,
    Y,
)

from ntkhpc.bayesian import OneLayerProblem, deep, mixture, multi_output, one_hidden_layer
from ntkhpc.data.cifar10 import Cifar10
from ntkhpc.data.mnist import Mnist
from ntkhpc.errors import DataError


def problem_of(section: Mnist | Cifar10) -> OneLayerProblem:
    split = section.load(section.facts())
    return OneLayerProblem.make(split.x_train, split.y_train, split.x_test, split.y_test, activation="erf")


@pytest.mark.promise("Infinite-width losses of MNIST published in arXiv:2209.04882 are met within 3 %.")
def test_mnist_as_published(shared_data: Path) -> None:
    """Fig. 1a of arXiv:2209.04882: digits 0 and 1, infinite-width losses, and a loss that rises with the width."""
    problem = problem_of(
        Mnist(
            pool=1000, test=1000, classes=(0, 1), targets=(0.0, 1.0), order="file",
            pixels="fixed", pixel_mean=0.1307, pixel_std=0.3081,
        ),
    )  # fmt: skip
    for n, published in ((100, 0.069677), (300, 0.037884), (1000, 0.017212)):
        part = problem.leading(n)
        found = [part.solve(width, 0.0) for width in (50, 200, 1000, math.inf)]
        assert found[-1].test_loss == pytest.approx(published, rel=0.03)
        assert found[0].s < 1
        losses = [one.test_loss for one in found]
        assert losses == sorted(losses)


def test_cifar_10_the_other_way_round(shared_data: Path) -> None:
    """Airplanes and automobiles, 28 x 28 grey: s > 1, and the loss falls with the width."""
    problem = problem_of(
        Cifar10(
            pool=300, test=175, classes=("airplane", "automobile"), targets=(0.0, 1.0), order="file", grey=True,
            size=28, pixels="fixed", pixel_mean=0.48, pixel_std=0.24,
        ),
    )  # fmt: skip
    for n in (100, 300):
        found = [problem.leading(n).solve(width, 0.0) for width in (50, 200, 1000, math.inf)]
        assert found[0].s > 1
        losses = [one.test_loss for one in found]
        assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"width": 0.5}, "width = 0.5"),
        ({"width": math.nan}, "width = nan"),
        ({"activation": "tanh"}, "none of erf, relu, linear"),
        ({"precisions": (1.0,)}, "1 precisions given"),
        ({"precisions": (1.0, 0.0)}, "precision = 0.0"),
        ({"order_parameters": 3}, "order_parameters = 3"),
        ({"y_train": Y[:-1]}, "differ in rows"),
        ({"y_train": Y2}, "differ in outputs"),
        ({"y_train": Y2, "y_test": Y2_TEST}, "3 outputs"),
        ({"x_test": X_TEST[:, 1:]}, "differ in features"),
        ({"x_train": X[0]}, "must be"),
        ({"x_train": X * math.nan}, "not finite"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict, message: str) -> None:
    given = dict(zip(("x_train", "y_train", "x_test", "y_test"), DATA, strict=True))
    with pytest.raises(ValueError, match=message):
        one_hidden_layer(**({**given, "width": 10, "temperature": 0.1, "activation": "erf"} | change))


def test_what_makes_no_sense_in_deep_networks_is_refused() -> None:
    settings = {"temperature": 0.1, "activation": "erf"}
    for change, message in (
        ({"widths": []}, "no widths"), ({"widths": [3, 0]}, "width = 0"), ({"variant": "old"}, "variant"),
        ({"precisions": (1.0, 1.0)}, "2 precisions given"), ({"temperature": -1}, "temperature"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            deep(*DATA, **({"widths": [3, 3]} | settings | change))
    with pytest.raises(ValueError, match="3 outputs"):
        deep(*DATA2, widths=[3], **settings)


@pytest.mark.parametrize("order_parameters", [1, 2])
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_equal_inputs_have_no_posterior_at_zero_temperature(activation: str, order_parameters: int) -> None:
    x = X.copy()
    x[9] = x[4]
    given, settings = (x, Y, X_TEST, Y_TEST), {"activation": activation}
    for solve in (one_hidden_layer, mixture, multi_output):
        with pytest.raises(DataError, match="4 and 9 are equal"):
            solve(*given, 10, temperature=0, **settings)
    with pytest.raises(DataError, match="4 and 9 are equal"):
        deep(*given, widths=[10, 10], temperature=0, **settings)
    warm = one_hidden_layer(*given, 10, temperature=1e-6, order_parameters=order_parameters, **settings)
    assert math.isfinite(warm.test_loss)


def test_more_rows_than_features_are_too_many_for_a_linear_network_without_noise() -> None:
    with pytest.raises(DataError, match="dependent"):
        one_hidden_layer(X[:, :3], Y, X_TEST[:, :3], Y_TEST, 10, temperature=0, activation="linear")


def test_targets_of_zero_collapse_a_narrow_network_without_noise() -> None:
    for solve in (one_hidden_layer, mixture):
        with pytest.raises(ValueError, match="zero"):
            solve(X, 0 * Y, X_TEST, Y_TEST, P, temperature=0, activation="erf")
    with pytest.raises(ValueError, match="dependent"):
        multi_output(X, 0 * Y2, X_TEST, Y2_TEST, P, temperature=0, activation="erf")
    found = one_hidden_layer(X, 0 * Y, X_TEST, Y_TEST, 2 * P, temperature=0, activation="erf")
    assert found.q_bar == pytest.approx(0.5)
