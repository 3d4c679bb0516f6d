"""Values that no measurement gives: marks of missing ones, other units, numbers whose squares overflow."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.shower_arrays import ccc_arrays, lcd_arrays, step_arrays, write

from ntkhpc import data
from ntkhpc.data import marks, shower_files, table
from ntkhpc.data.calorimeter import Calorimeter
from ntkhpc.data.formats import calochallenge
from ntkhpc.data.split import standardise
from ntkhpc.data.user_table import TableFile
from ntkhpc.errors import DataError

RNG = np.random.default_rng(3)
ETA, PT = RNG.normal(size=80), RNG.uniform(30, 1120, 80)


def column(values: np.ndarray, *given: float) -> np.ndarray:
    return np.concatenate([values[: 80 - len(given)], given])[:, None]


MARKED = {
    "-999 in a pseudorapidity": (ETA, [-999.0] * 3),
    "-999 once": (ETA, [-999.0]),
    "-999 in most rows": (ETA, [-999.0] * 60),
    "-999 in momenta up to 1,120, as in the Higgs challenge": (PT, [-999.0] * 9),
    "-9999": (PT, [-9999.0] * 2),
    "-999.25, as in well logs": (ETA, [-999.25] * 2),
    "9999": (ETA, [9999.0] * 2),
    "1e20": (PT, [1e20]),
    "the fill value of NetCDF": (PT, [9.969209968386869e36] * 2),
    "the same as a float32": (PT, [float(np.float32(9.969209968386869e36))]),
    "the largest float32": (ETA, [float(np.finfo(np.float32).max)]),
    "the largest float64": (ETA, [float(np.finfo(np.float64).max)]),
    "the least int32": (PT, [float(-(2**31))]),
    "the least int16": (ETA, [-32768.0] * 2),
    "the largest uint32": (ETA, [float(2**32 - 1)] * 2),
    "another value that repeats, far outside": (ETA, [-77.5] * 4),
    "zero in values about a thousand": (1000 + ETA, [0.0] * 5),
}


@pytest.mark.promise("Values that look like marks of a missing measurement are refused with column, value and count.")
@pytest.mark.parametrize("how", MARKED)
def test_marks_of_missing_values_are_found(how: str) -> None:
    values, given = MARKED[how]
    (found,) = marks.find(column(values, *given))
    assert (found.value, found.count) == (given[0], len(given))
    assert (found.low, found.high) == (values[: 80 - len(given)].min(), values[: 80 - len(given)].max())
    assert marks.find(column(values, *given), meant=(given[0],)) == []


SEVERAL = [
    [-999.0, -999.0, -9999.0, -9999.0],
    [-999.0, -999.0, 1e20],
    [-9999.0] * 2 + [9999.0] * 2,
    [-999.0, -998.0],
    [-999.0, -999.0, -998.0],
    [-32768.0, -32768.0, -32767.0, -32767.0],
    [-999.0, -999.0, -999.25, -999.25],
    [9.969209968386869e36, 9.96921e36],
    [2e30, 1e30, -1e30],
    [2e30, 2e30, 1e30, 1e30, -1e30, -1e30],
    [-99999.0, -9999.0, -999.0, 999.0, 9999.0, 99999.0],
]


@pytest.mark.parametrize("given", SEVERAL, ids=str)
def test_several_marks_in_a_column_hide_none_of_each_other(given: list[float]) -> None:
    found = marks.find(column(ETA, *given))
    assert {one.value: one.count for one in found} == {value: given.count(value) for value in given}
    inside = ETA[: 80 - len(given)]
    assert {(one.low, one.high) for one in found} == {(inside.min(), inside.max())}
    # A value that is meant hides no other, and is one of the others.
    left = marks.find(column(ETA, *given), meant=(given[0],))
    assert {one.value for one in left} == set(given) - {given[0], -998.0}  # which is none alone
    assert {min(one.low, given[0]) == one.low and max(one.high, given[0]) == one.high for one in left} <= {True}


@pytest.mark.promise("A single value a million times the range of all others outside of it is refused.")
@pytest.mark.parametrize("given", [[1e25], [-1e19], [1e25, 3e25, -1e25], [1e8]], ids=str)
def test_wild_values_are_found(given: list[float]) -> None:
    assert {one.value for one in marks.find(column(ETA, *given))} == set(given)


def test_a_wild_value_in_the_pool_is_refused(tmp_path: Path) -> None:
    """In float32 the standardised column would be zeros and a one."""
    for at in (0, 79):
        eta = ETA.copy()
        eta[at] = 1e25
        section = table_file(tmp_path, eta[:, None], order="file")
        with pytest.raises(DataError, match=r"eta is 1e\+25 in 1 of 80 rows") as caught:
            section.check(section.examine())
        assert "missing = [1e+25]" in (caught.value.todo or "")


def test_a_mark_beside_two_values_is_found_if_programs_write_it() -> None:
    binary = (ETA > 0).astype(float)
    assert [one.value for one in marks.find(column(binary, *[-999.0] * 5))] == [-999.0]
    assert [one.value for one in marks.find(column(binary, -999.0))] == [-999.0]
    assert marks.find(column(binary, *[-77.0] * 5)) == []
    assert marks.find(column(binary * 999)) == []


PLAIN = {
    "codes of particles": np.resize([11.0, 13, 22, 211, -211], 300),
    "zeros in most rows": np.concatenate([np.zeros(280), 1000 + np.arange(20) / 20]),
    "decades": np.resize([1e16, 1e17, 1e18, 1e19, 1e20], 300),
    "decades, the last once": np.append(np.resize([1e16, 1e17, 1e18, 1e19], 300), 1e20),
    "steps of 100": np.resize([1.0, 1e2, 1e4, 1e6], 300),
    "powers of two": np.resize(2.0 ** np.arange(65), 300),
    "the same, below zero": np.resize(-(10.0 ** np.arange(16, 21)), 300),
    "large values of one unit": np.resize(np.round(np.linspace(1, 5, 41), 1) * 1e33, 300),
    "28 decades": np.exp(10 * RNG.normal(size=300)),
    "a constant and another value": np.append(np.full(299, 5.0), 1e9),
}


@pytest.mark.parametrize("how", PLAIN)
def test_plain_columns_have_no_marks(how: str) -> None:
    assert marks.find(PLAIN[how][:, None]) == []


def test_the_range_in_a_message_is_that_of_all_others() -> None:
    values = np.concatenate([np.zeros(280), np.linspace(0.1, 3, 18), [500.0, 500.0]])
    (found,) = marks.find(values[:, None])
    assert (found.value, found.count, found.low, found.high) == (500, 2, 0, 3)


def test_what_is_measured_is_no_mark() -> None:
    """None in 3,000 columns: two equal values, or a known one, ten ranges outside of all others, have no chance; the
    largest of 60 Cauchy values is a million ranges outside in one column of a million."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        table = np.stack(
            [
                rng.lognormal(0, 3, 60),
                rng.standard_cauchy(60),
                np.round(rng.standard_cauchy(60)),
                rng.poisson(0.5, 60),
                np.minimum(rng.exponential(size=60), 1),
                np.where(rng.random(60) < 0.6, 0, rng.exponential(size=60)),
                rng.integers(0, 2, 60) * 999,
                rng.integers(0, 10, 60),
                np.minimum(rng.integers(0, 80_000, 60), 65_535),
                rng.integers(990, 1000, 60),
            ],
            axis=1,
        )
        assert marks.find(table) == [], seed


