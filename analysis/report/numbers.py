"""Numbers as text, with the digits that their errors allow."""

import math

from analysis.contrasts import Estimate
from analysis.scaling import FitResult


def pm(value: float, stderr: float) -> str:
    """value ± stderr, with two digits of the error, or one from 3 on; without an error where there is none."""
    if not math.isfinite(value):
        return "-"
    if not math.isfinite(stderr) or stderr <= 0:
        return f"{value:.3g}"
    digits = 1 - math.floor(math.log10(stderr))
    if round(stderr, digits) * 10 ** (digits - 1) >= 3:
        digits -= 1
    digits = max(digits, 0)
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"


def two_digits(value: float) -> str:
    """A number with two digits, and never with an exponent of ten above: "1.6", "160", "1,700,000"."""
    return f"{float(f'{value:.2g}'):,.0f}" if abs(value) >= 10 else f"{value:.2g}"


def estimate(one: Estimate) -> str:
    """An estimate with half the width of its 68 % interval."""
    return pm(one.value, one.half()) if one.parts else f"{one.value:.3g}"


def slope(one: Estimate) -> str:
    """An exponent, with its sign."""
    text = pm(one.value, one.half()) if one.parts else f"{one.value:.2f}"
    return text if text.startswith("-") else f"+{text}"


def interval(ends: tuple[float, float], spec: str = ".2f") -> str:
    """ "-0.40 to -0.31"; open ends are words."""
    low, high = (f"{end:{spec}}" if math.isfinite(end) else "open" for end in ends)
    return "-" if all(map(math.isnan, ends)) else f"{low} to {high}"


def percent(relative: Estimate) -> str:
    """A relative number in per cent: "-1.7 ± 1.2 %"."""
    text = pm(100 * relative.value, 100 * relative.half())
    return (text if text.startswith("-") else f"+{text}") + " %"


def exponent(fit: FitResult) -> str:
    """The exponent with half the width of its 68 % interval; lopsided intervals are written out."""
    low, high = fit.exponent - fit.exponent_68[0], fit.exponent_68[1] - fit.exponent
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{fit.exponent:.2f} (unconstrained)"
    if max(low, high) > 1.3 * min(low, high):
        return f"{fit.exponent:.2f} (+{high:.2f} -{low:.2f})"
    return pm(fit.exponent, (low + high) / 2)


def probability(p: float) -> str:
    """p with two digits; a tiny one as a bound, as nobody believes its digits."""
    if not math.isfinite(p):
        return "-"
    return f"{p:.2g}" if p >= 1e-3 else "< 0.001" if p >= 1e-6 else "< 1e-6"


def chance(p: float) -> str:
    """As `probability`, for a sentence: "p = 0.12", "p < 0.001"."""
    text = probability(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
