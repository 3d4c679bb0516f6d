"""The upper end of a curve, against fits made another way."""

import numpy as np
import pytest

from analysis.contrasts import Curve, ErrorSource
from analysis.tails import Tail

N = np.array([32.0, 64, 128, 256, 512, 1024, 2048])


def fitted(n: np.ndarray, value: np.ndarray) -> float:
    return float(np.polyfit(np.log(n), np.log(value), 1)[0])


def curve(value: np.ndarray, error: float = 0.01, draws: int = 31) -> Curve:
    deviates = error * np.random.default_rng(1).normal(size=(len(value), draws)) / np.sqrt(draws)
    return Curve(N[-len(value) :], value, (ErrorSource("draw", deviates, draws - 1.0),))


def test_exponents_at_the_end_and_before_are_those_of_separate_fits_to_each_draw() -> None:
    rng, draws = np.random.default_rng(2), 9
    table = N**-0.5 * (1 + (N / 300) ** 0.7) * np.exp(0.1 * rng.standard_normal((draws, len(N))))
    logarithms = np.log(table)
    deviates = (logarithms - logarithms.mean(axis=0)).T / np.sqrt(draws * (draws - 1.0))
    mine = Tail(Curve(N, np.exp(logarithms.mean(axis=0)), (ErrorSource("draw", deviates, draws - 1.0),)))
    end = np.array([fitted(N[4:], row[4:]) for row in table])
    before = np.array([fitted(N[2:5], row[2:5]) for row in table])
    assert mine.n == (512, 2048)
    assert mine.before_n == 128
    for found, each in ((mine.slope, end), (mine.before, before), (mine.change, end - before)):
        assert found is not None
        assert found.value == pytest.approx(each.mean())
        assert found.stderr == pytest.approx(each.std(ddof=1) / np.sqrt(draws))
        assert found.dof == pytest.approx(draws - 1)


def test_of_sizes_far_apart_the_tail_has_three_and_the_step_before_is_the_next() -> None:
    n = np.array([10.0, 100, 1000, 10000, 100000])
    value = np.array([1.0, 0.5, 0.2, 0.1, 0.07])
    mine = Tail(Curve(n, value))
    assert mine.n == (1000, 100000)
    assert mine.slope.value == pytest.approx(fitted(n[2:], value[2:]))
    assert mine.before_n == 100
    assert mine.before is not None
    assert mine.before.value == pytest.approx(np.log10(0.2 / 0.5))


def test_a_curve_that_is_all_tail_has_nothing_before() -> None:
    mine = Tail(curve(N[-3:] ** -0.5))
    assert (mine.before_n, mine.before, mine.change, mine.slows, mine.steepens) == (None, None, None, False, False)
    assert mine.end == "falls"


@pytest.mark.parametrize(
    ("value", "error", "end", "slows", "steepens"),
    [
        (N**-0.4, 0.01, "falls", False, False),
        (0.3 * (N / 32) ** -0.6 + 0.1, 0.001, "falls", True, False),
        (N**-0.4 * np.exp(-N / 2000), 0.001, "falls", False, True),
        (0 * N + 0.3, 0.01, "independent", False, False),
        (N**0.4, 0.01, "rises", False, False),
        (N**-0.4, 3.0, "unknown", False, False),
    ],
)
def test_what_a_tail_does_is_told_where_its_error_allows(
    value: np.ndarray, error: float, end: str, slows: bool, steepens: bool
) -> None:
    mine = Tail(curve(value, error))
    assert (mine.end, mine.slows, mine.steepens) == (end, slows, steepens)


def test_without_an_error_nothing_is_told() -> None:
    mine = Tail(curve(N**-0.4))
    assert mine.knows("draw")
    assert not mine.knows("draw", "test points")
    assert mine.of("test points").end == "unknown"
