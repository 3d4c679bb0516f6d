"""Power laws in the training-set size, with absolute errors and intervals that cover what they say.

    value = amplitude (n/n_ref)^exponent + offset

Amplitude and offset are linear given the exponent, so starts are compared complete, and lmfit minimises from the best.
Intervals are those of the profile likelihood: with a free offset the curvature at the minimum measures little.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import lmfit
import numpy as np
from scipy import optimize, stats

Offset = Literal["none", "free"]
EXPONENTS = (-3.0, 1.0)
"""Exponents searched; an interval that runs into an end is open there."""

_STARTS = np.linspace(-2.2, 0.4, 9)
_GRID = np.linspace(*EXPONENTS, 161)


@dataclass(frozen=True)
class FitResult:
    """A fitted power law. Errors are absolute; NaN, with a flag, where one cannot be had.

    `exponent_68` and `exponent_95` (and `offset_68`, `offset_95`) are (lower, upper) with Delta chi^2 = 1 and 3.84;
    `covariance` is that of (amplitude, exponent[, offset]); `pulls` are (value - fit)/stderr at each n.
    `flags` says in words what to mind.
    """

    n_ref: float
    amplitude: float
    exponent: float
    offset: float
    amplitude_stderr: float
    exponent_stderr: float
    offset_stderr: float
    exponent_68: tuple[float, float]
    exponent_95: tuple[float, float]
    offset_68: tuple[float, float]
    offset_95: tuple[float, float]
    covariance: np.ndarray
    chi2: float
    dof: int
    p_value: float
    aicc: float
    pulls: np.ndarray
    flags: tuple[str, ...]

    def __call__(self, n: Any) -> np.ndarray:
        """The fitted curve at n."""
        return self.amplitude * (np.asarray(n, float) / self.n_ref) ** self.exponent + self.offset

    def band(self, n: Any) -> np.ndarray:
        """Standard error of the fitted curve at n, by propagating the parameters' covariance."""
        x = np.asarray(n, float) / self.n_ref
        gradient = np.stack([x**self.exponent, self.amplitude * np.log(x) * x**self.exponent, np.ones_like(x)])
        k = len(self.covariance)
        return np.sqrt(np.einsum("i...,ij,j...->...", gradient[:k], self.covariance, gradient[:k]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not a finite number is None."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True)
class Comparison:
    """The law without offset and the one with it. `delta_aicc` is AICc(free) - AICc(none)."""

    n: tuple[float, ...]
    none: FitResult
    free: FitResult | None
    delta_aicc: float
    offset_weight: float

    @property
    def preferred(self) -> FitResult:
        """The simpler one, unless the other's AICc is lower by more than 2."""
        return self.free if self.free is not None and self.delta_aicc < -2 else self.none

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": list(self.n),
            "preferred": "free" if self.preferred is self.free else "none",
            "delta_aicc": plain(self.delta_aicc),
            "offset_weight": plain(self.offset_weight),
            "none": self.none.to_dict(),
            "free": self.free and self.free.to_dict(),
        }


def fit_power_law(n: Any, value: Any, stderr: Any, offset: Offset = "none", *, covariance: Any = None) -> FitResult:
    """Fit value (k,) with absolute standard errors `stderr` (k,), or with their `covariance` (k, k), against n (k,).

    Raises ValueError for shapes that differ, values that are not finite or errors not positive, a covariance that is
    not positive definite, or fewer sizes than parameters.
    """
    points = _checked(n, value, stderr, covariance, offset)
    free = offset == "free"
    starts = sorted(_STARTS, key=lambda exponent: _chi2(points, exponent, free))[:3]
    chi2, exponent = min(_minimise(points, start, free) for start in starts)
    linear, _ = _linear(points, exponent, free)
    covariance_matrix = _parameter_covariance(points, exponent, linear[0], free)
    errors = np.sqrt(np.diag(covariance_matrix))
    names = 3 if free else 2
    dof = len(points.x) - names
    flags = []

    def profile(exponent: float) -> float:
        return _chi2(points, exponent, free)

    exponent_68, exponent_95 = (_interval(profile, exponent, chi2, EXPONENTS, step) for step in (1.0, 3.841459))
    offset_68 = offset_95 = (math.nan, math.nan)
    if free:
        profile_offset = _offset_profile(points)
        reach = 30 * float(np.nan_to_num(errors[2])) + 3 * float(np.ptp(points.value)) + abs(linear[1])
        ends = (linear[1] - reach, linear[1] + reach)
        offset_68, offset_95 = (
            _interval(profile_offset, linear[1], min(chi2, profile_offset(linear[1])), ends, step)
            for step in (1.0, 3.841459)
        )
    for name, narrow, wide in (("exponent", exponent_68, exponent_95), ("offset", offset_68, offset_95)):
        if any(math.isinf(end) for end in narrow):
            flags.append(f"the {name} is not constrained by these sizes: its 68 % interval is open")
        elif any(math.isinf(end) for end in wide):
            flags.append(f"the {name} is hardly constrained by these sizes: its 95 % interval is open")
    if linear[0] <= 0:
        flags.append("the power-law part is not positive")
    p_value = float(stats.chi2.sf(chi2, dof)) if dof > 0 else math.nan
    if dof == 0:
        flags.append("as many parameters as sizes: the fit cannot be tested")
    elif p_value < 0.01:
        flags.append(f"fits badly: p = {p_value:.1g}")
    return FitResult(
        n_ref=points.n_ref,
        amplitude=float(linear[0]),
        exponent=exponent,
        offset=float(linear[1]) if free else 0.0,
        amplitude_stderr=float(errors[0]),
        exponent_stderr=float(errors[1]),
        offset_stderr=float(errors[2]) if free else 0.0,
        exponent_68=exponent_68,
        exponent_95=exponent_95,
        offset_68=offset_68,
        offset_95=offset_95,
        covariance=covariance_matrix,
        chi2=chi2,
        dof=dof,
        p_value=p_value,
        aicc=_aicc(chi2, names, len(points.x)),
        pulls=(points.value - points.model(exponent, linear)) / points.stderr,
        flags=tuple(flags),
    )


def compare(n: Any, value: Any, stderr: Any, *, covariance: Any = None) -> Comparison:
    """Fit with and without offset. The weight of the offset is Akaike's, from AICc; arguments as in `fit_power_law`."""
    none = fit_power_law(n, value, stderr, covariance=covariance)
    free = fit_power_law(n, value, stderr, "free", covariance=covariance) if len(np.unique(n)) > 3 else None
    delta = free.aicc - none.aicc if free is not None else math.inf
    # With too few sizes for either AICc the simpler law stands.
    delta = math.inf if math.isnan(delta) else delta
    return Comparison(
        n=tuple(float(x) for x in n),
        none=none,
        free=free,
        delta_aicc=delta,
        offset_weight=0.0 if delta > 1400 else 1 / (1 + math.exp(delta / 2)),
    )


@dataclass(frozen=True)
class _Points:
    """What is fitted, whitened: `whiten` times a residual has unit covariance."""

    x: np.ndarray
    n_ref: float
    value: np.ndarray
    stderr: np.ndarray
    whiten: np.ndarray

    def model(self, exponent: float, linear: tuple[float, float]) -> np.ndarray:
        return linear[0] * self.x**exponent + linear[1]


def _checked(n: Any, value: Any, stderr: Any, covariance: Any, offset: str) -> _Points:
    n, value, stderr = (np.asarray(a, float) for a in (n, value, stderr))
    if offset not in ("none", "free"):
        raise ValueError(f"offset = {offset!r} is neither 'none' nor 'free'")
    if n.ndim != 1 or not n.shape == value.shape == stderr.shape:
        raise ValueError(f"n {n.shape}, value {value.shape} and stderr {stderr.shape} must be of one length")
    for name, array in (("n", n), ("value", value), ("stderr", stderr)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} = {array[~np.isfinite(array)][0]} is not finite; leave such sizes out")
    if (n <= 0).any() or (stderr <= 0).any():
        raise ValueError("n and stderr must be positive")
    needed = 3 if offset == "free" else 2
    if len(np.unique(n)) < needed:
        raise ValueError(f"{len(np.unique(n))} sizes; a power law with offset {offset!r} needs at least {needed}")
    matrix = np.diag(stderr**2) if covariance is None else np.asarray(covariance, float)
    if matrix.shape != (len(n), len(n)) or not np.isfinite(matrix).all():
        raise ValueError(f"covariance of shape {matrix.shape} must be finite and ({len(n)}, {len(n)})")
    if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-9 * float(np.abs(matrix).max())):
        raise ValueError("covariance must be symmetric")
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError as error:
        raise ValueError("covariance is not positive definite; fewer members than sizes?") from error
    n_ref = float(np.exp(np.log(n).mean()))
    return _Points(n / n_ref, n_ref, value, stderr, np.linalg.inv(factor))


