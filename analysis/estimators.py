"""Moments of a sample of losses with their standard errors; the last axis is the members of the ensemble.

    s^2 unbiased, eps = s/mu ;  Var(s^2) = k4/M + 2 k2^2/(M-1) ;  SE(s) = sqrt(Var s^2)/(2 s)
    Var(eps) = eps^2 [ Var(s^2)/(4 k2^2) + k2/(M mu^2) - k3/(M mu k2) ]

with Fisher's unbiased k-statistics. The jackknife says the same without assuming that M is large in the same way.
Members that are NaN (diverged, or not computed) are left out of their own cell only.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Each (...) like the sample without its last axis; NaN where there are fewer than 4 members."""

    members: np.ndarray
    mu: np.ndarray
    sigma: np.ndarray
    eps: np.ndarray
    skewness: np.ndarray
    mu_stderr: np.ndarray
    sigma_stderr: np.ndarray
    eps_stderr: np.ndarray


def moments(sample: np.ndarray) -> Moments:
    """Moments of a sample (..., members) with their standard errors by cumulants."""
    count = np.isfinite(sample).sum(axis=-1).astype(float)
    m = np.where(count >= 4, count, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        mu = np.nansum(sample, axis=-1) / m
        centred = np.nan_to_num(sample - mu[..., None])
        s2, s3, s4 = ((centred**r).sum(axis=-1) for r in (2, 3, 4))
        k2 = s2 / (m - 1)
        k3 = m * s3 / ((m - 1) * (m - 2))
        k4 = (m * (m + 1) * s4 / (m - 1) - 3 * s2**2) / ((m - 2) * (m - 3))
        sigma = np.sqrt(k2)
        variance_of_s2 = k4 / m + 2 * k2**2 / (m - 1)
        eps = sigma / mu
        variance_of_eps = eps**2 * (variance_of_s2 / (4 * k2**2) + k2 / (m * mu**2) - k3 / (m * mu * k2))
        return Moments(
            members=count,
            mu=mu,
            sigma=sigma,
            eps=eps,
            skewness=k3 / k2**1.5,
            mu_stderr=sigma / np.sqrt(m),
            sigma_stderr=np.sqrt(np.maximum(variance_of_s2, 0)) / (2 * sigma),
            eps_stderr=np.sqrt(np.maximum(variance_of_eps, 0)),
        )


@dataclass(frozen=True)
class Leverage:
    """What each member does to an estimate: M - 1 times the mean of all leave-one-out estimates less its own.

    `values` (..., members), NaN for members left out; their mean square over M (M - 1) is the jackknife variance, and
    products between two estimates from the same members are their covariance.
    """

    values: np.ndarray

    @property
    def stderr(self) -> np.ndarray:
        """Jackknife standard error (...)."""
        count = np.isfinite(self.values).sum(axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(np.nansum(self.values**2, axis=-1) / (count * (count - 1.0)))

    def covariance(self) -> np.ndarray:
        """(..., k, k) for values (..., k, members): members shared by two estimates make them covary."""
        count = np.isfinite(self.values).sum(axis=-1).astype(float)
        filled = np.nan_to_num(self.values)
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = filled / np.sqrt(count * (count - 1))[..., None]
        return scaled @ np.swapaxes(scaled, -1, -2)


def leave_one_out(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance (..., members) of the sample without each member, in closed form."""
    m = np.isfinite(sample).sum(axis=-1, keepdims=True).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mu = np.nansum(sample, axis=-1, keepdims=True) / m
        d = sample - mu
        variance = np.nansum(d**2, axis=-1, keepdims=True) / (m - 1)
        return mu - d / (m - 1), ((m - 1) * variance - m / (m - 1) * d**2) / (m - 2)


def leverage(left_out: np.ndarray) -> Leverage:
    """From the estimates (..., members) without each member."""
    m = np.isfinite(left_out).sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Leverage((m - 1) * (np.nansum(left_out, axis=-1, keepdims=True) / m - left_out))


def signed_root(x: np.ndarray) -> np.ndarray:
    """sqrt(|x|) with the sign of x: a population variance may be estimated below zero, and is not clipped."""
    return np.sign(x) * np.sqrt(np.abs(x))


def deviates(left: np.ndarray, there: np.ndarray) -> np.ndarray:
    """What each member does to an estimate: (..., members) from its values without each, for those that are `there`.

    The sum of their squares is the jackknife's variance, sums of products its covariances. 0 for a member that is not
    there; NaN for all where an estimate without one of them does not exist, or with fewer than 3.
    """
    count = there.sum(axis=-1, keepdims=True).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, left, 0).sum(axis=-1, keepdims=True) / count
        moved = np.where(there, mean - left, 0.0) * np.sqrt((count - 1) / count)
    return np.where(np.isfinite(moved).all(axis=-1, keepdims=True) & (count >= 3), moved, np.nan)
