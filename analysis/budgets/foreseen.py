"""What is known of the errors of a study before it is run: what one member, one draw and one test point do.

From the exact law at infinite width: its cumulants at every training-set size, the joint cumulants of the sizes, which
share their members (ntkhpc.joint_loss), and laws of further draws. Networks of finite width spread more or less.
Leaps are taken to be worth what was measured at least; a pilot (analysis.budgets.pilot) measures all of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray

from analysis.budgets.budget import MemberVariance, Target
from analysis.contrasts import ErrorSource, slope_weights
from analysis.ensemble import curves
from analysis.ensemble.curves import Drawn
from ntkhpc.studies.ensemble.study import EnsembleStudy

VALUES = ("mu_L", "sigma_L", "eps_L")
EXPONENTS = {"exponent_mu_L": "mu_L", "exponent_eps_L": "eps_L"}
QUANTITIES = (*VALUES, *EXPONENTS)
"""What budgets are made for. The error of a value is relative; that of an exponent is absolute, which is the relative
change that it means for a factor e in N_D."""

MOST_DRAWS = 64

REDUCTION = {"mu_L": 20.0, "sigma_L": 8.0, "eps_L": 8.0}
"""Var(L)/Var(L - L_leap) of estimates without a pilot: the least that was measured over widths and sizes."""

Covariances = Mapping[str, np.ndarray]
"""By quantity (width, draw, size, draw, size): of the logarithms, times the number of members."""


@dataclass(frozen=True)
class Foreseen:
    """Errors of a study at sizes n (k,), by names of widths (of the law they are all one).

    `trained`, `leapt` and `difference` are covariances by members, as `analysis.budgets.budget` needs them. `draw` and
    `points` are the sources of errors by the draw of the training set and by the test points, by quantity, where they
    are known.
    `common` tells what of a member's part draws have in common where `trained` is of one draw: as covariances of
    several, whose share is taken. `drawn` tells how the study makes its own draws, each a permutation of the pool.
    """

    n: np.ndarray
    widths: tuple[str, ...]
    trained: Covariances
    leapt: Covariances
    difference: Covariances
    draw: Mapping[str, ErrorSource | None]
    points: Mapping[str, ErrorSource | None]
    drawn: Drawn
    common: Covariances | None = None

    @classmethod
    def of_nothing(cls, study: EnsembleStudy) -> "Foreseen":
        """Where no law tells anything."""
        n = np.array(study.ensemble.n_train, float)
        return cls(n, (), {}, {}, {}, {}, {}, Drawn(study.data.pool))

    def targets(self, quantity: str) -> list[Target]:
        """The numbers that a quantity of QUANTITIES is: one for each width and size, or the exponent of each width.

        Raises ValueError for an exponent of fewer than 3 sizes, which no report fits.
        """
        if quantity in VALUES:
            return [
                self._target(quantity, w, np.eye(len(self.n))[i], f"{quantity}, {name}, N_D {n:,.0f}")
                for w, name in enumerate(self.widths)
                for i, n in enumerate(self.n)
            ]
        if len(self.n) < 3:
            raise ValueError(f"{quantity}: no exponent is fitted to fewer than 3 sizes of ensemble.n_train")
        of, weights = EXPONENTS[quantity], slope_weights(self.n)
        draws = self._draws(of, weights)
        return [self._target(of, w, weights, f"exponent of {of}, {name}", draws) for w, name in enumerate(self.widths)]

    def _target(self, of: str, w: int, weights: np.ndarray, name: str, draws: np.ndarray | None = None) -> Target:
        """A value is that of the draws that there are, an exponent of all, with the variance `draws` of their means."""
        source = self.points.get(of)
        return Target(
            name,
            trained=self._shared(self.trained[of][w], weights, of),
            leapt=self._shared(self.leapt[of][w], weights, of),
            difference=self._shared(self.difference[of][w], weights, of),
            draws=np.zeros(MOST_DRAWS) if draws is None else draws,
            points=0.0 if source is None else float(((weights @ source.deviates) ** 2).sum()),
            absolute=draws is not None,
        )

    def _shared(self, covariance: np.ndarray, weights: np.ndarray, of: str) -> MemberVariance:
        """Of a contrast, from (draw, size, draw, size)."""
        found = _contrast(covariance, weights)
        if len(covariance) > 1 or self.common is None:
            return found
        other = _contrast(self.common[of][0], weights)
        return MemberVariance(found.own, found.own * other.between / other.own)

    def _draws(self, of: str, weights: np.ndarray) -> np.ndarray:
        source = self.draw.get(of)
        if source is None:
            return np.zeros(MOST_DRAWS)
        means = [curves.averaged(source, self.n, self.drawn, count).deviates for count in range(1, MOST_DRAWS + 1)]
        return np.array([((weights @ one) ** 2).sum() for one in means])


def _contrast(covariance: np.ndarray, weights: np.ndarray) -> MemberVariance:
    """What a single draw has in common with others nobody knows: all of it."""
    table = np.einsum("i,aibj,j->ab", weights, covariance, weights)
    count, trace = len(table), float(np.trace(table))
    own = trace / count
    return MemberVariance(own, (float(table.sum()) - trace) / (count * (count - 1)) if count > 1 else own)


def with_usual_leaps(trained: Covariances) -> tuple[Covariances, Covariances]:
    """Covariances of leaps, and of trained networks less leaps, where no pilot tells them."""
    return trained, {name: one / REDUCTION[name] for name, one in trained.items()}


def draw_sources(tables: Mapping[str, np.ndarray], n: Sequence[int], drawn: Drawn) -> dict[str, ErrorSource | None]:
    """By quantity, what a draw does, from values (draw, size) of draws at the sizes n made as `drawn` tells."""
    return {
        name: curves.draws(xarray.DataArray(table, dims=("draw", "n_train"), coords={"n_train": list(n)}), drawn)
        for name, table in tables.items()
    }
