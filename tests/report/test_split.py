"""What finite width does: linearised networks beside the networks themselves, and the kernels they begin with."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.leapt_results import changed, leapt_results, with_store

from analysis.ensemble import initial_kernel, split, width_dependence
from analysis.ensemble.results import EnsembleResults
from ntkhpc.finite_width import kernel_fluctuations
from ntkhpc.networks import MLP


@pytest.fixture(scope="module")
def made() -> EnsembleResults:
    return leapt_results()


def test_changes_of_finite_width_add_up_and_are_those_of_pairs(made: EnsembleResults) -> None:
    found = split.changes(made)
    assert len(found) == 16
    for one in found:
        first, second, both = (one.steps[step] for step in split.STEPS)
        assert first.value + second.value == pytest.approx(both.value)
        if one.quantity == "mu_L":  # the same seeds: the difference is known far better than either
            assert second.stderr < 0.7 * both.stderr
    (mine,) = made.leapt.splits[found[0].width, found[0].n_train]
    cell = made.store.isel(width=0, n_train=0, draw=0)
    kernel = cell.twin_kernel.values
    assert mine.kernel.value == pytest.approx(kernel.std(ddof=1) / kernel.mean())
    exact = float(made.law_mean.mu_L[0])
    assert found[0].steps[split.STEPS[0]].value == pytest.approx(np.log(float(cell.twin_loss.mean()) / exact))


@pytest.mark.promise("The spread of the initial kernel in a report is that of random networks at order 1/width.")
def test_the_initial_kernel_varies_as_at_order_1_over_width(made: EnsembleResults) -> None:
    """Of one hidden layer the variance has no other order. Eight tests and two sentences: false alarms in 3 of 100."""
    found = made.leapt.initial_kernels
    assert len(found) == 8
    rows = made.store.permutation.values[0]
    for one in found:
        right, wrong = (
            kernel_fluctuations(MLP(1, "relu"), made.store.x_train.values[some[: one.n_train]]) / one.width**0.5
            for some in (rows, np.arange(300))
        )
        assert one.predicted == pytest.approx(right, rel=1e-12)
        assert abs(right / wrong - 1) > 1e-4
        assert one.ratio.stderr < 0.1
        assert one.ratio.p_value(1.0) > 1e-3
    _, said = initial_kernel.sentences(found)
    assert [one.split(":")[0] for one in said] == ["width 64", "width 256"]
    assert all("told from one at no size" in one for one in said)
    heading, *shown = initial_kernel.tables(found)[0].rows
    assert heading[-1] == "at order 1/width"
    assert shown[0][-1] == f"{100 * found[0].predicted:.3g} %"

    def widen(arrays: dict[str, np.ndarray]) -> None:
        kernels = arrays["twin_kernel"]
        arrays["twin_kernel"] += kernels - kernels.mean(axis=-1, keepdims=True)

    _, said = initial_kernel.sentences(changed(made, widen).leapt.initial_kernels)
    assert all("told from one at every size" in one for one in said)


def test_the_law_of_the_initial_kernel_is_of_so_many_samples_and_of_known_networks(
    made: EnsembleResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made.leapt.initial_kernels
    monkeypatch.setattr(initial_kernel, "MOST", 64)
    first = initial_kernel.fluctuations(made.study, made.store, made.leapt.splits)
    for i, one in enumerate(first):
        same = whole[i if one.n_train <= 64 else i - i % 4 + 1]  # the second size has 64
        assert one.predicted == same.predicted
        assert (one.ratio is None) == (one.n_train > 64)
    assert initial_kernel.tables(first)[0].note.endswith("Of more than 64 samples it is of the first 64.")
    assert "more than" not in initial_kernel.tables(whole[:2])[0].note
    assert initial_kernel.sentences(first) == initial_kernel.sentences([*whole[:2], *whole[4:6]])
    conv = SimpleNamespace(network=SimpleNamespace(architecture="serial(...)"))
    for study, store in ((conv, made.store), (made.study, made.store.drop_vars("x_train"))):
        unknown = initial_kernel.fluctuations(study, store, made.leapt.splits)
        assert len(unknown) == 8
        assert all(one.predicted is None for one in unknown)
        (table,) = initial_kernel.tables(unknown)
        assert table.rows[0] == ("width", "N_D", "spread of the initial kernel")
        assert "At order 1/width" not in table.note
        assert initial_kernel.sentences(unknown) == []


def test_wider_networks_are_foreseen_from_the_narrowest(made: EnsembleResults) -> None:
    found = split.changes(made)
    narrow, wide = ({(one.quantity, one.n_train): one for one in found if one.width == width} for width in (64, 256))
    for key, one in narrow.items():
        assert one.from_narrow is None
        both, told = one.steps[split.STEPS[2]].of_ratio(), wide[key].from_narrow
        assert told.value == pytest.approx(both.value / 4)
        next_order = both.value**2 * 3 / 16
        assert told.stderr == pytest.approx(np.hypot(both.stderr / 4, next_order))
    (rows, _) = (one.rows for one in split.tables(made))
    assert rows[0][-1] == "both, from width 64"
    assert [row[-1] == "-" for row in rows[1:]] == [row[1] == "64" for row in rows[1:]]
    alone = split.tables(with_store(made, made.store.isel(width=slice(0, 1))))[0]
    assert alone.rows[0][-1] == "both"
    assert "From width" not in alone.note


def test_a_report_with_twins_does_not_say_that_twins_would_tell(made: EnsembleResults) -> None:
    for store, said in ((made.store.drop_vars("twin_loss"), True), (made.store, False)):
        found = with_store(made, store)
        found.__dict__["comparisons"] = {("mu_L", 64): SimpleNamespace(differs=True)}
        assert (width_dependence.UNKNOWN in width_dependence.sentences(found)) == said


def test_what_training_does_beyond_the_kernel_is_found_and_the_kernel_is_not_blamed(made: EnsembleResults) -> None:
    """Truth: +10 % for training, nothing for the kernel. A size is told wrongly with 1 % in a sentence."""
    _, said, *_ = split.sentences(made)
    assert len(said) == 4
    for one in said[:2]:
        kernel, beyond = one.split(", training beyond it by ")
        assert "told from zero at no size" in kernel
        assert "told from zero at every size" in beyond
        assert beyond.startswith("+")