def _linear(points: _Points, exponent: float, free: bool) -> tuple[tuple[float, float], np.ndarray]:
    """Best (amplitude, offset) at an exponent, and the whitened residuals (k,)."""
    power = points.x**exponent
    columns = points.whiten @ (np.stack([power, np.ones_like(power)], axis=1) if free else power[:, None])
    target = points.whiten @ points.value
    solution = np.linalg.lstsq(columns, target, rcond=None)[0]
    return (float(solution[0]), float(solution[1]) if free else 0.0), target - columns @ solution


def _chi2(points: _Points, exponent: float, free: bool) -> float:
    _, residual = _linear(points, exponent, free)
    return float(residual @ residual)


def _minimise(points: _Points, start: float, free: bool) -> tuple[float, float]:
    """(chi^2, exponent) at the minimum near `start`.

    Amplitude and offset enter linearly: they are solved for at every exponent [variable projection, Golub & Pereyra
    1973], which takes a tenth of the evaluations that a fit of all of them does.
    """
    parameters = lmfit.Parameters()
    parameters.add("exponent", value=start, min=EXPONENTS[0], max=EXPONENTS[1])

    def residual(p: lmfit.Parameters) -> np.ndarray:
        return _linear(points, p["exponent"].value, free)[1]

    found = lmfit.minimize(residual, parameters, method="leastsq", calc_covar=False)
    return float(found.chisqr), float(found.params["exponent"].value)


