"""Captions, notes and advice of an ensemble's report: what they say is what is there."""

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import xarray

from analysis.contrasts import Curve, ErrorSource, slope_weights
from analysis.ensemble import answer, contained, exponents, members, reference, residuals, results
from analysis.ensemble.curves import DRAW, ITERATION, MEMBERS, POINTS
from analysis.ensemble.results import EnsembleResults
from analysis.floor import levelling
from ntkhpc import studies
from ntkhpc.engine.run import Run

N = np.array([16.0, 32, 64, 128, 256])


def curve(*sources: str, draws: int = 8, exponent: float = -0.4) -> Curve:
    rng, numbers = np.random.default_rng(4), {MEMBERS: 40, DRAW: draws, POINTS: 60, ITERATION: 16}
    made = [
        ErrorSource(name, 0.01 * rng.normal(size=(len(N), numbers[name])) / np.sqrt(numbers[name]),
                    draws - 1.0 if name == DRAW else np.nan)
        for name in sources
    ]  # fmt: skip
    return Curve(N, 0.3 * (N / 16) ** exponent, tuple(made))


def given(**found: Any) -> EnsembleResults:
    """Results without a run, with what is derived from one as it is given."""
    made = EnsembleResults(cast(Run, None), xarray.Dataset(), "")
    made.__dict__.update({"curves": {}, "exact_curves": {}, **found})
    return made


@pytest.mark.promise(
    "Errors of eps_pop contain the choice of the test points, and nothing is tested of it without them."
)
def test_errors_of_eps_pop_contain_those_of_the_test_points() -> None:
    every = (MEMBERS, DRAW, POINTS)
    trained = given(curves={(name, 64): curve(*every) for name in ("eps_L", "eps_pop")}).fits
    exact = given(exact_curves={(name, "steps"): curve(DRAW, POINTS) for name in ("eps_L", "eps_pop")}).curve_fits
    for fits, key, names in ((trained, 64, every), (exact, "steps", (DRAW, POINTS))):
        weights, there = slope_weights(N), curve(*names)
        squares = {one.name: ((weights @ one.deviates) ** 2).sum() for one in there.sources}
        assert fits["eps_pop", key].slope.stderr == pytest.approx(np.sqrt(sum(squares.values())))
        squares.pop(POINTS)
        assert fits["eps_L", key].slope.stderr == pytest.approx(np.sqrt(sum(squares.values())))


@pytest.mark.parametrize(
    ("name", "sources", "draws", "is_tested"),
    [
        ("eps_L", (DRAW, POINTS), 8, True),
        ("eps_L", (DRAW,), 2, True),
        ("eps_L", (POINTS, ITERATION), 8, False),
        ("eps_pop", (DRAW, POINTS), 8, True),
        ("eps_pop", (DRAW, POINTS), 3, False),
        ("eps_pop", (DRAW,), 8, False),
        ("eps_pop", (POINTS,), 8, False),
        ("eps_pop", (DRAW, ITERATION), 8, False),
    ],
)
def test_exact_curves_are_tested_where_all_that_matters_is_known(
    name: str, sources: tuple[str, ...], draws: int, is_tested: bool
) -> None:
    fit = given(exact_curves={(name, "steps"): curve(*sources, draws=draws)}).curve_fits[name, "steps"]
    assert np.isfinite(fit.p_slope) == is_tested
    assert fit.slope.value == pytest.approx(-0.4)
    if not is_tested:
        assert fit.end == "unknown"


def test_the_first_box_says_what_each_of_its_errors_contains() -> None:
    exact = {("eps_L", "steps"): curve(DRAW, POINTS), ("eps_pop", "steps"): curve(DRAW, POINTS)}
    fake = given(mean=xarray.Dataset(coords={"width": [64]}), exact_curves=exact)
    said = answer.claim(fake)
    draw, points = "the draw of the training set", "the choice of the test points"
    assert f"(± for {draw}), and on an endless test set -0.4" in said
    assert said.endswith(f"(± for {draw} and {points}).")
    fake.__dict__.update(exact_curves={("eps_L", "steps"): curve()})
    fake.__dict__.pop("curve_fits")
    assert "±" not in answer.claim(fake)


def test_words_about_errors_are_those_of_the_curves_that_are_there() -> None:
    assert contained.brackets(given()) == ""
    one = given(curves={("eps_L", 64): curve(MEMBERS, POINTS)})
    assert contained.brackets(one) == ", ± half of its 68 % interval (of trained networks for their members)"
    both = given(
        curves={("eps_pop", 64): curve(MEMBERS, DRAW, POINTS)}, exact_curves={("eps_L", "steps"): curve(ITERATION)}
    )
    assert contained.brackets(both).endswith(
        "(of trained networks for their members and the draw of the training set; of exact curves for the iteration "
        "(random probes and residuals); of eps_pop for the choice of the test points too)"
    )


def with_curves(run: Run, trained: bool, exact: bool) -> EnsembleResults:
    found = results.collect(run)
    names = ("mu_L", "sigma_L", "eps_L", "eps_pop")
    found.__dict__["curves"] = {(name, 4): curve(MEMBERS) for name in names} if trained else {}
    found.__dict__["exact_curves"] = {(name, "steps"): curve(DRAW) for name in names} if exact else {}
    return found


