"""How much a curve would move with another draw of the training set, learned from the exact curves of several draws.

Relative deviations of nested training sets are those of sums of independent contributions: of relative size s, and
correlated between n and n' > n as sqrt(n/n'). (On 60 draws of the default study s is 4 to 10 % for mu_L and eps_L, and
their correlations follow that root within 0.15.)
"""

import numpy as np
import xarray


def relative_spread(curve: xarray.DataArray, low: float, high: float) -> float:
    """s: root mean square over sizes in [low, high] of the relative standard deviation over draws; NaN for one draw.

    `curve` is (draw, n_train), exact for each draw.
    """
    inside = curve.sel(n_train=(curve.n_train >= low) & (curve.n_train <= high))
    if curve.sizes["draw"] < 2 or not inside.sizes["n_train"]:
        return float("nan")
    relative = inside.std("draw", ddof=1) / inside.mean("draw")
    return float(np.sqrt((relative**2).mean()))


def covariance(n: np.ndarray, value: np.ndarray, spread: float) -> np.ndarray:
    """(k, k) covariance between sizes of what one draw adds to the values (k,)."""
    smaller, larger = np.minimum.outer(n, n), np.maximum.outer(n, n)
    return spread**2 * np.outer(value, value) * np.sqrt(smaller / larger)