def _parameter_covariance(points: _Points, exponent: float, amplitude: float, free: bool) -> np.ndarray:
    """Inverse of the Fisher information of (amplitude, exponent[, offset]): NaN where it is singular."""
    power = points.x**exponent
    columns = [power, amplitude * np.log(points.x) * power, np.ones_like(power)]
    jacobian = points.whiten @ np.stack(columns if free else columns[:2], axis=1)
    information = jacobian.T @ jacobian
    scale = np.sqrt(np.diag(information))
    with np.errstate(invalid="ignore", divide="ignore"):  # a vanishing amplitude leaves the exponent without any
        scaled = information / np.outer(scale, scale)
    if not np.isfinite(scaled).all() or np.linalg.cond(scaled) > 1e14:
        return np.full(information.shape, np.nan)
    return np.linalg.inv(scaled) / np.outer(scale, scale)


def _offset_profile(points: _Points) -> Callable[[float], float]:
    """chi^2 minimised over amplitude and exponent, as a function of the offset."""
    columns = points.x ** _GRID[:, None] @ points.whiten.T
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)

    def profile(offset: float) -> float:
        target = points.whiten @ (points.value - offset)

        def chi2(exponent: float) -> float:
            column = points.whiten @ points.x**exponent
            residual = target - column * ((column @ target) / (column @ column))
            return float(residual @ residual)

        best = int(np.argmax((columns @ target) ** 2))
        ends = _GRID[max(best - 1, 0)], _GRID[min(best + 1, len(_GRID) - 1)]
        found = optimize.minimize_scalar(chi2, bounds=ends, method="bounded", options={"xatol": 1e-7})
        return min(float(found.fun), chi2(_GRID[best]))

    return profile


def _interval(
    profile: Callable[[float], float], best: float, chi2: float, ends: tuple[float, float], step: float
) -> tuple[float, float]:
    """Where the profile has risen by `step` on either side of the best value; infinite where it never does."""

    def excess(x: float) -> float:
        return profile(x) - chi2 - step

    found = []
    for end, open_end in zip(ends, (-math.inf, math.inf), strict=True):
        near, reach = best, (end - best) / 400
        while True:  # walk outwards, so that the nearest crossing is the one that is bracketed
            far = best + reach
            if abs(far - best) >= abs(end - best):
                far = end
            if excess(far) > 0:
                found.append(float(optimize.brentq(excess, near, far, xtol=1e-10)) if far != near else far)
                break
            if far == end:
                found.append(open_end)
                break
            near, reach = far, reach * 1.6
    return found[0], found[1]


def _aicc(chi2: float, parameters: int, points: int) -> float:
    left = points - parameters - 1
    return chi2 + 2 * parameters + 2 * parameters * (parameters + 1) / left if left > 0 else math.inf


def plain(value: Any) -> Any:
    """JSON-able: arrays become lists, and what is not a finite number None."""
    if isinstance(value, np.ndarray | tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