def table_file(folder: Path, eta: np.ndarray, **fields: object) -> TableFile:
    frame = pd.DataFrame({"pt": PT, "eta": eta[:, 0], "e": np.arange(80.0)})
    frame.to_csv(folder / "t.csv", index=False)
    return TableFile(path=str(folder / "t.csv"), x=("pt", "eta"), y=("e",), pool=40, test=20, **fields)


def test_a_study_says_what_marks_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eta = column(ETA, *[-999.0] * 3)
    refused = table_file(tmp_path, eta)
    facts = refused.examine()
    for look in (refused.check, refused.load, refused.prepare):
        with pytest.raises(DataError) as caught:
            look(facts)
        assert "eta is -999 in 3 of 80 rows" in str(caught.value)
        assert "missing = [-999.0]" in (caught.value.todo or "")
        assert "meant = [-999.0]" in (caught.value.todo or "")
    dropped = table_file(tmp_path, eta, missing=(-999.0,))
    dropped.prepare(facts)
    assert "3 of 80 rows have a value of data.missing" in capsys.readouterr().out
    assert "is -999 are left out" in dropped.origin(facts)
    assert dropped.load(facts).target_train.max() < 77
    kept = table_file(tmp_path, eta, meant=(-999.0,))
    assert (kept.load(facts).x_train.shape, kept.check(facts)) == ((40, 2), ())
    most = table_file(tmp_path, column(ETA, *[-999.0] * 30), missing=(-999.0,))
    with pytest.raises(DataError, match=r"data\.pool \+ data\.test = 60(.|\n)*missing value"):
        most.check(most.examine())
    with pytest.raises(ValueError, match="missing and meant both name -999"):
        table_file(tmp_path, eta, missing=(-999.0,), meant=(-999.0,))
    every = table_file(tmp_path, np.full((80, 1), 5.0), missing=(5.0,))
    with pytest.raises(DataError, match="every one of the 80 rows"):
        every.check(every.examine())


