"""What the exact law at infinite width foresees of the errors of a study, before a network is trained."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from analysis.budgets.foreseen import VALUES, Foreseen, draw_sources, with_usual_leaps
from analysis.contrasts import ErrorSource
from analysis.ensemble import curves
from analysis.ensemble.curves import Drawn
from ntkhpc import infinite_width, joint_loss, kernels, loss_law
from ntkhpc.data.split import Split
from ntkhpc.infinite_width import Panels
from ntkhpc.responses import Response
from ntkhpc.studies import cost
from ntkhpc.studies import data as data_phase
from ntkhpc.studies.ensemble import exact, network, redraws
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import EnsembleStudy

MOST_POINTS = 2000
"""Test points whose cumulants are computed. Of a larger set what members do is that of so many points, whose eps_L, the
error of mu_L by one member, is a little too large; what the choice of the points does is that of the whole set."""

FEW_POINTS = 300
"""Test points by which sizes and draws are compared with one another."""

FEWEST_DRAWS, SECONDS_FOR_DRAWS = 8, 60.0
"""Further draws whose laws are computed: as many of the study's as take so long, and 8 at least."""


@dataclass(frozen=True)
class _Trained:
    """Networks of one draw and size: rows of the pool, blocks of kernels, and how they answer to training."""

    rows: np.ndarray
    blocks: Panels
    response: Response
    mean: np.ndarray

    @property
    def turned(self) -> np.ndarray:
        """A K_X* (T, T)."""
        return np.asarray(self.response.of_start.T @ self.blocks.nngp_cross)


def foresee(study: EnsembleStudy, split: Split) -> Foreseen:
    """From the law of the study's own networks, which it must have (`standing.is_own`)."""
    sizes = np.array(study.ensemble.n_train, float)
    orders = data_phase.permutations(study)
    first = orders[0, : study.ensemble.n_train[-1]]
    further = [redraws.chosen(study, orders, number) for number in redraws.numbers(study)][: _draws(study)]
    test = _spread(study.data.test, MOST_POINTS)
    few = _spread(len(test), FEW_POINTS)
    nngp_test = kernels.nngp_ntk(mlp(study), split.x_test[test])[0]
    whole = _panels(study, split, first, test, nngp_test)
    y_test = split.y_test[test]
    errors, points = _cells(study, whole, split.y_train[first], y_test)
    less = test[few], nngp_test[np.ix_(few, few)]
    sets = [first, further[0] if further else orders[-1, : len(first)]]
    covariances = _together(study, split, sets, *less)
    trained = {name: _rescaled(covariances[name], errors[name])[None] for name in VALUES}
    cut = Drawn(study.data.pool, redraws.apart(study))
    tables = _tables(study, split, further, *less) if len(further) > 1 else {}
    return Foreseen(
        sizes,
        ("every width",),
        trained,
        *with_usual_leaps(trained),
        draw_sources(tables, study.ensemble.n_train, cut),
        points,
        Drawn(study.data.pool),
    )


def seconds(study: EnsembleStudy) -> float:
    """Projected for one reference core: cells with all moments, two draws together, and further draws."""
    sizes, test, few = study.ensemble.n_train, min(study.data.test, MOST_POINTS), min(study.data.test, FEW_POINTS)
    pairs = 2 * len(sizes) * (2 * len(sizes) + 1) / 2
    moments = (len(sizes) * 6.0 * test**3 + pairs * 8.0 * few**3) / cost.FLOPS_FLOAT64
    further = min(_draws(study), study.infinite_width.redraws)
    kernel = network.kernel_seconds(study, test**2 / 2)
    return kernel + moments + _draw_seconds(study, test) + (2 + further) * _draw_seconds(study, few)


def _draws(study: EnsembleStudy) -> int:
    """Further draws whose laws are computed at most."""
    each = _draw_seconds(study, min(study.data.test, FEW_POINTS))
    return max(FEWEST_DRAWS, int(SECONDS_FOR_DRAWS / each))


def _draw_seconds(study: EnsembleStudy, test: int) -> float:
    """Laws of all sizes of one draw, at so many test points."""
    sizes = study.ensemble.n_train
    pairs = sizes[-1] ** 2 / 2 + sizes[-1] * test
    flops = sum(30.0 * n**3 + 4 * n**2 * test + (2 * n + 250) * test**2 for n in sizes)
    batched = sum(exact.batched_seconds(study, n, study.training.steps(n)) for n in sizes)
    return network.kernel_seconds(study, pairs) + flops / cost.FLOPS_FLOAT64 + batched


