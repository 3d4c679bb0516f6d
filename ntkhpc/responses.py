"""How training answers to the outputs at initialisation and to the targets, in the limit of infinite width.

Every algorithm whose steps are affine in the residual leaves outputs Gaussian. After s steps, f_0 at initialisation,

    f_* = rho^k [ f_0* - T_*X (B f_0 - C y) ]

where theta = rho (theta_0 + what was learned): rho = 1 but for weight decay to zero, of networks that are homogeneous
of degree k. B and C are functions of T in its eigenbasis for full batches, and matrices for mini-batches. One step,
with l an eigenvalue, or with rows of T:

    towards the start   b <- (1 - w_s) b + (eta_s/c) u,  w_s = eta_s weight_decay,  u made of 1 - l b by the optimiser
    to zero             rho' = (1 - w_s) rho,  b <- b + (eta_s/c) u/rho',  u made of rho^(2k-1) (1 - l b),
                        c <- c + (eta_s/c) u'/rho',  u' made of rho^(k-1) (1 - rho^k l c)

G/l is found without the difference 1 - p, which would lose the modes that have hardly moved.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ntkhpc.optimisers import Algorithm


@dataclass(frozen=True)
class Response:
    """B and C, each (n,) of as many eigenvalues or (n, n), and rho^k; or, at m test points, B^T T_X* and C^T T_X*
    (n, m) (infinite_width.py)."""

    of_start: np.ndarray
    of_targets: np.ndarray
    scale: float = 1.0


def of_eigenvalues(
    values: np.ndarray, algorithm: Algorithm, rates: np.ndarray, c: float, degree: int | None
) -> Response:
    """After full-batch steps at `rates` eta_s (steps,), at eigenvalues (n,) of T; c = n_train * outputs.

    Raises ValueError for an algorithm without a law, or of mini-batches.
    """
    _require_law(algorithm, degree)
    if algorithm.batch:
        raise ValueError("mini-batches mix the eigenvectors of the kernel: their response is a matrix")
    beta, nesterov = algorithm.momentum, algorithm.optimiser == "nesterov"
    shrinks = bool(algorithm.weight_decay) and algorithm.decay_towards == "zero"
    k, rho = degree if shrinks and degree else 1, 1.0
    b, c_, v, v_ = (np.zeros_like(values) for _ in range(4))

    def used(gradient: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        velocity = gradient + beta * velocity
        return (gradient + beta * velocity if nesterov else velocity), velocity

    for rate in rates.tolist():
        decay = rate * algorithm.weight_decay
        u, v = used(rho ** (2 * k - 1) * (1 - values * b), v)
        if not shrinks:
            b = (1 - decay) * b + rate / c * u
            continue
        u_, v_ = used(rho ** (k - 1) * (1 - rho**k * values * c_), v_)
        rho *= 1 - decay
        b, c_ = b + rate / c / rho * u, c_ + rate / c / rho * u_
    return Response(b, c_ if shrinks else b, rho**k)


def of_batches(
    kernel: np.ndarray,
    batches: Iterable[np.ndarray],
    algorithm: Algorithm,
    rates: np.ndarray,
    outputs: int,
    degree: int | None,
) -> Response:
    """After one step for each of `batches`, the numbers of its samples, at `rates` (steps,).

    kernel (n, n) is T. A step takes 2 batch n^2 operations. Raises ValueError for an algorithm without a law.
    """
    _require_law(algorithm, degree)
    shrinks = bool(algorithm.weight_decay) and algorithm.decay_towards == "zero"
    k, rho = degree if shrinks and degree else 1, 1.0
    one = np.eye(len(kernel))
    b = np.zeros_like(kernel)
    c_ = np.zeros_like(kernel) if shrinks else b
    for batch, rate in zip(batches, rates.tolist(), strict=True):
        decay, step = rate * algorithm.weight_decay, rate / (len(batch) * outputs)
        u = rho ** (2 * k - 1) * (one[batch] - kernel[batch] @ b)
        if shrinks:
            u_ = rho ** (k - 1) * (one[batch] - rho**k * kernel[batch] @ c_)
            rho *= 1 - decay
            c_[batch] += step / rho * u_
        elif decay:
            b *= 1 - decay
        b[batch] += step / rho * u
    return Response(b, c_, rho**k)


def _require_law(algorithm: Algorithm, degree: int | None) -> None:
    if not algorithm.has_law(degree):
        why = "of networks that are not homogeneous" if algorithm.entry.bound else "at infinite width"
        raise ValueError(
            f"no law is known {why} for {algorithm.optimiser} with weight_decay = {algorithm.weight_decay:g}"
        )
