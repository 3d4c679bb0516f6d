"""Networks of finite width at initialisation: cumulants of outputs and NTK to the order 1/width.

Every hidden layer is n wide, i.. are output channels, digits inputs, d Kronecker deltas of channels, dH = H - E[H] with
H the NTK:

    E[z1 z2 z3 z4]_connected     = 1/n [ d_i1i2 d_i3i4 V_1234 + d_i1i3 d_i2i4 V_1324 + d_i1i4 d_i2i3 V_1423 ]
    E[z1 z2 dH_(i3 i4; 34)]      = 1/n [ d_i1i2 d_i3i4 D_1234 + d_i1i3 d_i2i4 F_1324 + d_i1i4 d_i2i3 F_1423 ]
    E[dH_(i1 i2; 12) dH_(i3 i4; 34)] = 1/n [ d_i1i2 d_i3i4 A_1234 + d_i1i3 d_i2i4 B_1324 + d_i1i4 d_i2i3 B_1423 ]

The recursion over layers is that of Roberts, Yaida and Hanin, Principles of Deep Learning Theory, chapters 4 and 8. All
tensors are zero at the first layer. With Om12 = C_W (s1 s2 + T12 s'1 s'2), S12 = <s'1 s'2>, and G[X] the derivative of
<g> along a change X of the covariances:

    V' = C_W^2 [ cov(s1 s2, s3 s4) + G_ss[V]G_ss ]
    D' = C_W [ cov(s1 s2, Om34) + G_ss[V]G_Om + C_W G_ss[D] S34 ]
    A' = cov(Om12, Om34) + G_Om[V]G_Om + C_W ( G_Om[D] S34 + S12 [D]G_Om ) + C_W^2 S12 A S34
    F'_1324 = C_W^2 [ <s1 s2 s'3 s'4> T34 + sum_bc <d_b(s1 s'3)> <d_c(s2 s'4)> F_b3c4 ],  b in (1, 3), c in (2, 4)
    B'_1324 = C_W^2 [ <s'1 s'2 s'3 s'4> T12 T34 + S13 S24 B_1324 ]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ntkhpc.four_points import FourPoints, TwoPoints, four_points, two_points
from ntkhpc.networks import MLP

Along = Callable[[np.ndarray], np.ndarray]
"""Of changes (p, q) of the covariances of pairs p, the changes (p, q) of an expectation."""


class InitialTensors(NamedTuple):
    """Coefficients of 1/width, each (P, P, P, P) in float64, indexed in the order of the module's subscripts.

    V[1, 2, 3, 4], D[1, 2, 3, 4] and A[1, 2, 3, 4]; F[1, 3, 2, 4] and B[1, 3, 2, 4].
    """

    V: np.ndarray
    D: np.ndarray
    F: np.ndarray
    A: np.ndarray
    B: np.ndarray


def initial_tensors(mlp: MLP, x: Any) -> InitialTensors:
    """Cumulants at order 1/width of the outputs and the NTK of random networks at inputs x (P, d).

    Units are those of the kernels: V of the NNGP squared, A and B of the NTK squared. erf is accurate to ten digits,
    ReLU to 1e-7 of the kernels squared. Equal, parallel and opposite inputs are no special case; those within 3e-5 of
    parallel are taken as parallel by ReLU, which is as much of an error. P = 12 takes a second; time and memory grow
    with P^4. Raises ValueError for inputs that are not (P, d) or not finite, and for a network that is no MLP.
    """
    layer, variance = _first(mlp, x)
    p = len(layer.k)
    v, d, a = (np.zeros((p * p, p * p)) for _ in range(3))
    f, b = np.zeros((p,) * 4), np.zeros((p,) * 4)
    for _ in range(mlp.depth):
        two, four = two_points(mlp.activation, layer.k), _every_quadruple(mlp, layer.k)
        # Slots of F and B: (1, 3) and (2, 4) are the pairs of inputs that a weight ties together.
        ssdd, dddd = (one.reshape((p,) * 4).transpose(0, 2, 1, 3) for one in (four.ssdd, four.dddd))
        own = two.derivatives
        b = variance**2 * (
            dddd * layer.ntk[:, None, :, None] * layer.ntk[None, :, None, :] + own[:, :, None, None] * own * b
        )
        tied = two.values_slope._replace(first=np.zeros((p, p)), second=2 * two.values_slope.second)
        moved = tied.along(tied.along(f).transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
        f = variance**2 * (ssdd * layer.ntk[None, :, None, :] + moved)

        def along(slope: Any) -> Along:
            return lambda change: slope.along(change.reshape(p, p, -1)).reshape(p * p, -1)

        slopes = two.values_slope, two.values_slope.plus(layer.ntk, two.derivatives_slope)
        pairs = _Pairs(
            variance, layer.ntk.ravel(), two.values.ravel(), own.ravel(), four, along(slopes[0]), along(slopes[1])
        )
        v, d, a = pairs.after(v, d, a)
        layer = layer.after(mlp, two)
    return InitialTensors(v.reshape((p,) * 4), d.reshape((p,) * 4), f, a.reshape((p,) * 4), b)


def kernel_fluctuations(mlp: MLP, x: Any) -> float:
    """Relative standard deviation over initialisations, times sqrt(width), of the mean diagonal of the NTK.

    That mean is (1/(P K)) sum_ai H_(i i; a a) over the inputs x (P, d) and the K outputs of `mlp`, before training. At
    leading order in 1/width its variance is (1/P^2) sum_ab (A_aabb + 2 B_abab/K)/width. Needs pairs of inputs alone:
    hundreds of them take seconds. Raises ValueError as `initial_tensors` does, and for a kernel that is zero.
    """
    layer, variance = _first(mlp, x)
    p = len(layer.k)
    v, d, a, b = (np.zeros((p, p)) for _ in range(4))
    for _ in range(mlp.depth):
        two, four = two_points(mlp.activation, layer.k), _squares(mlp, layer.k)
        ntk = np.diag(layer.ntk)
        b = variance**2 * (four.dddd * np.outer(ntk, ntk) + two.derivatives**2 * b)
        own = two.values_slope.diagonal()[:, None]
        omega = own + ntk[:, None] * two.derivatives_slope.diagonal()[:, None]
        pairs = _Pairs(variance, ntk, np.diag(two.values), np.diag(two.derivatives), four, own.__mul__, omega.__mul__)
        v, d, a = pairs.after(v, d, a)
        layer = layer.after(mlp, two)
    mean = np.diag(layer.ntk).mean()
    if not mean:
        raise ValueError("the NTK is zero at every input: x has no entry but 0, and the network no biases")
    return math.sqrt((a + 2 * b / mlp.outputs).mean()) / float(mean)


@dataclass(frozen=True)
class _Layer:
    k: np.ndarray  # (P, P), of the pre-activations
    ntk: np.ndarray

    def after(self, mlp: MLP, two: TwoPoints) -> "_Layer":
        k = mlp.weight_variance * two.values + mlp.bias_variance
        return _Layer(k, k + mlp.weight_variance * two.derivatives * self.ntk)


@dataclass(frozen=True)
class _Pairs:
    """One layer's expectations for m pairs (12), (34) of inputs; `four` are matrices (m, m), the others (m,)."""

    variance: float  # C_W
    ntk: np.ndarray
    values: np.ndarray  # <s1 s2>
    derivatives: np.ndarray  # <s'1 s'2>
    four: FourPoints
    along: Along  # of <s1 s2>
    along_omega: Along  # of <Om12>/C_W

    def after(self, v: np.ndarray, d: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """V, D and A (m, m) of the next layer."""
        t, s, four = self.ntk, self.derivatives, self.four
        omega = self.values + t * s
        with_omega = four.ssss + four.ssdd * t  # <s1 s2 Om34>/C_W
        both = with_omega + t[:, None] * (four.ddss + four.dddd * t)
        from_v, from_d = self.along_omega(v.T).T, self.along_omega(d)
        v_next = four.ssss - np.outer(self.values, self.values) + self.along(self.along(v).T).T
        d_next = with_omega - np.outer(self.values, omega) + self.along(from_v) + self.along(d) * s
        carried = from_d * s + (from_d * s).T + np.outer(s, s) * a
        a_next = both - np.outer(omega, omega) + self.along_omega(from_v) + carried
        c = self.variance**2
        return c * v_next, c * d_next, c * a_next


def _first(mlp: MLP, x: Any) -> tuple[_Layer, float]:
    if not isinstance(mlp, MLP):
        raise ValueError(f"corrections of order 1/width are known of a networks.MLP, not of a {type(mlp).__name__}")
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; it must be (P, features)")
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"x[{row}, {column}] = {x[row, column]} is not finite")
    k = mlp.weight_variance / x.shape[1] * (x @ x.T) + mlp.bias_variance
    return _Layer(k, k), mlp.weight_variance


