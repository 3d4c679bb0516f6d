"""The report of a comparison: what its sections say of variants whose differences are known."""

import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray
from support import variants

import ntkhpc
from analysis import comparison, infinite, report
from analysis.comparison import agreement, answer, cautions, feature_strength, strength, untrained, untrained_section
from analysis.comparison.results import ComparisonResults, Variant, collect, of
from analysis.ensemble.results import EnsembleResults
from analysis.report import plotting
from ntkhpc.engine.run import Run
from ntkhpc.errors import RunError

PROVENANCE = {
    "code": "0" * 64, "versions": {"python": "3.11"}, "git": None, "hosts": ["here"], "devices": ["cpu"],
    "seconds_by_phase": {}, "started": "", "shards": 0, "fingerprints": 1, "changes": [],
    "analysis": {"code": "0" * 64, "versions": {"python": "3.11"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> EnsembleResults:
    return variants.ensemble(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def algorithms(base: EnsembleResults) -> ComparisonResults:
    return variants.algorithms(base)


@pytest.fixture(scope="module")
def strengths(base: EnsembleResults) -> ComparisonResults:
    return variants.strengths(base)


def page(results: ComparisonResults) -> str:
    made = comparison.publication(results)
    drawn = {name: plotting.svg(figure) for name, figure in made.figures.items()}
    return made.page(PROVENANCE, drawn)


def test_what_is_found_is_what_was_put_in(algorithms: ComparisonResults) -> None:
    """adam: 0.6 of the loss at 16, and an exponent larger by 0.3; near: none, to the noise of 2 % of 60 members."""
    found = {(d.what, d.quantity, d.width, d.variant): d for d in algorithms.differences}
    for width in algorithms.widths:
        tilt, loss = found["exponent", "mu_L", width, "adam"], found["value", "mu_L", width, "adam"]
        assert abs(tilt.estimate.value - 0.3) < 4 * tilt.estimate.stderr
        assert abs(loss.estimate.value - np.log(0.6 * 3**0.3)) < 4 * loss.estimate.stderr
        assert (tilt.verdict, loss.verdict) == ("differs", "differs")
        for name in ("mu_L", "eps_L"):
            assert found["exponent", name, width, "near"].verdict == "alike"


def test_the_first_box_says_it(algorithms: ComparisonResults) -> None:
    said = answer.claim(algorithms, "exponent")
    assert said.startswith(
        "Are exponents of N_D robust to `optimiser`, `learning_rate` and `momentum`? Of mu_L (gd: -0."
    )
    numbers = r"no: what differs is adam by \+0\.\d\d; "
    assert re.search(f"{numbers}no difference is seen for near", said)
    values = answer.claim(algorithms, "value")
    assert values.startswith("And losses and spreads at N_D = 48? Of mu_L")


def test_each_is_held_against_its_own_law_and_who_has_none_is_named(algorithms: ComparisonResults) -> None:
    said = agreement.claim(algorithms)
    assert re.search(r"at width 256: gd: .*; near: .*\. adam: no exact law for adam: ensemble only\.$", said)
    kept = agreement.fits(algorithms)["agreement"]
    assert kept["adam"] == "no exact law for adam: ensemble only"
    assert set(kept["gd"]) == {"mu_L", "eps_L", "variance"}


def test_networks_that_diverged_are_named_with_their_variant(algorithms: ComparisonResults) -> None:
    (said,) = [one for one in cautions.cautions(algorithms) if "width 64 diverged" in one]
    assert said.startswith("adam: 2 of 60 networks of width 64 diverged at one N_D or more (3, 5; at most 2 at one)")
    frame = cautions.SECTION.files(algorithms)["diverged"]
    assert set(frame.variant) == {"adam"}
    assert len(frame) == 2 * len(variants.SIZES)


def test_a_variant_without_a_number_is_named(algorithms: ComparisonResults) -> None:
    """As when all networks of a variant diverged at a width."""
    gone = {("adam", 64): ("exponent", "value"), ("near", 256): ("exponent",)}
    kept = tuple(
        d for d in algorithms.differences
        if not (d.what in gone.get((d.variant, d.width), ()) and (d.variant == "adam" or d.quantity == "eps_L"))
    )  # fmt: skip
    lacking = copy.copy(algorithms)
    lacking.__dict__["differences"] = kept
    second, first = cautions.cautions(lacking)[:2]
    assert first.startswith("of adam (width 64) nothing is compared with gd: one of the two has too few networks")
    assert second.startswith("of near (width 256) no exponent of eps_L is compared with gd")
    assert not any("is compared with" in one for one in cautions.cautions(algorithms))


def test_cautions_that_several_variants_share_are_said_once(algorithms: ComparisonResults) -> None:
    found = cautions.cautions(algorithms)
    assert len(found) == len(set(found))
    texts = [one.split(": ", 1)[1] for one in found]
    assert len(texts) == len(set(texts))


def test_centring_removes_what_it_was_made_to(strengths: ComparisonResults) -> None:
    """Centred networks were given a quarter of the loss, each with a factor of its own of 2 %."""
    found = untrained.removed(strengths)
    assert {(one.uncentred, one.centred) for one in found} == {("gd", "centred")}
    assert len(found) == len(strengths.widths) * len(variants.SIZES)
    for one in found:
        assert abs(one.removed.value - 0.75) < 4 * one.removed.stderr
        assert one.interval_95[0] < one.removed.value < one.interval_95[1]
    law = strengths.reference.results.law_mean.isel(n_train=-1)
    said = untrained_section.claim(strengths)
    assert f"the untrained function is {100 * float(law.variance / law.mu_L):.1f} % of mu_L there, exactly" in said


def test_the_error_of_a_share_is_the_jackknifes_over_tiles(base: EnsembleResults) -> None:
    """By brute force: moments of the members of all tiles but one, of the store's predictions."""
    store, study = base.store, base.study
    cell = store.isel(width=0, n_train=-1, draw=0)
    count, mean, m2 = study.ensemble.tile, cell.prediction_mean.values, cell.prediction_m2.values

    def share(used: np.ndarray) -> float:
        centre, members = mean[used].mean(axis=0), count * len(used)
        variance = (m2[used] + count * (mean[used] - centre) ** 2).sum(axis=0) / (members - 1)
        bias2 = (centre - store.y_test.values) ** 2 - variance / members
        return float(variance.mean() / (variance.mean() + bias2.mean()))

    tiles = np.arange(len(mean))
    left = np.array([share(np.delete(tiles, i)) for i in tiles])
    error = np.sqrt((len(tiles) - 1) / len(tiles) * ((left - left.mean()) ** 2).sum())
    found = untrained.share(base, int(store.width[0]), -1)
    assert found is not None
    assert found.value == pytest.approx(share(tiles))
    assert found.stderr == pytest.approx(error, rel=0.1)  # the same to first order


def test_feature_strength_goes_from_the_weakest_to_the_strongest(strengths: ComparisonResults) -> None:
    assert [one.name for one in strength.group(strengths)] == ["gd", "weak", "strong"]  # and not the centred ones
    points = [one for one in strength.points(strengths) if (one.what, one.quantity, one.width) == ("value", "mu_L", 64)]
    assert [one.strength for one in points] == pytest.approx([1 / 8, 0.25, 1.0])
    change = next(one for one in strength.changes(strengths) if (one.what, one.quantity) == ("value", "mu_L"))
    assert abs(change.change.value - np.log(0.2 * 3**0.2)) < 4 * change.change.stderr
    said = feature_strength.claim(strengths)
    assert "From 0.12 (gd) to 1 (strong) at width 64 and 0.062 (gd) to 1 (strong) at width 256 it changes mu_L" in said


def test_the_whole_report(strengths: ComparisonResults) -> None:
    made = comparison.publication(strengths)
    assert set(made.figures) == {"exponents", "learning_curves", "untrained_share", "feature_strength"}
    assert set(made.tables) == {
        "differences", "moments", "exponents", "untrained", "feature_strength", "dominant_members",
    }  # fmt: skip
    fits = json.loads(json.dumps(made.fits, allow_nan=False))
    assert set(fits) == set(comparison.cover(strengths).fits)
    assert (fits["reference"], len(fits["differences"])) == ("gd", len(strengths.differences))
    assert set(made.tables["moments"].variant) == {"gd", "weak", "strong", "centred"}
    html = page(strengths)
    for title in ("Differences between variants", "The numbers", "Learning curves", "The untrained function"):
        assert f">{title}</h2>" in html
    for claim in (answer.claim(strengths, "exponent"), untrained_section.claim(strengths)):
        assert claim.splitlines()[0] in made.summary


def test_sections_with_nothing_to_say_are_left_out(algorithms: ComparisonResults) -> None:
    made = comparison.publication(algorithms)
    assert set(made.figures) == {"exponents", "learning_curves"}
    assert set(made.tables) == {"differences", "moments", "exponents", "diverged", "dominant_members"}
    html = page(algorithms)
    assert "Feature strength</h2>" not in html
    assert "untrained function</h2>" not in html
    assert made.fits["feature_strength"] == made.fits["removed_by_centring"] == []


def test_without_a_centred_variant_nothing_is_said_of_the_untrained_function(strengths: ComparisonResults) -> None:
    without = replace(strengths, variants=strengths.variants[:-1])
    said = untrained_section.claim(without)
    assert "What of it is the untrained function is not measured" in said
    assert "removed" not in said


def test_variants_that_cannot_be_paired_are_refused(base: EnsembleResults) -> None:
    other = EnsembleResults(base.run, base.store.isel(n_train=slice(0, 2)), "", base.study)
    with pytest.raises(ValueError, match="they cannot be paired"):
        variants.compared(base, shorter=other)
    twice = [Variant("gd", base), Variant("gd", base)]
    with pytest.raises(ValueError, match="different names"):
        of(base.run, base.study, base.store, "", twice)


def test_descent_beside_an_algorithm_without_a_law_is_not_drawn_as_its_own(
    algorithms: ComparisonResults,
) -> None:
    adam = algorithms.variants[-1].results
    assert all(name in adam.store for name in infinite.REFERENCE)
    assert comparison.laws.beside(adam, 64) is None


@pytest.fixture
def copied(compared_run: Run, tmp_path: Path) -> Run:
    """A copy of the finished comparison that a test may spoil."""
    return Run(shutil.copytree(compared_run.path, tmp_path / "copy"))


def test_a_run_is_collected_into_its_variants_and_reported(copied: Run) -> None:
    found = collect(copied)
    assert [one.name for one in found.variants] == ["gd", "adam", "mup"]
    assert [one.results.has_law for one in found.variants] == [True, False, False]
    written = report.make(copied)
    assert "no exact law for adam: ensemble only" in written.read_text()
    assert set(pd.read_csv(written.parent / "moments.csv").variant) == {"gd", "adam", "mup"}


def test_moments_of_an_open_run_are_over_its_variants(compared_run: Run) -> None:
    moments = ntkhpc.open_run(compared_run.path).moments()
    assert list(moments.variant.values) == ["gd", "adam", "mup"]
    adam = collect(compared_run).variants[1].results.moments
    xarray.testing.assert_equal(moments.sel(variant="adam").drop_vars("variant"), adam)


def test_an_incomplete_run_is_refused_unless_partial(copied: Run) -> None:
    for path in copied.path.glob("receipts/finalise/*.json"):
        path.unlink()
    with pytest.raises(RunError, match="finalise shards missing"):
        collect(copied)
    figures = comparison.compose(copied, partial=True).figures
    assert "learning_curves" in figures
    assert all("PARTIAL" in figure.get_suptitle() for figure in figures.values())


def test_what_there_is_of_a_run_without_networks_is_reported(copied: Run) -> None:
    for phase in ("ensemble", "finalise", "recheck"):
        for path in copied.path.glob(f"receipts/{phase}/*.json"):
            path.unlink()
    made = comparison.compose(copied, partial=True)
    assert "cannot be compared" in made.summary
    assert made.fits["differences"] == []