HARD = {
    "squares overflow": (lambda v: v * 1e200, "overflows in double precision"),
    "sums overflow": (lambda v: np.where(v > 0, 1.7e308, -1.7e308) * (1 - np.abs(v) / 100), "overflows"),
    "squares vanish": (lambda v: v * 1e-200, "vanishes in double precision"),
}


@pytest.mark.promise("Values whose squares overflow are refused by column and never become zeros.")
@pytest.mark.parametrize("how", HARD)
@pytest.mark.parametrize("scaling", ["global", "feature"])
def test_values_whose_squares_leave_double_precision_are_refused(tmp_path: Path, how: str, scaling: str) -> None:
    change, said = HARD[how]
    section = table_file(tmp_path, change(ETA)[:, None], scaling=scaling)
    with pytest.raises(DataError, match=f"variance of input number 1 .*{said}|look like marks"):
        section.check(section.examine())


def test_a_test_point_beyond_single_precision_is_refused(tmp_path: Path) -> None:
    eta = ETA.copy()
    eta[-1] = 1e25
    section = table_file(tmp_path, eta[:, None], order="file")
    section = TableFile(path=section.path, x=section.x, y=section.y, pool=40, test=40, order="file", meant=(1e25,))
    with pytest.raises(DataError, match=r"x_test\[39, 1\] is .* square is beyond single precision") as caught:
        section.check(section.examine())
    assert "column eta is 1e+25 in row 79 (from 0)" in caught.value.what
    assert caught.value.where == section.path


def test_a_refusal_after_the_permutation_names_the_row_of_the_table(tmp_path: Path) -> None:
    said = {}
    for row in range(12):
        eta = ETA.copy()
        eta[row] = 1e25
        section = TableFile(
            path=table_file(tmp_path, eta[:, None]).path, x=("pt", "eta"), y=("e",), pool=40, test=40, meant=(1e25,)
        )
        try:
            section.check(section.examine())
        except DataError as error:
            said[row] = error.what
    assert all(f"column eta is 1e+25 in row {row} (from 0)" in what for row, what in said.items())
    assert said  # those in the pool are not so far in its standard deviation


def test_marks_that_no_row_has_are_said(tmp_path: Path) -> None:
    section = table_file(tmp_path, ETA[:, None], missing=(-77.0,))
    (note, *_) = section.check(section.examine())
    assert "0 of 80 rows have a value of data.missing" in note


def times(factor: float, *keys: str) -> Callable[[dict], dict]:
    return lambda arrays: arrays | {key: np.asarray(arrays[key]) * factor for key in keys}


def official(binning: calochallenge.Binning) -> dict[str, np.ndarray]:
    """Energies of the data sets: powers of 2 from 256 MeV, or log-uniform from 1 GeV to 1 TeV."""
    arrays = ccc_arrays(binning, 12)
    energy = 2.0 ** np.arange(8, 20)[:, None] if binning.powers else np.geomspace(1e3, 1e6, 12)[:, None]
    return {"incident_energies": energy, "showers": arrays["showers"] / arrays["incident_energies"] * energy}


CCC = ("incident_energies", "showers")
UNITS = [
    *(
        ("calochallenge", official(one), times(factor, *CCC), name)
        for one, name in zip(calochallenge.BINNINGS[:3], "abc", strict=True)
        for factor in (1e-3, 1e3)
    ),
    ("calochallenge", {k: v[8:] for k, v in official(calochallenge.BINNINGS[0]).items()}, times(1e-3, *CCC), "high"),
    ("lcd", lcd_arrays(), times(1e3, "ECAL", "HCAL", "energy"), "MeV"),
    ("lcd", lcd_arrays(), times(1e-3, "ECAL", "HCAL", "energy"), "TeV"),
    ("lcd", lcd_arrays(), times(1e6, "ECAL", "HCAL", "energy"), "keV"),
    ("steps", step_arrays(), times(1e3, "steps/energy", "primary/momentum"), "MeV"),
    ("steps", step_arrays(), times(1e-3, "steps/energy", "primary/momentum"), "TeV"),
]