def _every_quadruple(mlp: MLP, k: np.ndarray) -> FourPoints:
    """Expectations of pairs (12) and (34), matrices (P^2, P^2), from those of unordered pairs."""
    p = len(k)
    one, two = np.triu_indices(p)
    number = np.zeros((p, p), int)
    number[one, two] = number[two, one] = np.arange(len(one))
    found = _matrices(mlp, k, np.stack([one, two], axis=1))
    chosen = np.ix_(number.ravel(), number.ravel())
    return FourPoints(*(matrix[chosen] for matrix in found))


def _squares(mlp: MLP, k: np.ndarray) -> FourPoints:
    """Expectations of pairs (aa) and (bb), matrices (P, P)."""
    return _matrices(mlp, k, np.repeat(np.arange(len(k))[:, None], 2, axis=1))


def _matrices(mlp: MLP, k: np.ndarray, pairs: np.ndarray) -> FourPoints:
    """Expectations of all pairs of `pairs` (m, 2), matrices (m, m): half of them are computed."""
    first, second = np.triu_indices(len(pairs))
    found = four_points(mlp.activation, k, np.concatenate([pairs[first], pairs[second]], axis=1))
    full = np.empty((4, len(pairs), len(pairs)))
    for matrix, upper, lower in zip(full, found, (found.ssss, found.ddss, found.ssdd, found.dddd), strict=True):
        matrix[second, first] = lower
        matrix[first, second] = upper
    return FourPoints(*full)
