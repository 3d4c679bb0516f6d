"""What `make calibrate` says of its own table."""

import numpy as np
import pytest
from scipy.stats import binom

from analysis.calibration import judge
from analysis.calibration.__main__ import lines
from analysis.calibration.checks import OPEN, Tally
from analysis.calibration.judge import Row


@pytest.mark.parametrize(("rate", "count", "studies", "band"), [
    (0.60, 400, 400, (0.65, 0.71)),
    (0.75, 800, 400, (0.65, 0.71)),
    (0.04, 300, 400, (0.005, 0.02)),
])  # fmt: skip
def test_chance_is_the_binomial_tail_at_the_near_edge(rate, count, studies, band):
    independent = min(count, studies)
    found, edge = round(rate * independent), band[0] if rate < band[0] else band[1]
    tail = range(found + 1) if rate < band[0] else range(found, independent + 1)
    expected = sum(binom.pmf(k, independent, edge) for k in tail)
    assert Row(rate, count, studies, band).p_value() == pytest.approx(expected, rel=1e-9)


def test_rows_at_the_edges_of_their_bands_are_called_wrong_as_rarely_as_promised():
    """1,000 tables of 50 rows of coverage .71: at most 10 of them have one that is wrong, within 4 standard errors."""
    rng, wrong = np.random.default_rng(0), 0
    for rates in rng.binomial(400, 0.71, (1000, 50)) / 400:
        wrong += "WRONG" in judge.marks([Row(rate, 400, 400, (0.65, 0.71)) for rate in rates])
    assert wrong <= 10 + 4 * np.sqrt(10)


def test_a_table_says_which_of_its_rows_are_wrong():
    tally = Tally()
    for name, rate in (("right", 0.68), ("(control) of nothing", 0.3), ("narrow", 0.4)):
        tally.intervals[name] = [(float(i < 400 * rate), float(i < 380)) for i in range(400)]
    tally.alarms["one too often"] = [i < 40 for i in range(400)]
    tally.alarms["a bound (of 2.5 %)"] = [False] * 400
    said = list(lines(tally, 60, 400))
    assert [line.split()[0] for line in said if line.endswith("WRONG")] == ["narrow", "one"]
    assert "6 numbers: 4 within their bands, 0 outside as chance would have it, 2 WRONG" in said[-1]
    assert "6 numbers: 5 within their bands, 0 outside as chance would have it, 1 WRONG" in [*lines(tally, 20, 400)][-1]


def test_an_interval_with_an_open_end_may_be_right_more_often_and_not_less():
    for rate, wrong in ((1.0, False), (0.95, False), (0.86, True)):
        tally = Tally()
        tally.intervals[f"one {OPEN}"] = [(np.nan, float(i < 400 * rate)) for i in range(400)]
        assert next(iter(lines(tally, 60, 400))).endswith("WRONG") == wrong
        tally.intervals["another"] = tally.intervals.pop(f"one {OPEN}")
        assert next(iter(lines(tally, 60, 400))).endswith("WRONG") == (rate != 0.95)
