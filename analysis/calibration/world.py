"""A world whose truth is known: showers, a test set, and the exact law of networks trained on any draw of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from ntkhpc import infinite_width, kernels, linalg
from ntkhpc.data.split import Split
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import EnsembleStudy


@dataclass(frozen=True)
class Draws:
    """Some draws of the training set, rows of the pool (draws, largest size), and all that members share on them.

    `root` is the lower Cholesky factor of the covariance of f before training at the training points of all draws and
    at the test points; `weights` [draw][size] (T, n) turn residuals before training into what training takes off f;
    `laws` [draw][size] are mean and covariance of f afterwards.
    """

    rows: np.ndarray
    root: np.ndarray
    weights: list[list[np.ndarray]]
    laws: list[list[infinite_width.Law]]


@dataclass(frozen=True)
class World:
    """The study's data, and exact laws of it."""

    study: EnsembleStudy
    split: Split

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.study.ensemble.n_train

    @cached_property
    def nngp_test(self) -> np.ndarray:
        return kernels.nngp_ntk(mlp(self.study), self.split.x_test)[0]

    def rows(self, rng: np.random.Generator, draws: int) -> np.ndarray:
        return np.stack([rng.permutation(len(self.split.x_train))[: self.sizes[-1]] for _ in range(draws)])

    def draws(self, rows: np.ndarray) -> Draws:
        x = self.split.x_train[rows.ravel()]
        both = np.concatenate([x, self.split.x_test])
        covariance = kernels.nngp_ntk(mlp(self.study), both)[0]
        covariance[np.diag_indices(len(both))] *= 1 + 1e-9  # draws may share a shower
        pairs = [self._trained(one) for one in rows]
        return Draws(
            rows,
            scipy.linalg.cholesky(covariance, lower=True, check_finite=False),
            [[weights for weights, _ in pair] for pair in pairs],
            [[law for _, law in pair] for pair in pairs],
        )

    def laws(self, rows: np.ndarray) -> list[infinite_width.Law]:
        """The exact law at every size of one draw (largest size,)."""
        return [law for _, law in self._trained(rows)]

    def _trained(self, rows: np.ndarray) -> list[tuple[np.ndarray, infinite_width.Law]]:
        """Of each size: weights (T, n), and the law."""
        network, training = mlp(self.study), self.study.training
        x, y = self.split.x_train[rows], self.split.y_train[rows]
        blocks = infinite_width.panels(network, x, self.split.x_test, self.nngp_test)
        found = []
        for n in self.sizes:
            one = blocks.leading(n)
            values, vectors = linalg.eigh(one.ntk_train)
            rule = infinite_width.Training(
                time=training.steps(n), learning_rate_fraction=training.learning_rate_fraction,
                momentum=training.momentum,
            )  # fmt: skip
            c = n * y.shape[1]
            rate = infinite_width.learning_rate(rule, float(values[-1]), c) / c
            filtered = infinite_width.filtered_inverse(values, rule, rate)
            weights = (vectors @ (filtered[:, None] * (vectors.T @ one.ntk_cross))).T
            (law,) = infinite_width.finite_time_laws(one, y[:n], [rule])
            found.append((weights, law))
        return found


def sample(world: World, draws: Draws, members: int, rng: np.random.Generator) -> np.ndarray:
    """Outputs f (draws, sizes, members, T) of networks after training: the same members at every draw and size."""
    start = draws.root @ rng.standard_normal((len(draws.root), members))
    count, largest = draws.rows.shape
    test = start[count * largest :]
    found = np.empty((count, len(world.sizes), members, len(test)))
    for d, rows in enumerate(draws.rows):
        residual = start[d * largest : (d + 1) * largest] - world.split.y_train[rows]
        for i, n in enumerate(world.sizes):
            found[d, i] = (test - draws.weights[d][i] @ residual[:n]).T
    return found
