"""Numbers of a posterior as text: losses, deviations, distances in standard errors, convergence."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.report.numbers import two_digits

ALIKE = 2.0
"""Standard errors within which two exponents are called alike."""

MANY = 20
"""Standard errors beyond which their number says nothing more."""


def loss_text(value: float) -> str:
    """A loss without an error: four digits, which is beyond what samples resolve."""
    return f"{value:#.4g}".rstrip(".") if math.isfinite(value) else "-"


def per_cent(fraction: float) -> str:
    """Of a deviation: two digits, signed."""
    return (
        f"{100 * fraction:+.2g} %" if math.isfinite(fraction) and abs(fraction) < 0.995 else f"{100 * fraction:+.0f} %"
    )


def apart(value: float, reference: float) -> str:
    """The size of a relative difference."""
    return (
        f"{two_digits(100 * abs(value / reference - 1))} %"
        if abs(value / reference - 1) < 0.995
        else f"{two_digits(value / reference)} times"
    )


def reach(fractions: Sequence[float]) -> str:
    """The largest of their sizes."""
    return per_cent(max(abs(fraction) for fraction in fractions)).removeprefix("+")


def errors(pull: float) -> str:
    return f"{abs(pull):.1f}" if abs(pull) < MANY else f"more than {MANY}"


def convergence_text(r_hat: float, ess: float) -> tuple[str, str]:
    return number(r_hat, ".3f"), number(ess, ",.0f")


def number(value: Any, form: str) -> str:
    return format(float(value), form) if np.isfinite(float(value)) else "-"