@pytest.mark.parametrize(("trained", "exact"), [(True, True), (True, False), (False, True)])
def test_residuals_have_a_row_for_what_is_there_and_their_caption_no_other(
    finished: Run, trained: bool, exact: bool
) -> None:
    found = with_curves(finished, trained, exact)
    figure, said = residuals.residuals(found), residuals.caption(found)
    assert figure is not None
    assert len(figure.axes) == 3 * (trained + exact)
    assert all(len(axis.lines) > 1 for axis in figure.axes)
    assert ("the ensembles" in said) == trained
    assert ("exact curves" in said) == exact
    assert ("Below" in said) == (trained and exact)
    assert "iteration" not in said


def test_the_caption_of_the_answer_says_what_is_below(finished: Run) -> None:
    assert residuals.residuals(with_curves(finished, trained=False, exact=False)) is None
    nothing = answer.caption(with_curves(finished, trained=False, exact=False))
    assert "Below: nothing" in nothing
    assert "coloured lines" not in nothing
    whole = answer.caption(with_curves(finished, trained=True, exact=True))
    assert "Below: the local exponents of the exact curves" in whole
    assert "(bars: 68 % intervals for their members)" in whole
    assert "black and grey" in whole
    bare = with_curves(finished, trained=True, exact=False)
    bare = dataclasses.replace(
        bare, store=bare.store.drop_vars([n for n in bare.store if "law_" in n or "curve_" in n])
    )
    bare.__dict__["curves"] = {("eps_L", 4): curve(MEMBERS)}
    assert "exact" not in answer.caption(bare)


def beside(*, width: bool, spread: bool) -> EnsembleResults:
    dims = ("width", "draw", "n_train") if width else ("draw", "n_train")
    shape = (2, 1, 3) if width else (1, 3)
    made = {name: (dims, np.full(shape, 0.1)) for name in ("mu_L", "skewness")}
    made |= {name: (dims, np.full(shape, 0.1 * spread)) for name in ("eps_L", "sigma_L")}
    coords = {"n_train": [8, 16, 32], "draw": [0], **({"width": [4, 9]} if width else {})}
    loss = xarray.Dataset(made, coords=coords).assign(loss=("quantile", [0.1, 0.2]))
    return given(reference=loss)


@pytest.mark.parametrize("width", [True, False])
@pytest.mark.parametrize("spread", [True, False])
def test_the_caption_of_a_reference_says_which_lines_are_drawn(width: bool, spread: bool) -> None:
    found = beside(width=width, spread=spread)
    said = reference.caption(found)
    assert ("Thin black: full-batch gradient descent" in said) != width
    assert ("in the colours of the widths: full-batch" in said) == width
    assert ("each at the gamma of its width" in said) == width
    assert ("no line for eps_L" in said) != spread
    assert set(reference.lines(found, "mu_L")) == ({4, 9} if width else {None})
    assert bool(reference.lines(found, "eps_L")) == spread
    assert "power laws" not in said


STUDY = """
name = "t"
[data]
source = "calorimeter"
pool = {pool}
[network]
widths = [8]
[training]
{training}
[ensemble]
n_train = [16, 32]
members = 20
draws = {draws}
{redraws}
"""

ADAM = 'optimiser = "adam"\nlearning_rate = 0.1'


@pytest.mark.parametrize(
    ("training", "draws", "pool", "redraws", "said"),
    [
        (ADAM, 1, 200, "", "several ensemble.draws"),
        (ADAM, 3, 200, "", "means over the 3 draws of the ensembles, of which moments.csv has each"),
        (ADAM, 1, 33, "", "a larger data.pool would tell"),
        ("", 1, 200, "redraws = 1", "several infinite_width.redraws"),
        ("", 1, 200, "redraws = 8", "some are missing or could be zero"),
    ],
)
def test_advice_on_draws_is_about_what_is_not_there_yet(
    training: str, draws: int, pool: int, redraws: str, said: str
) -> None:
    section = f"[infinite_width]\n{redraws}" if redraws else ""
    study = studies.loads(STUDY.format(training=training, draws=draws, pool=pool, redraws=section))
    fake = cast(EnsembleResults, SimpleNamespace(study=study, sizes=np.array([16, 32])))
    found = exponents._remedy(fake)
    assert said in found
    assert ("several ensemble.draws" in found) == (draws == 1 and bool(training) and pool == 200)


def test_what_is_unlikely_of_a_normal_law_is_not_called_no_chance(finished: Run) -> None:
    found = results.collect(finished)
    calm = np.array(found.store.test_loss)
    calm[:] = 1 + 0.1 * np.linspace(-1, 1, 11)
    calm[0, 0, 0, 4] = 30.0
    store = found.store.load().assign(test_loss=(found.store.test_loss.dims, calm))
    known = dataclasses.replace(found, store=store)
    assert "no chance" in members.sentences(known)[0]
    assert "with the skewness of the exact law" in members.tables(known)[0].note
    unknown = dataclasses.replace(found, store=store.drop_vars([name for name in store if "law_" in name]))
    (said,) = members.sentences(unknown)
    assert "no chance" not in said
    assert "as far as a normal law tells" in said
    assert "a lower bound" in members.tables(unknown)[0].note


def test_levelling_of_a_curve_is_unchanged_by_what_is_kept() -> None:
    """A control: with all of its sources a curve is described as it is."""
    whole = curve(MEMBERS, DRAW)
    assert given(curves={("mu_L", 64): whole}).fits["mu_L", 64].to_dict() == levelling(whole).to_dict()
