"""Numbers as text, with the digits that their errors allow."""

import math

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
