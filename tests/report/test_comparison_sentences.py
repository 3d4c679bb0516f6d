"""What is said of differences between variants is what was tested, and how far it could have been seen."""

import math

import numpy as np
import pytest

from analysis.comparison import sentences
from analysis.comparison.differences import RESOLVED, PairedDifference, What
from analysis.contrasts import LEVEL, Estimate


def difference(
    value: float, error: float, *, what: What = "exponent", variant: str = "adam", width: int = 64, p: float = math.nan
) -> PairedDifference:
    one = Estimate(value, {"members": error}, dof=80.0)
    own = one.p_value() if math.isnan(p) else p
    return PairedDifference(what, "mu_L", width, variant, one, own, own, tests=1)


FAR, NEAR, LOUD = difference(0.2, 0.02), difference(0.01, 0.02), difference(0.1, 0.3)
GD = Estimate(-0.7, {"members": 0.05})


def test_a_difference_is_found_or_excluded_or_neither() -> None:
    assert [one.verdict for one in (FAR, NEAR, LOUD)] == ["differs", "alike", "unknown"]
    assert FAR.p_holm < LEVEL < NEAR.p_holm
    assert NEAR.seen <= RESOLVED["exponent"] < LOUD.seen


def test_what_would_have_been_seen_is_what_the_test_finds_in_95_of_100(rng: np.random.Generator) -> None:
    """20,000 ensembles with that difference; the share found is off by less than 4 standard deviations (6e-5)."""
    z, scale = rng.standard_normal(20_000), np.sqrt(rng.chisquare(80, 20_000) / 80)
    found = 0.02 * scale
    values = NEAR.seen + 0.02 * z
    limit = Estimate(0.0, {"members": 1.0}, dof=80.0).half(1 - LEVEL)
    share = (np.abs(values) > limit * found).mean()
    assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 20_000) + 0.002  # the shifted t is not quite Student's


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([FAR], "Of mu_L (gd: -0.70 ± 0.05 at width 64) no: what differs is adam by +0.20."),
        ([NEAR], "Of mu_L (gd: -0.70 ± 0.05 at width 64) no difference is seen for adam (0.086 would have been)."),
        ([LOUD], "Of mu_L (gd: -0.70 ± 0.05 at width 64) it cannot be told for adam (only 1.3 would have been seen)."),
    ],
)  # fmt: skip
def test_each_verdict_has_its_sentence(found: list[PairedDifference], said: str) -> None:
    assert sentences.verdict(found, "gd", GD) == said


def test_variants_and_widths_of_different_verdicts_are_told_apart() -> None:
    found = [
        difference(0.2, 0.02, width=64), difference(0.1, 0.02, width=256),
        difference(0.01, 0.02, variant="sgd", width=64), difference(0.1, 0.3, variant="sgd", width=256),
        difference(-0.2, 0.02, variant="momentum", width=64), difference(0.0, 0.03, variant="momentum", width=256),
    ]  # fmt: skip
    said = sentences.verdict(found, "gd", None)
    assert "no: what differs is adam by +0.10 and momentum by -0.20 (width 64);" in said
    assert "no difference is seen for sgd (width 64) and momentum (width 256) (0.13 would have been)" in said
    assert said.endswith("it cannot be told for sgd (width 256) (only 1.3 would have been seen).")


def test_values_are_relative_and_their_limits_factors() -> None:
    """A logarithm of -1 is a factor of e^-1, with the interval of the logarithm; 0.04 of it a factor of 1.19 seen."""
    found = difference(-1.0, 0.04, what="value")
    assert sentences.size(found) == "-63 %"
    assert sentences.ends(found) == "-66 to -60 %"
    alike = difference(0.0, 0.04, what="value")
    assert "(a factor of 1.19 would have been)" in sentences.verdict([alike], "gd", None)
    untold = difference(0.0, 5.0, what="value")
    assert "(only a factor of 10 or more would have been seen)" in sentences.verdict([untold], "gd", None)


def test_a_sentence_of_one_width_has_every_variant_whatever_its_verdict() -> None:
    said = sentences.sentence([FAR, difference(0.1, 0.3, variant="sgd")], "gd", GD)
    assert said.startswith("the exponent of mu_L is -0.70 ± 0.05 for gd; against that, +0.20 for adam (95 % +0.16")
    assert "and +0.10 for sgd (95 % -0.50 to +0.70, p = 0.74)" in said


def test_two_ensembles_that_are_the_same_to_the_bit_are_said_to_be() -> None:
    nan = math.nan
    same = PairedDifference("exponent", "mu_L", 64, "twin", Estimate(0.0, {}), nan, nan, tests=0)
    assert same.verdict == "same"
    assert sentences.verdict([same], "gd", None) == "Of mu_L twin is the same to the bit."
    assert sentences.sentence([same], "gd", GD).endswith("against that, the same, to the bit, for twin")
    assert sentences.cell(same) == "the same"
    assert same.to_dict()["p_value"] is None


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_an_error_beyond_all_numbers_is_said_and_no_error() -> None:
    """As one network of a hundred makes it whose loss is hundreds of times that of the others."""
    found = difference(0.1, 900.0, what="value")
    assert math.isinf(found.seen)
    assert found.verdict == "unknown"
    assert "(only a factor of 10 or more would have been seen)" in sentences.verdict([found], "gd", None)
    assert math.isinf(found.interval()[1])
    assert found.to_dict()["seen"] is None


def test_a_difference_without_an_error_is_no_absence_of_one() -> None:
    assert difference(0.3, 0.0).verdict == "unknown"
    assert difference(0.0, 0.0).verdict == "same"