def _spread(count: int, most: int) -> np.ndarray:
    """So many of `count` rows at most, at equal distances: files may be in some order."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _panels(study: EnsembleStudy, split: Split, rows: np.ndarray, test: np.ndarray, nngp_test: np.ndarray) -> Panels:
    return infinite_width.panels(mlp(study), split.x_train[rows], split.x_test[test], nngp_test)


def _responses(study: EnsembleStudy, blocks: Panels) -> Iterator[Response]:
    """At each size; of members with orders of their own for mini-batches, those of one order."""
    order = exact.orders(study)[0]
    for n in study.ensemble.n_train:
        training = exact.training(study, study.training.steps(n), order)
        yield from infinite_width.finite_time_responses(blocks.leading(n), study.outputs, [training])


def _cells(
    study: EnsembleStudy, blocks: Panels, y_train: np.ndarray, y_test: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, ErrorSource | None]]:
    """Errors of the logarithms by one member (size,), and what all test points do, from these ones, by quantity."""
    errors, moments = [], []
    order = exact.orders(study)[0]
    for n in study.ensemble.n_train:
        training = exact.training(study, study.training.steps(n), order)
        law = next(infinite_width.finite_time_laws(blocks.leading(n), y_train[:n], [training]))
        mean, covariance = exact.scaled(study, law)
        errors.append(joint_loss.log_errors(loss_law.loss_moments(mean, covariance, y_test)))
        one = loss_law.statistics(mean, covariance, y_test)
        moments.append((one.point_mean, one.point_covariance, one.point_variance))
    table = tuple(np.array(one) for one in zip(*moments, strict=True))
    share = len(y_test) / study.data.test
    points = {
        name: one and replace(one, deviates=one.deviates * np.sqrt(share))
        for name, one in ((name, curves.points(name, *table)) for name in VALUES)
    }
    return {name: np.array([one[name] for one in errors]) for name in VALUES}, points


def _together(
    study: EnsembleStudy, split: Split, sets: list[np.ndarray], test: np.ndarray, nngp_test: np.ndarray
) -> dict[str, np.ndarray]:
    """Covariances of the logarithms (draw, size, draw, size) by members, at few test points."""
    found: list[_Trained] = []
    for rows in sets:
        blocks = _panels(study, split, rows, test, nngp_test)
        for n, response in zip(study.ensemble.n_train, _responses(study, blocks), strict=True):
            mean = response.scale * response.of_targets.T @ split.y_train[rows[:n]]
            found.append(_Trained(rows[:n], blocks.leading(n), response, mean))
    gamma = study.network.output_scale(1).gamma
    between = {
        (i, j): kernels.nngp_ntk(mlp(study), split.x_train[one], split.x_train[other])[0]
        for i, one in enumerate(sets)
        for j, other in enumerate(sets)
        if i < j
    }
    turned = [one.turned for one in found]
    count = len(study.ensemble.n_train)

    def covariance(i: int, j: int) -> np.ndarray:
        one, other = found[i], found[j]
        if i // count == j // count:
            longer = one if len(one.rows) > len(other.rows) else other
            kernel = longer.blocks.nngp_train
        else:
            kernel = between[i // count, j // count]
        kernel = kernel[: len(one.rows), : len(other.rows)]
        value = nngp_test - turned[i] - turned[j].T
        value += one.response.of_start.T @ (kernel @ other.response.of_start)
        return value * (one.response.scale * other.response.scale / gamma**2)

    together = joint_loss.joint_cumulants([one.mean - split.y_test[test] for one in found], covariance)
    shape = (len(sets), count, len(sets), count)
    return {name: one.reshape(shape) for name, one in joint_loss.log_covariances(together).items()}


def _rescaled(covariance: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """With the correlations of (draw, size, draw, size) and these errors (size,) at every draw."""
    own = np.sqrt(np.einsum("aiai->ai", covariance))
    factor = errors / own
    return covariance * factor[:, :, None, None] * factor


def _tables(
    study: EnsembleStudy, split: Split, sets: list[np.ndarray], test: np.ndarray, nngp_test: np.ndarray
) -> dict[str, np.ndarray]:
    """mu_L, sigma_L and eps_L (draw, size) of laws of draws."""
    rows = []
    for one in sets:
        blocks, y = _panels(study, split, one, test, nngp_test), split.y_train[one]
        found = []
        for n in study.ensemble.n_train:
            steps = [study.training.steps(n)]
            found += exact.statistics(study, blocks.leading(n), y[:n], split.y_test[test], steps)
        rows.append([(s.mu_L, s.sigma_L, s.eps_L) for s in found])
    return dict(zip(VALUES, np.moveaxis(np.array(rows), -1, 0), strict=True))
