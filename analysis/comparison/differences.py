"""Every variant against the reference: exponents, and values at the largest training-set size, paired by member."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.agreement import LARGE
from analysis.comparison import paired
from analysis.comparison.holm import adjusted
from analysis.contrasts import LEVEL, Estimate
from analysis.ensemble.results import EnsembleResults
from analysis.floor import INDEPENDENT
from analysis.scaling import plain

What = Literal["exponent", "value"]
Verdict = Literal["same", "differs", "alike", "unknown"]

COMPARED: tuple[tuple[What, str], ...] = (
    ("exponent", "mu_L"), ("exponent", "eps_L"), ("exponent", "eps_pop"), ("value", "mu_L"), ("value", "eps_L"),
)  # fmt: skip
"""What is compared, and in which order it is said."""

RESOLVED: Mapping[str, float] = {"exponent": 2 * INDEPENDENT, "value": LARGE}
"""A difference that a test must be able to see, or it cannot tell: of exponents absolute, of values relative."""


@dataclass(frozen=True)
class PairedDifference:
    """A variant less the reference at one width: of exponents the difference, of values log(value/reference).

    `p_value` is Student's of no difference, `p_holm` Holm's over the `tests` variants of the same quantity and width:
    where no variant differs, one of them is called different with the probability LEVEL at most. Both are NaN of
    ensembles that are the same to the bit, as of two names for one scale of the outputs.
    """

    what: What
    quantity: str
    width: int
    variant: str
    estimate: Estimate
    p_value: float
    p_holm: float
    tests: int

    @property
    def differs(self) -> bool:
        return self.p_holm < LEVEL

    @property
    def seen(self) -> float:
        """What would have been seen in 95 % of such ensembles, in the units of RESOLVED."""
        found = self.estimate.seen(LEVEL / max(self.tests, 1))
        return _beyond_one(found) if self.what == "value" else found

    @property
    def verdict(self) -> Verdict:
        if self.differs:
            return "differs"
        if not self.estimate.stderr:
            return "unknown" if self.estimate.value else "same"
        return "alike" if self.seen <= RESOLVED[self.what] else "unknown"

    @property
    def shown(self) -> Estimate:
        """As it is written: the difference of exponents, or value/reference - 1."""
        return self.estimate.of_ratio() if self.what == "value" else self.estimate

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Of what is written. That of a ratio is made of its logarithm's."""
        low, high = self.estimate.interval(level)
        return (_beyond_one(low), _beyond_one(high)) if self.what == "value" else (low, high)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, and a row of differences.csv: what is written, and its intervals."""
        low, high = self.interval()
        return {
            "what": self.what, "quantity": self.quantity, "width": self.width, "variant": self.variant,
            "difference": plain(self.shown.value), "stderr": plain(self.shown.stderr),
            "dof": plain(self.estimate.dof), "low_95": plain(low), "high_95": plain(high),
            "p_value": plain(self.p_value), "p_holm": plain(self.p_holm), "seen": plain(self.seen),
            "verdict": self.verdict, "errors": ", ".join(self.estimate.parts),
        }  # fmt: skip


def compare(variants: Mapping[str, EnsembleResults]) -> tuple[PairedDifference, ...]:
    """Each of `variants` but the first with the first, by name; without those that have no such number."""
    return tuple(found for what, name in COMPARED for found in _family(variants, what, name))


def _family(variants: Mapping[str, EnsembleResults], what: What, name: str) -> Iterator[PairedDifference]:
    """One quantity, at every width."""
    (_, reference), *others = variants.items()
    for width in map(int, reference.mean.width.values):
        known = [
            (variant, one)
            for variant, results in others
            if (one := _difference(results, reference, what, name, width)) is not None
        ]
        p_values = [one.p_value() for _, one in known]
        tests = sum(not math.isnan(p) for p in p_values)
        for (variant, one), p, p_holm in zip(known, p_values, adjusted(p_values), strict=True):
            yield PairedDifference(what, name, width, variant, one, p, p_holm, tests)


def _difference(one: EnsembleResults, other: EnsembleResults, what: What, name: str, width: int) -> Estimate | None:
    if what == "exponent":
        return paired.exponents(one, other, name, width)
    return paired.log_ratio(one, other, name, width, -1)


def _beyond_one(logarithm: float) -> float:
    """exp(x) - 1; infinite where one network makes an error so large."""
    with np.errstate(over="ignore"):
        return float(np.expm1(logarithm))
