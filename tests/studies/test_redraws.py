"""Further draws of the training set at infinite width: which samples they are, and that their laws are theirs."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
from support.runs import tiny_text

from ntkhpc import infinite_width, kernels, studies
from ntkhpc.errors import RunError
from ntkhpc.networks import MLP
from ntkhpc.phase.block import Block
from ntkhpc.phase.work import Work
from ntkhpc.studies import data, frozen
from ntkhpc.studies.ensemble import redraws
from ntkhpc.studies.ensemble.study import EnsembleStudy

OUTPUTS, POINTS = 2, 15


def study(*, count: int = 3, draws: int = 2, momentum: float = 0.0, pool: int = 40) -> EnsembleStudy:
    text = tiny_text(redraws=count).replace("trace_points", f"draws = {draws}\ntrace_points").replace("40", str(pool))
    loaded = studies.loads(text.replace("[training.steps]", f"[training]\nmomentum = {momentum}\n[training.steps]"))
    return loaded.of_kind(EnsembleStudy)


def inputs(of: EnsembleStudy) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    rows = {"x_train": (of.data.pool, 4), "y_train": (of.data.pool, OUTPUTS), "x_test": (POINTS, 4)}
    values = {name: rng.normal(size=shape) for name, shape in rows.items()}
    return {**values, "y_test": rng.normal(size=(POINTS, OUTPUTS)), "permutation": data.permutations(of)}


def block(of: EnsembleStudy, start: int, stop: int) -> Block:
    return studies.layout(of).block({"redraw": (start, stop)})


class Kept:
    """Tiles in memory, of which no more than so many may be made."""

    def __init__(self, allowed: int):
        self.kept: dict[int, dict[str, np.ndarray]] = {}
        self.allowed = allowed

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        return self.kept.get(number)

    def save(self, number: int, values: Mapping[str, np.ndarray]) -> None:
        self.kept[number] = dict(values)
        if len(self.kept) == self.allowed:
            raise KeyboardInterrupt


@pytest.mark.promise("Laws of further draws are those of their own samples, steps and learning rates.")
@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_laws_of_further_draws_are_those_of_their_own_samples(momentum: float) -> None:
    """Against one law at a time, its rate from all eigenvalues of its NTK, its moments sums over pairs of points."""
    wanted = study(momentum=momentum)
    given = inputs(wanted)
    found = redraws.compute(Work(wanted, block(wanted, 0, 3), given))
    network = MLP(depth=1, activation="relu")
    for i, (j, n) in product(range(3), enumerate((8, 12))):
        rows = given["permutation"][2, 12 * i :][:n]
        x, y = given["x_train"][rows], given["y_train"][rows]
        largest = np.linalg.eigvalsh(kernels.nngp_ntk(network, x)[1])[-1]
        rate = 0.5 * 2 * (1 + momentum) * n * OUTPUTS / largest
        mean, covariance = infinite_width.trained_law(
            network, x, y, given["x_test"], time=n, learning_rate=rate, momentum=momentum
        )
        d = mean - given["y_test"]
        pair = (OUTPUTS * covariance**2 + 2 * covariance * (d @ d.T)) / (2 * OUTPUTS**2)
        expected = {
            "redraw_mu": ((d**2).mean() + np.diag(covariance).mean()) / 2,
            "redraw_sigma2": pair.mean(),
            "redraw_population_variance": pair[~np.eye(POINTS, dtype=bool)].mean(),
            "redraw_bias2": (d**2).mean() / 2,
            "redraw_variance": np.diag(covariance).mean() / 2,
        }
        for name, value in expected.items():
            assert found[name][i, j] == pytest.approx(value, rel=1e-9), name
        assert found.keys() == expected.keys()


@pytest.mark.promise("Further draws share no sample, as many as the pool allows.")
@pytest.mark.parametrize(("pool", "orders"), [(40, 3), (24, 4), (17, 7), (12, 7)])
def test_further_draws_share_no_sample_as_many_as_the_pool_allows(pool: int, orders: int) -> None:
    """7 draws of 12 samples: of a pool of 40 three are cut from each permutation."""
    wanted = study(count=7, pool=pool)
    permutation, apart = data.permutations(wanted), pool // 12
    assert permutation.shape == (2 + orders, pool)
    rows = [redraws.chosen(wanted, permutation, draw) for draw in redraws.numbers(wanted)]
    assert {len(set(one)) for one in rows} == {12}
    for first in range(0, 7, apart):
        together = np.concatenate(rows[first : first + apart])
        assert len(set(together)) == len(together)


def test_permutations_of_an_early_version_are_refused() -> None:
    wanted = study(count=7)
    early = np.array([np.arange(40)] * (2 + 7))
    with pytest.raises(RunError, match="9 permutations of the pool, this code makes 5"):
        redraws.chosen(wanted, early, 3)


def test_draws_do_not_depend_on_their_shard_and_finished_ones_are_not_computed_again() -> None:
    wanted = study(count=5)
    given = inputs(wanted)
    whole = redraws.compute(Work(wanted, block(wanted, 0, 5), given))
    part = redraws.compute(Work(wanted, block(wanted, 2, 4), given))
    kept = Kept(allowed=3)
    with pytest.raises(KeyboardInterrupt):
        redraws.compute(Work(wanted, block(wanted, 0, 5), given, kept))
    first = {number: tile["redraw_mu"].copy() for number, tile in kept.kept.items()}
    kept.allowed = 9
    again = redraws.compute(Work(wanted, block(wanted, 0, 5), given, kept))
    assert first.keys() == {2, 3, 4}  # by the numbers of the draws
    for name, values in whole.items():
        assert values.shape == (5, 2)
        assert values.dtype == np.float64
        np.testing.assert_array_equal(part[name], values[2:4])
        np.testing.assert_array_equal(again[name], values)


@pytest.mark.promise("Further draws of the training set are other permutations than the ensemble's own draws.")
def test_further_draws_are_other_permutations_than_the_ensembles_own() -> None:
    wanted = study(count=30, draws=3)
    orders, numbers = data.permutations(wanted), redraws.numbers(wanted)
    assert len(orders) == 3 + 10
    assert list(numbers) == list(range(3, 33))
    assert len({tuple(order) for order in orders}) == 13
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert list(studies.layout(wanted).dims["redraw"].values(wanted)) == list(numbers)  # type: ignore[misc]  # any object of that dimension


@pytest.mark.promise("More redraws leave the draws that there were as they were.")
def test_a_draw_is_the_same_whatever_further_draws_there_are() -> None:
    most = data.permutations(study(count=30, draws=3))
    for count, draws in ((0, 1), (0, 3), (1, 2), (7, 3)):
        fewer = data.permutations(study(count=count, draws=draws))
        np.testing.assert_array_equal(fewer, most[: len(fewer)])


def test_of_rows_in_file_order_the_first_draw_alone_is_in_file_order() -> None:
    text = tiny_text(redraws=4).replace('"calorimeter"', '"mnist"').replace("test = 15", 'test = 15\norder = "file"')
    in_order = data.permutations(studies.loads(text))
    permuted = data.permutations(studies.loads(text.replace('"file"', '"permuted"')))
    np.testing.assert_array_equal(in_order[0], np.arange(40))
    np.testing.assert_array_equal(in_order[1:], permuted[1:])
    assert len(in_order) == 1 + 2


def test_a_study_without_redraws_is_the_study_of_older_versions() -> None:
    """Neither phase nor arrays, one permutation a draw, and the frozen study that has no such field."""
    wanted = study(count=0)
    layout = studies.layout(wanted)
    assert "redraws" not in layout.phases
    assert not [array.name for array in layout.arrays() if "redraw" in array.name]
    assert wanted.orders == 2
    text = studies.dumps(wanted).decode()
    assert "redraws = 0\n" in text
    older = frozen.loads(text.replace("redraws = 0\n", ""))
    assert (older, older.id) == (wanted, wanted.id)
    assert studies.loads(text.replace("redraws = 0\n", "")) == study(count=32)
