"""Joint cumulants of the test losses of the same networks at several training sets, and what they do to estimates.

Members of an ensemble begin with the same weights at every training set, so that their losses L_i there move together.
With f_i ~ N(m_i, C_ii), Cov(f_i, f_j) = C_ij (outputs independent and alike), d_i = m_i - y, K outputs, m test points
and s = 1/(2 m K), the sum over all orders of the factors of a quadratic form gives

    k(i, j)        = s^2 2 [ K tr C_ij C_ji + 2 d_i C_ij d_j ]
    k(i, i, j)     = s^3 8 [ K tr C_ii C_ij C_ji + 2 d_i C_ii C_ij d_j + d_i C_ij C_ji d_i ]
    k(i, i, j, j)  = s^4 16 [ 2 K tr C_ii C_ij C_jj C_ji + K tr (C_ij C_ji)^2 + 4 d_i C_ii C_ij C_jj d_j
                              + 4 d_i C_ij C_ji C_ij d_j + 2 d_i C_ij C_jj C_ji d_i + 2 d_j C_ji C_ii C_ij d_j ]

with d C d' summed over outputs; for i = j they are the cumulants of `ntkhpc.loss_law`. To leading order in 1/M, an
estimate from M members is moved by the mean over them of its influence [Hampel 1974, doi
10.1080/01621459.1974.10482962],

    log mu_L: (L - mu)/mu ;  log sigma_L: [(L - mu)^2/sigma^2 - 1]/2 ;  log eps_L: the latter less the former

whose covariances are made of these cumulants.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class JointCumulants:
    """Of losses L_1 to L_k of the same networks: k(L_i) `first` (k,), k(L_i, L_j) `second` (k, k), k(L_i, L_i, L_j)
    `third` (k, k), and k(L_i, L_i, L_j, L_j) `fourth` (k, k)."""

    first: np.ndarray
    second: np.ndarray
    third: np.ndarray
    fourth: np.ndarray


def joint_cumulants(differences: Sequence[np.ndarray], covariance: Callable[[int, int], np.ndarray]) -> JointCumulants:
    """From d_i (m, outputs) of k training sets, and C_ij (m, m) by i <= j. Takes 3 products of (m, m) a pair."""
    d, k = list(differences), len(differences)
    outputs, scale = d[0].shape[1], 1 / (2 * d[0].size)
    own = [covariance(i, i) for i in range(k)]
    first = np.array([scale * (np.vdot(d[i], d[i]) + outputs * np.trace(own[i])) for i in range(k)])
    second, third, fourth = (np.empty((k, k)) for _ in range(3))
    for i in range(k):
        for j in range(i, k):
            c = own[i] if i == j else covariance(i, j)
            left, right, square = own[i] @ c, c @ own[j], c @ c.T
            to_i, to_j = c @ d[j], c.T @ d[i]  # C_ij d_j and C_ji d_i
            own_i, own_j = own[i] @ d[i], own[j] @ d[j]
            second[i, j] = 2 * outputs * np.vdot(c, c) + 4 * np.vdot(d[i], to_i)
            third[i, j] = outputs * np.vdot(left, c) + 2 * np.vdot(own_i, to_i) + np.vdot(to_j, to_j)
            third[j, i] = outputs * np.vdot(right, c) + 2 * np.vdot(own_j, to_j) + np.vdot(to_i, to_i)
            fourth[i, j] = (
                outputs * (2 * np.vdot(left, right) + np.vdot(square, square))
                + 4 * np.vdot(own_i, c @ own_j)
                + 4 * np.vdot(to_j, c.T @ to_i)
                + 2 * np.vdot(to_j, own[j] @ to_j)
                + 2 * np.vdot(to_i, own[i] @ to_i)
            )
            second[j, i], fourth[j, i] = second[i, j], fourth[i, j]
    return JointCumulants(first, scale**2 * second, 8 * scale**3 * third, 16 * scale**4 * fourth)


def log_covariances(of: JointCumulants) -> dict[str, np.ndarray]:
    """Covariances (k, k) of log mu_L, log sigma_L and log eps_L of k training sets, times the number of members.

    To leading order in 1/members. Raises ValueError where losses have no spread.
    """
    mu, variance = of.first, np.diag(of.second)
    if not ((mu > 0).all() and (variance > 0).all()):
        raise ValueError("losses without a spread over initialisations have no relative error of it")
    means = of.second / np.outer(mu, mu)
    spreads = (of.fourth + 2 * of.second**2) / (4 * np.outer(variance, variance))
    crossed = of.third / (2 * np.outer(variance, mu))
    return {"mu_L": means, "sigma_L": spreads, "eps_L": spreads + means - crossed - crossed.T}


def log_errors(cumulants: np.ndarray) -> dict[str, float]:
    """Standard errors of log mu_L, log sigma_L and log eps_L from one member, from cumulants 1 to 4 of L (4,).

    Over the root of the number of members: the diagonal of `log_covariances`.
    """
    one = [np.full((1, 1), value) for value in cumulants[1:]]
    found = log_covariances(JointCumulants(cumulants[:1], *one))
    return {name: math.sqrt(value[0, 0]) for name, value in found.items()}
