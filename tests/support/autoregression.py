"""Chains whose autocorrelation is known."""

import math

import numpy as np


def ar1(rng: np.random.Generator, shape: tuple[int, ...], rho: float = 0.5) -> np.ndarray:
    """Stationary chains of unit variance along the last axis, with correlation `rho` between neighbours."""
    values = rng.standard_normal(shape)
    for t in range(1, shape[-1]):
        values[..., t] = rho * values[..., t - 1] + math.sqrt(1 - rho**2) * values[..., t]
    return values
