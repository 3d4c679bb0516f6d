"""The answer in the first box, from curves of known shape."""

import numpy as np
import pytest

from analysis import floor
from analysis.contrasts import Curve, ErrorSource
from analysis.ensemble.answer import _about, verdict
from analysis.floor import Levelling

N = np.array([32.0, 64, 128, 256, 512, 1024, 2048])


def curve(value: np.ndarray, error: float = 0.01) -> Levelling:
    deviates = error * np.random.default_rng(1).normal(size=(len(N), 31)) / np.sqrt(31)
    return floor.levelling(Curve(N, value, (ErrorSource("draw", deviates),)))


EXACT = "At infinite width, up to N_D = 2,048: "
FALLS, FLAT = curve(N**-0.4), curve(0 * N + 0.3)
SLOWER = curve(0.3 * (N / 32) ** -0.6 + 0.1)
LOUD = curve(N**-0.1, error=3.0)


@pytest.mark.parametrize(
    ("trained", "exact", "population", "said"),
    [
        (FALLS, FALLS, FALLS, f"{EXACT}no, not at these sizes: it keeps falling."),
        (FLAT, FALLS, FALLS, f"{EXACT}no, not at these sizes: it keeps falling."),
        (FALLS, SLOWER, FALLS, f"{EXACT}not yet: it falls, but ever more slowly."),
        (FALLS, FLAT, FALLS, f"{EXACT}on this test set it does, but not on an endless one"),
        (FALLS, FLAT, FLAT, f"{EXACT}yes: over the upper sizes its exponent is closer to zero than 0.1."),
        (FLAT, curve(N**0.3), None, f"{EXACT}no: it rises."),
        (FALLS, None, None, "No, not at these sizes"),
        (FALLS, LOUD, LOUD, "No, not at these sizes"),
        (LOUD, LOUD, LOUD, "These sizes and errors cannot tell."),
        (None, None, None, "These sizes and errors cannot tell."),
    ],
)
def test_the_verdict_is_that_of_the_curve_that_goes_farthest_and_can_tell(
    trained: Levelling | None, exact: Levelling | None, population: Levelling | None, said: str
) -> None:
    assert verdict(trained, exact, population).startswith(said)


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (FALLS, "eps_L of width 8 falls with the exponent -0.4"),
        (FLAT, "no dependence of eps_L of width 8 on N_D is seen"),
        (LOUD, "it cannot be told whether eps_L of width 8 depends on N_D"),
        (SLOWER, "no pure power law"),
        (curve(0.1 + 0.02 * np.log2(N / 256) ** 2), "neither falls nor rises as a whole"),
    ],
)
def test_what_is_said_of_trained_networks_is_what_was_tested(fit: Levelling, said: str) -> None:
    assert said in _about("eps_L", "of width 8", fit)
