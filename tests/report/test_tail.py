"""The section on exact curves far beyond the ensembles, from curves of known shape and from a run."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import xarray
from support.runs import run_shards, tiny_text

from analysis import ensemble
from analysis.contrasts import Curve, ErrorSource
from analysis.ensemble import endings, tail, tail_figure
from analysis.ensemble.results import EnsembleResults
from analysis.report.symbols import markup
from ntkhpc import studies
from ntkhpc.engine import run
from ntkhpc.engine.run import Run

N = (16, 32, 64, 128, 256, 512, 1024, 2048)

STUDY = """
name = "t"
[data]
source = "calorimeter"
pool = {pool}
test = 200
[network]
widths = [64, 1024]
[ensemble]
n_train = [16, {largest}]
members = 20
tile = 2
[infinite_width]
n_train = {sizes}
times = ["infinite"]
"""

FALLS, FLAT = -0.5, 0.0


def results(
    eps: float = FALLS, population: float = FALLS, *, draws: int = 8, pool: int = 4096, points: bool = True,
    iterated: bool = False, largest: int = 32,
) -> EnsembleResults:  # fmt: skip
    """Curves of 200 test points that are power laws with these exponents; one draw has no error of the draw, and an
    iterated curve none of the test points, but one of its iteration by 16 probes."""
    n, rng = np.array(N, float), np.random.default_rng(3)
    known = draws > 1 and N[-1] <= 0.9 * pool

    def curve(exponent: float) -> Curve:
        parts = [("draw", draws, draws - 1.0)] * known + [("test points", 200, np.nan)] * (points and not iterated)
        parts += [("iteration", 16, 15.0)] * iterated
        made = [ErrorSource(name, 0.003 * rng.normal(size=(len(n), m)) / np.sqrt(m), dof) for name, m, dof in parts]
        return Curve(n, 0.2 * (n / 16) ** exponent, tuple(made))

    exponents = {"mu_L": -1.0, "sigma_L": -1.0 + eps, "eps_L": eps, "eps_pop": population}
    found = SimpleNamespace(
        study=studies.loads(STUDY.format(pool=pool, largest=largest, sizes=list(N))),
        exact_curves={(name, "infinite"): curve(exponent) for name, exponent in exponents.items()},
        curve=xarray.Dataset(coords={"draw": range(draws), "time": ["infinite"]}),
        mean=xarray.Dataset(coords={"width": [64, 1024]}),
        sizes=np.array([16, largest]),
        has_curve=True,
        has_law=True,
    )
    return cast(EnsembleResults, found)


def said(found: EnsembleResults) -> str:
    parts = tail.sentences(found)
    text = " ".join(one if isinstance(one, str) else " ".join(one) for one in parts)
    assert "nan" not in markup(text).lower()
    return text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (results(), ("eps_L goes on falling (exponent -0.5", "eps_pop goes on falling (exponent -0.5", "from 8 draws")),
        (
            results(FLAT, FALLS),
            ("eps_L levels off", "eps_pop goes on falling", "what is left of eps_L is the choice of the test points"),
        ),
        (results(FLAT, FLAT), ("eps_L levels off", "eps_pop levels off")),
        (results(0.5), ("eps_L rises (exponent +0.5",)),
        (
            results(draws=1),
            ("cannot tell for eps_L: its exponent -0.50 is that of these samples", "cannot be told: an exact curve of "
             "one draw has no such error"),
        ),
        (results(pool=2048), ("cannot tell for eps_pop", "draws of 2,048 take nearly all of the pool of 2,048")),
        (results(draws=3), ("eps_L goes on falling", "cannot tell for eps_pop", "an error that 3 draws do not tell")),
        (results(draws=4), ("eps_L goes on falling", "eps_pop goes on falling")),
        (results(points=False), ("eps_L goes on falling", "cannot tell for eps_pop", "is that of these test points")),
    ],
)  # fmt: skip
def test_what_is_said_of_the_end_is_what_the_errors_allow(found: EnsembleResults, words: tuple[str, ...]) -> None:
    text = said(found)
    for one in words:
        assert one in text
    assert ("levels off:" in text) == any(one.end == "independent" for one in endings.endings(found))


BEHIND = "Behind ± stands half of a 68 % interval"
DRAW, POINTS = "the draw of the training set", "the choice of the test points"
ITERATION, HERE = "the iteration (random probes and residuals)", "on these test points"


@pytest.mark.parametrize(
    ("found", "behind"),
    [
        (results(), f"{BEHIND}: of eps_L for {DRAW}, {HERE}; of eps_pop for {DRAW} and {POINTS}."),
        (results(draws=1), f"{BEHIND}: of eps_pop for {POINTS}."),
        (results(points=False), f"{BEHIND}: of eps_L and eps_pop for {DRAW}, {HERE}."),
        (results(iterated=True), f"{BEHIND}: of eps_L and eps_pop for {DRAW} and {ITERATION}, {HERE}."),
        (results(iterated=True, draws=1), f"{BEHIND}: of eps_L and eps_pop for {ITERATION}, {HERE}."),
        (results(points=False, draws=1), ""),
    ],
)
def test_errors_are_said_to_contain_the_sources_that_they_have(found: EnsembleResults, behind: str) -> None:
    assert behind in said(found)
    assert (BEHIND in said(found)) == bool(behind)
    note = tail.table(found).note
    of_all = behind.replace("of eps_L for", "of mu_L, sigma_L and eps_L for")
    of_all = of_all.replace("of eps_L and eps_pop for", "of mu_L, sigma_L, eps_L and eps_pop for")
    assert f"± half of its 68 % interval{of_all.removeprefix(BEHIND) or '.'} Test points: " in note
    assert ("of the iteration is in all of them" in note) == ("iteration" in behind)


def test_an_iterated_curve_has_the_error_of_its_iteration_in_every_table() -> None:
    found = results(iterated=True)
    files = tail.files(found)
    curve = found.exact_curves["eps_L", "infinite"].of("iteration")
    one = files["tail"].set_index("quantity").loc["eps_L"]
    assert one.stderr_iteration == pytest.approx(curve.upper()[1].stderr)
    assert one.change_stderr_iteration > 0
    assert files["tail"].stderr_test_points.isna().all()
    steps = files["local_exponents"].set_index("quantity").loc["eps_L"]
    np.testing.assert_allclose(steps.stderr_iteration, [curve.local_slope(i).stderr for i in range(len(N) - 1)])
    assert tail.files(results())["tail"].stderr_iteration.isna().all()
    assert "cannot tell for eps_pop: its exponent -0.5" in said(found)
    assert "is that of these test points" in said(found)


def test_an_error_too_large_to_tell_is_given_with_its_interval() -> None:
    found = results(-0.12)
    one = found.exact_curves["eps_L", "infinite"]
    louder = tuple(ErrorSource(s.name, 60 * s.deviates, s.dof) for s in one.sources)
    found.exact_curves["eps_L", "infinite"] = Curve(one.n, one.value, louder)
    assert "cannot tell for eps_L" in said(found)
    assert "is neither told from zero at 1 % (p = " in said(found)


@pytest.mark.parametrize(("largest", "far"), [(512, True), (513, False)])
def test_a_curve_that_ends_near_the_ensembles_has_no_such_section(largest: int, far: bool) -> None:
    """Four times their largest size is far."""
    found, section = results(largest=largest), tail.SECTION
    made = (section.tables(found), section.sentences(found), section.fits(found)["tail"], section.files(found))
    assert [bool(one) for one in made] == [far] * 4
    assert (section.figure(found) is not None) == far


def test_marks_stand_where_the_square_of_the_size_is_about_the_width() -> None:
    figure = tail_figure.tail(results())
    assert figure is not None
    strip = figure.axes[4]
    marks = [float(line.get_xdata()[0]) for line in strip.lines if line.get_marker() in ("o", "s")]
    np.testing.assert_allclose(np.square(marks), [64, 1024])
    ends = [segment[:, 0] for collection in strip.collections for segment in collection.get_segments()]
    np.testing.assert_allclose(np.square(ends), [[6.4, 640], [102.4, 10240]])
    low, high = strip.get_xlim()
    assert low < 8
    assert high > 2048
    assert "N_D = 8 at width 64, 32 at width 1,024" in said(results())


@pytest.mark.parametrize(("width", "beyond"), [(400_000, True), (500_000, False)])
def test_the_end_is_beyond_networks_only_where_the_square_of_the_size_exceeds_ten_widths(
    width: int, beyond: bool
) -> None:
    """2048^2/10 is 419,430."""
    found = results()
    found.mean["width"] = [64, width]
    assert ("not about networks of these widths" in said(found)) == beyond


def test_numbers_of_the_tables_are_those_of_the_curves() -> None:
    found = results(FALLS, -0.25)
    files = tail.files(found)
    one = files["tail"].set_index("quantity").loc["eps_pop"]
    assert (one.n_min, one.n_max, one.before_n_min, one.end) == (512, 2048, 128, "falls")
    assert one.exponent == pytest.approx(-0.25)
    assert one.change == pytest.approx(0, abs=1e-12)
    curve = found.exact_curves["eps_pop", "infinite"]
    assert one.stderr_draw == pytest.approx(curve.of("draw").upper()[1].stderr)
    assert one.stderr_test_points == pytest.approx(curve.of("test points").upper()[1].stderr)
    steps = files["local_exponents"]
    assert len(steps) == 4 * (len(N) - 1)
    np.testing.assert_allclose(steps[steps.quantity == "eps_pop"].exponent, -0.25)
    assert tail.fits(found)["tail"]["eps_pop infinite"]["exponent"]["value"] == pytest.approx(-0.25)
    alone = tail.files(results(draws=1))["tail"]
    assert alone.stderr_draw.isna().all()
    assert alone.stderr_test_points.notna().all()


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with nothing but its data and an exact curve of four draws, to eight times the ensembles."""
    text = tiny_text(redraws=0).replace("pool = 40", "pool = 80")
    text += 'n_train = [8, 16, 32, 64]\ndraws = 4\ntimes = ["infinite"]\n'
    target = run.create(tmp_path_factory.mktemp("far"), studies.loads(text))
    for phase in ("data", "curve"):
        done = run_shards(target, [shard.id for shard in target.plan.of_phase(phase)])
        assert done.returncode == 0, done.stderr
    return target


def test_a_run_whose_curve_goes_far_has_the_section(far: Run) -> None:
    made = ensemble.compose(far, partial=True)
    assert "tail" in made.figures
    assert {"tail", "local_exponents"} <= made.tables.keys()
    exact = made.tables["curve"]
    assert set(made.fits["tail"]) == {f"{name} infinite" for name in ("mu_L", "sigma_L", "eps_L", "eps_pop")}
    logarithms = np.log(exact.pivot_table(values="mu_L", index="draw", columns="n_train"))
    slope = np.polyfit(np.log([16, 32, 64]), logarithms[[16, 32, 64]].mean(axis=0), 1)[0]
    assert made.fits["tail"]["mu_L infinite"]["exponent"]["value"] == pytest.approx(slope)
