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
    """Some draws of the training set, and all that members share on them: `rows` (draws, largest size) of the world's.

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
    """Exact laws of draws. Pools of studies are drawn from the samples of `split`, with replacement."""

    study: EnsembleStudy
    split: Split

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.study.ensemble.n_train

    @cached_property
    def nngp_test(self) -> np.ndarray:
        return kernels.nngp_ntk(mlp(self.study), self.split.x_test)[0]

    def pool(self, rng: np.random.Generator) -> np.ndarray:
        """The samples of one study's pool, rows of the world's, independent: some may be the same."""
        return rng.integers(len(self.split.x_train), size=self.study.data.pool)

    def rows(self, rng: np.random.Generator, pool: np.ndarray, draws: int, apart: int = 1) -> np.ndarray:
        """Training samples (draws, largest size) from a pool; `apart` draws one after another share none."""
        largest = self.sizes[-1]
        orders = [rng.permutation(pool)[: apart * largest].reshape(apart, largest) for _ in range(-(-draws // apart))]
        return np.concatenate(orders)[:draws]

    def draws(self, rows: np.ndarray) -> Draws:
        x = self.split.x_train[rows.ravel()]
        both = np.concatenate([x, self.split.x_test])
        covariance = kernels.nngp_ntk(mlp(self.study), both)[0]
        covariance[np.diag_indices(len(both))] *= 1 + 1e-9  # draws may share a shower
        return Draws(
            rows,
            scipy.linalg.cholesky(covariance, lower=True, check_finite=False),
            [self._weights(one) for one in rows],
            [self.laws(one) for one in rows],
        )

    def laws(self, rows: np.ndarray) -> list[infinite_width.Law]:
        """The exact law at every size of one draw (largest size,)."""
        y = self.split.y_train[rows]
        blocks = self._blocks(rows)
        return [
            next(iter(infinite_width.finite_time_laws(blocks.leading(n), y[:n], [self._rule(n)]))) for n in self.sizes
        ]

    def _weights(self, rows: np.ndarray) -> list[np.ndarray]:
        """(T, n) at every size of one draw."""
        found, blocks, outputs = [], self._blocks(rows), self.split.y_train.shape[1]
        for n in self.sizes:
            one = blocks.leading(n)
            values, vectors = linalg.eigh(one.ntk_train)
            c = n * outputs
            rate = infinite_width.learning_rate(self._rule(n), float(values[-1]), c) / c
            filtered = infinite_width.filtered_inverse(values, self._rule(n), rate)
            found.append((vectors @ (filtered[:, None] * (vectors.T @ one.ntk_cross))).T)
        return found

    def _blocks(self, rows: np.ndarray) -> infinite_width.Panels:
        return infinite_width.panels(mlp(self.study), self.split.x_train[rows], self.split.x_test, self.nngp_test)

    def _rule(self, n: int) -> infinite_width.Training:
        training = self.study.training
        return infinite_width.Training(
            time=training.steps(n),
            learning_rate_fraction=training.learning_rate_fraction,
            algorithm=training.algorithm,
        )


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
