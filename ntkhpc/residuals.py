"""What the residuals of conjugate gradients change in the test loss's law.

With T b = T_X* z - rho_1 and T c = K_XX b - K_X* z - rho_2 what is found of Sigma z is wrong by R rho_1 - A rho_2,
where A = T_*X T^-1 and R = (K_*X - A K_XX) T^-1. As A^T z and -R^T z are b and c but for their own errors,

    z'.(error of Sigma z) = -c'.rho_1 - b'.rho_2  and products of two errors, as (T^-1 rho).rho'

is what other probes' solutions say about a probe's error. Products of two errors are bounded by energies E =
rho^T T^-1 rho <= rho^T M^-1 rho / (least eigenvalue of M^-1/2 T M^-1/2), M the preconditioner, and by K <= T, as an NTK
is its NNGP and more. That eigenvalue is taken from the iterations, which see it from above (the least of both rounds),
and norms of errors from a sample of probes: the bounds are estimates as far as that goes.

The NNGP posterior has Sigma z = K_** z - K_*X b, wrong by A rho_1: the same with c = -b and without rho_2.
"""

from dataclasses import dataclass

import numpy as np

from ntkhpc.preconditioner import Preconditioner
from ntkhpc.probes import Sums

_OF_FEW = 2.0
"""A norm by the eight further probes is less than half of the true one in 2 of 100 cases (chi-squared of 8)."""


@dataclass(frozen=True)
class Solved:
    """Solutions x (n, r), their residuals (n, r) and energies (r,)."""

    x: np.ndarray
    residuals: np.ndarray
    energies: np.ndarray

    def part(self, columns: slice) -> "Solved":
        return Solved(self.x[:, columns], self.residuals[:, columns], self.energies[columns])


def energies(preconditioner: Preconditioner, smallest: float, vectors: np.ndarray) -> np.ndarray:
    """Bounds (r,) of v^T T^-1 v for vectors (n, r), given the least eigenvalue of M^-1/2 T M^-1/2."""
    found = np.einsum("ij,ij->j", vectors, preconditioner.power(-1, vectors)) / smallest
    return np.maximum(found, 0)  # rounding may leave a little less


def exact_bounds(
    covariance: np.ndarray, d: np.ndarray, solved: Solved, targets: Solved, turned: np.ndarray | None
) -> Sums:
    """Bounds where Sigma (m, m) was found whole, from b_a (n, m) of every test point: |error of Sigma_ab| <=
    sqrt(E_a V_b) + sqrt(E_b V_a) + sqrt(E_a E_b), V = v^T T^-1 v of v = K_XX b - K_X* z.

    `turned` are these V (m,); None for the NNGP posterior, where |b_a.rho_b| and energies bound the error.
    """
    root = np.sqrt(solved.energies)
    if turned is None:
        bound = np.abs(solved.x.T @ solved.residuals)
    else:
        other = np.sqrt(turned)
        bound = np.outer(root, other)
        bound += bound.T.copy()
    bound += np.outer(root, root)
    shift = np.abs(solved.x.T @ targets.residuals) + np.outer(root, np.sqrt(targets.energies))
    diagonal, d2 = np.diag(covariance), (d**2).sum(axis=1)
    of_d2 = (2 * np.abs(d) * shift + shift**2).sum(axis=1)
    moved = np.abs(d) + shift
    return Sums(
        trace=np.trace(bound),
        trace2=2 * np.vdot(np.abs(covariance), bound) + np.vdot(bound, bound),
        diagonal2=(2 * diagonal * np.diag(bound) + np.diag(bound) ** 2).sum(),
        weighted=of_d2 @ diagonal + (d2 + of_d2) @ np.diag(bound),
        bias=of_d2.sum(),
        form=2 * np.vdot(np.abs(covariance @ d), shift)
        + np.vdot(shift, np.abs(covariance) @ shift)
        + np.vdot(moved, bound @ moved),
    )


@dataclass(frozen=True)
class Stages:
    """Two rounds of solutions: of probes z (b) and targets, then of d and of further probes, and c of the first probes.

    `twice` is None for the NNGP posterior. `turned` (outputs,) are V of d, None there.
    """

    targets: Solved
    probes: Solved
    differences: Solved
    checks: Solved
    twice: Solved | None
    turned: np.ndarray | None


def probe_bounds(stages: Stages, probes: np.ndarray, turned: np.ndarray, d: np.ndarray, form: float) -> Sums:
    """Bounds where Sigma was multiplied with probes (m, p) to give `turned` (m, p), d is (m, outputs)."""
    p, own = probes.shape[1], np.linalg.norm(turned, axis=0)
    trace, wrong = _of_products(stages)
    points, d2 = probes * turned, (d**2).sum(axis=1)
    diagonal = points.mean(axis=1)
    differences, targets = stages.differences, stages.targets
    shift = _shift(stages)
    along = np.abs(np.einsum("ik,ik->k", differences.x, targets.residuals))
    along += np.sqrt(differences.energies * targets.energies)
    of_form = np.sqrt(np.square(own).mean())  # at least the largest eigenvalue of Sigma, but for the choice of probes
    forms = 2 * np.sqrt(form * of_form) * np.linalg.norm(shift) + of_form * (shift**2).sum()
    if stages.turned is None:
        forms += np.abs(np.einsum("ik,ik->k", differences.x, differences.residuals)).sum()
    else:
        forms += 2 * np.sqrt(differences.energies * stages.turned).sum()
    return Sums(
        trace=trace,
        trace2=(2 * own * wrong + wrong**2).mean(),
        diagonal2=(2 * p * np.linalg.norm(diagonal) * wrong.mean() + 2 * (own * wrong).mean()) / (p - 1)
        + (wrong**2).mean(),
        weighted=np.linalg.norm(d2) * wrong.mean()
        + 2 * np.linalg.norm(d * diagonal[:, None]) * np.linalg.norm(shift)
        + np.abs(diagonal).max() * (shift**2).sum(),
        bias=(2 * along + shift**2).sum(),
        form=forms + differences.energies.sum(),
    )


def _of_products(stages: Stages) -> tuple[float, np.ndarray]:
    """Bound of the error of tr Sigma, and norms (p,) of the errors of Sigma z.

    The square of a norm is the mean of (z'.error)^2 over probes z', here those whose search had no part in it.
    """
    probes, twice, checks = stages.probes, stages.twice, stages.checks
    root = np.sqrt(probes.energies)
    if twice is None:
        trace = abs(np.einsum("ij,ij->j", probes.x, probes.residuals).mean()) + probes.energies.mean()
        seen = np.abs(checks.x.T @ probes.residuals) + np.outer(np.sqrt(checks.energies), root)
        return trace, _OF_FEW * np.sqrt((seen**2).mean(axis=0))
    other = np.sqrt(twice.energies)
    first = twice.x.T @ probes.residuals + probes.x.T @ twice.residuals
    second = np.outer(root, root) + np.outer(other, root) + np.outer(root, other)
    trace = (abs(np.trace(first)) + np.trace(second)) / len(root)
    return trace, np.sqrt(((np.abs(first) + second) ** 2).mean(axis=0))


def _shift(stages: Stages) -> np.ndarray:
    """Norms (outputs,) of the error of d, by the further probes: the first ones shared the targets' search."""
    checks, targets = stages.checks, stages.targets
    seen = np.abs(checks.x.T @ targets.residuals) + np.sqrt(np.outer(checks.energies, targets.energies))
    return _OF_FEW * np.sqrt((seen**2).mean(axis=0))