@pytest.mark.promise("Shower files with both energies in another unit are refused.")
@pytest.mark.parametrize(("layout", "arrays", "change", "name"), UNITS)
def test_both_energies_in_another_unit_are_refused(
    tmp_path: Path, layout: str, arrays: dict, change: Callable, name: str
) -> None:
    shower_files.describe(write(tmp_path / "right.h5", arrays), layout)
    path = write(tmp_path / "wrong.h5", change(arrays))
    with pytest.raises(DataError, match=r"GeV is plausible for the layout|powers of 2") as caught:
        shower_files.describe(path, layout)
    assert caught.value.where == path


def test_odd_energies_are_taken_where_the_study_names_limits_that_hold_all(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", times(1e-3, "ECAL", "HCAL", "energy")(lcd_arrays()))
    with pytest.raises(DataError, match=r"times 1000 all of them fit(.|\n)*data\.energy_min = ") as caught:
        shower_files.describe(path, "lcd")
    limits = {name: float(value) for name, value in re.findall(r"data\.(\w+) = ([\d.e+-]*\d)", caught.value.todo or "")}
    assert shower_files.describe(path, "lcd", **limits)[0] == 6
    with pytest.raises(DataError, match="plausible"):
        shower_files.describe(path, "lcd", energy_min=0.2)
    # Limits in which another unit would make all plausible choose nothing.
    with pytest.raises(DataError, match="times 1000 all of them fit"):
        shower_files.describe(path, "lcd", energy_min=1.0, energy_max=490.0)


def test_plausible_limits_choose_among_showers_of_which_some_are_outside(tmp_path: Path) -> None:
    arrays = lcd_arrays()
    energy = np.asarray(arrays["energy"], float)
    energy.flat[0] = 0.55
    path = write(tmp_path / "a.h5", arrays | {"energy": energy})
    low, high = 0.95 * energy.ravel()[1:].min(), 1.05 * energy.ravel()[1:].max()
    assert shower_files.describe(path, "lcd", energy_min=max(low, 0.9), energy_max=min(high, 800))[0] == len(energy) - 1
    with pytest.raises(DataError, match="plausible"):
        shower_files.describe(path, "lcd")


@pytest.mark.parametrize("value", [1e20, 9.96921e36, 3.4e38])
def test_marks_among_deposits_are_refused(tmp_path: Path, value: float) -> None:
    arrays = lcd_arrays()
    arrays["ECAL"][2, 3, 4, 5] = value
    with pytest.raises(DataError, match="deposits of 1 showers sum to more than 1,000 times what is usual"):
        shower_files.read(write(tmp_path / "a.h5", arrays), "lcd")


@pytest.mark.parametrize(
    "fields",
    [
        {"absorber_mm": (60.0,) * 6, "energy_min": 1.0},
        {"absorber_mm": (300.0, 2.4), "energy_min": 5.0},
        {"absorber_mm": (1e5,) * 3},
        {"absorber_mm": (40.0,) * 6, "energy_min": 1.0, "particles": ("pion", "photon")},
    ],
)
def test_plates_too_thick_are_refused_before_any_job(fields: dict) -> None:
    section = Calorimeter(pool=40, test=10, **fields)
    with pytest.raises(DataError, match=r"too thick (.|\n)*thinner data\.absorber_mm") as caught:
        section.check(section.facts())
    with pytest.raises(DataError) as again:
        section.load(section.facts())
    assert again.value.what.partition("at ")[0] == caught.value.what.partition("at ")[0]


@pytest.mark.parametrize("fields", [{"stochastic_term": 1e100}, {"stochastic_term": 1e30}, {"noise": 1e308}])
def test_a_calorimeter_whose_showers_make_no_split_is_refused_before_any_job(fields: dict) -> None:
    section = Calorimeter(pool=400, test=100, **fields)
    assert section.slow_to_check
    for look in (section.check, section.prepare, section.load):
        with pytest.raises(DataError):
            look(section.facts())


def test_unusual_calorimeters_that_work_pass_and_few_of_their_showers_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = Calorimeter.load
    monkeypatch.setattr(Calorimeter, "load", lambda self, facts: made.append(self.used_rows) or real(self, facts))
    for fields in ({"energy_max": 1e5}, {"inputs": "cells", "cells": 60}, {"absorber_mm": (3.0,) * 30}):
        section = Calorimeter(pool=100_000, test=100_000, **fields)
        assert section.check(section.facts()) == ()
    assert len(made) == 3
    assert max(made) <= 96


def test_cells_that_hardly_any_shower_reaches_are_only_centred() -> None:
    raw = np.stack([ETA, 1e-160 * ETA, np.zeros(80)], axis=1)
    for scaling in ("global", "feature"):
        x, _, scale = standardise(raw, raw[:60], scaling, keep_constant=True)
        assert np.isfinite(x).all()
        assert np.abs(x[:, 1]).max() < 1e-150
        assert (scale >= 0.5).all()
        with pytest.raises(DataError, match=r"number 1 .* vanishes"):
            standardise(raw[:, :2], raw[:60, :2], scaling)


def test_usual_calorimeters_are_not_checked_because_they_work() -> None:
    """Of least energy, 1 GeV, the default calorimeter makes showers: so `check` need not."""
    section = Calorimeter(pool=40, test=10, energy_min=1.0, energy_max=2.0, particles=("electron", "photon", "pion"))
    assert section.check(section.facts()) == ()
    assert not Calorimeter(energy_min=20.0, energy_max=30.0).slow_to_check
    assert np.isfinite(section.load(section.facts()).x_train).all()
    with pytest.raises(ValueError, match="at most 1e"):
        Calorimeter(energy_max=1e9)


def test_every_refusal_of_what_a_user_wrote_says_what_to_do() -> None:
    """All but those that only a bug of a source can cause."""
    found = []
    for path in sorted(Path(data.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            raised = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DataError"
            if raised and not any(keyword.arg in ("todo", None) for keyword in node.keywords):
                found.append((path.name, ast.unparse(node.args[0])))
    assert [name for name, _ in found] == ["split.py"] * 3, found
    assert all("shape" in said or "dtype" in said or "len(" in said for _, said in found), found


@pytest.mark.parametrize("column", ["x", "y"])
def test_whole_numbers_that_become_equal_in_double_precision_are_said_to_be_rounded(
    tmp_path: Path, column: str
) -> None:
    rows = np.arange(8, dtype=np.uint64)
    columns = {"x": rows, "y": rows, column: np.uint64(2**62) + rows}
    np.savez(tmp_path / "t.npz", **columns)
    with pytest.raises(DataError, match=r"(?s)constant.*cause: whole numbers beyond 2\^53.*do: .*subtract the least"):
        table.check(table.read(tmp_path / "t.npz", ("x",), ("y",)), "t")
    columns[column] = np.full(8, 3)
    np.savez(tmp_path / "t.npz", **columns)
    with pytest.raises(DataError, match=r"(?s)constant.*cause: (such a column|nothing can)"):
        table.check(table.read(tmp_path / "t.npz", ("x",), ("y",)), "t")


@pytest.mark.parametrize("lines", [0, 3, 70_000])
def test_the_first_byte_of_another_encoding_is_where_the_message_says(tmp_path: Path, lines: int) -> None:
    before = "a,b\n" + "1,2\n" * lines
    (tmp_path / "t.csv").write_bytes(f"{before}3,M\xfcller\n".encode("latin-1"))
    said = f"not UTF-8 text: byte {len(before) + 3:,} of it, in line {lines + 2:,}, is 0xfc"
    with pytest.raises(DataError, match=re.escape(said)):
        table.describe(tmp_path / "t.csv", ("a",), ("b",))


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_a_last_line_that_does_not_end_is_said(tmp_path: Path, end: str) -> None:
    """A table cut short in its last number is one of which no other part is odd."""
    text = "a,b\n" + "".join(f"{i},{i * i % 7 + 0.25}\n" for i in range(9)) + "9,1.2345"
    (tmp_path / "t.csv").write_text(text.replace("\n", end or "\n") + end)
    source = TableFile(path=str(tmp_path / "t.csv"), x=("a",), y=("b",), pool=6, test=4)
    assert [line[:29] for line in source.check(source.examine())] == ["note: the last line of t.csv "] * (not end)
