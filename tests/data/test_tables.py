"""Users' own tables: every format gives the same numbers, and every error says which file, column and row."""

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkhpc.data import table
from ntkhpc.data.formats import capacity
from ntkhpc.data.table import NamedColumns
from ntkhpc.errors import DataError

FRAME = pd.DataFrame(
    {
        "mass": [0.1, 1 / 3, 2e-308, -7.25, 1e22],
        "hits": [1, 2, 3, 5, 8],
        "flag": [True, False, True, True, False],
        "energy": [10.0, 20.5, 33.3, 47.0, 1e3],
    }
)
X, Y = ("mass", "hits", "flag"), ("energy",)


def write(path: Path, frame: pd.DataFrame = FRAME) -> Path:
    arrays = {name: frame[name].to_numpy() for name in frame}
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    return path


@pytest.mark.promise("Tables in .npz, .h5, .csv and .parquet give the same float64 numbers.")
@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5", ".csv", ".parquet"])
def test_every_format_gives_the_numbers_that_were_written(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"data{suffix}")
    read = table.read(path, X, Y)
    assert (read.x.dtype, read.y.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(read.x, FRAME[[*X]].to_numpy(np.float64))
    np.testing.assert_array_equal(read.y, FRAME[[*Y]].to_numpy(np.float64))
    assert (read.x_names, read.y_names) == (X, Y)
    assert table.describe(path, X, Y) == (5, 3, 1)
    table.check(read, path)
    swapped = table.read(path, ("hits", "mass"), ("flag", "energy"))
    np.testing.assert_array_equal(swapped.x, read.x[:, [1, 0]])
    np.testing.assert_array_equal(swapped.y, np.hstack([read.x[:, 2:], read.y]))


@pytest.mark.promise("Decimals of a .csv are read to the last bit.")
@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_no_decimal_is_off_in_its_last_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.getbasetemp() / "decimals.csv"
    path.write_text("x,y\n" + "".join(f"{value!r},1\n" for value in values))
    np.testing.assert_array_equal(table.read(path, ("x",), ("y",)).x[:, 0], values)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_arrays_of_two_dimensions_and_groups_are_columns(tmp_path: Path, suffix: str) -> None:
    path, wide = tmp_path / f"a{suffix}", np.arange(12, dtype=np.int16).reshape(4, 3)
    arrays = {"in/wide": wide, "in/last": np.arange(4.0), "out": np.arange(8, dtype=np.float32).reshape(4, 2)}
    if suffix == ".npz":
        np.savez_compressed(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    read = table.read(path, ("in/wide", "in/last"), ("out",))
    assert read.x_names == ("in/wide[0]", "in/wide[1]", "in/wide[2]", "in/last")
    assert read.y_names == ("out[0]", "out[1]")
    np.testing.assert_array_equal(read.x, np.column_stack([wide, np.arange(4)]))
    assert table.describe(path, ("in/wide", "in/last"), ("out",)) == (4, 4, 2)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_star_is_every_column_of_numbers_but_the_target(tmp_path: Path, suffix: str) -> None:
    frame = FRAME.assign(note=["a", "b", "c", None, "e"], day=pd.Timestamp("2026-11-01"))
    path = write(tmp_path / f"a{suffix}", frame[["note", "energy", *X, "day"]])
    read = table.read(path, ("*",), Y)
    assert read.x_names == X
    np.testing.assert_array_equal(read.x, FRAME[[*X]].to_numpy(np.float64))
    assert table.describe(path, ("*",), Y) == (5, 3, 1)


def test_row_numbers_that_pandas_wrote_are_no_feature(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv")
    shuffled = FRAME.set_index(pd.Index([4, 2, 0, 1, 3])).iloc[[1, 0, 2, 3, 4]]
    shuffled.to_parquet(tmp_path / "a.parquet")
    assert table.read(tmp_path / "a.csv", ("*",), Y).x_names == X
    assert table.read(tmp_path / "a.parquet", ("*",), Y).x_names == X
    FRAME.set_index("mass").to_parquet(tmp_path / "b.parquet")
    assert table.read(tmp_path / "b.parquet", ("mass",), Y).x[0, 0] == 0.1


def test_integers_beyond_64_bits_and_missing_values_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x, n,y\n123456789012345678901234567890,,1\n5,7,2\n")
    read = table.read(path, ("x", "n"), ("y",))
    np.testing.assert_array_equal(read.x, [[123456789012345678901234567890.0, np.nan], [5, 7]])
    pd.DataFrame({"x": pd.array([1, None, 3], dtype="Int64"), "y": [1.0, 2, 3]}).to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(table.read(tmp_path / "a.parquet", ("x",), ("y",)).x[:, 0], [1, np.nan, 3])


CSV_FAULTS = [
    ("1.5,2\n3,4\n5,6\n", "first line is numbers: 1.5, 2(.|\n)*without a header"),
    ("x;y\n1;2\n", "one name: 'x;y'(.|\n)*separated by ';'"),
    ("X ,y\n1,2\n", "no column 'x'; 'X ' is there(.|\n)*columns are 'X ', 'y'"),
    ("x,y\n1,2\n3,4,5\n", "line 3"),
    ("x,y\n1,2,3\n4,5,6\n", "cannot be parsed(.|\n)*longer than the header"),
    ("x,y\n1,2\n3,4\nfour,5\n", r"'x' is not all numbers: row 2 has 'four' \(1 such rows of 3"),
    ("x,y\nred,2\nblue,4\n", r"'x' is not numbers: row 0 has 'red'(.|\n)*leave it out"),
    ("\n\n", "cannot be parsed: No columns"),
    ("", "it is empty"),
    (b"x,y\n1,2\n\xff,3\n", "not UTF-8"),
]


@pytest.mark.parametrize(("text", "said"), CSV_FAULTS)
def test_csv_files_with_faults_are_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said) as caught:
        table.read(path, ("x",), ("y",))
    assert caught.value.where == path


def test_a_misspelt_number_is_not_taken_for_a_column_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,z,y\n1,2,3\n1.O,5,6\n")
    with pytest.raises(DataError, match=r"'x' is not all numbers: row 1 has '1\.O'"):
        table.describe(tmp_path / "a.csv", ("*",), ("y",))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_arrays_with_faults_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    arrays = {
        "energy": np.arange(4.0),
        "short": np.arange(3.0),
        "cube": np.zeros((4, 2, 2)),
        "scalar": np.array(1.0),
        "complex": np.arange(4) + 1j,
        "text": np.array([b"red", b"blue", b"a", b"b"]),
    }
    if suffix == ".npz":
        np.savez(path, **arrays, objects=np.array([{}, 1, 2, 3], dtype=object))
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    said = {
        "enregy": "no key 'enregy'; 'energy' is there",
        "Energy": "no key 'Energy'; 'energy' is there",
        "short": "short 3, energy 4",
        "cube": r"cube has shape \(4, 2, 2\)",
        "scalar": r"scalar has shape \(\)",
        "complex": "complex holds complex128(.|\n)*real and imaginary",
        "text": "text holds .*for example .*red",
        "*": "name the arrays",
    } | ({"objects": "objects holds object"} if suffix == ".npz" else {})
    for name, message in said.items():
        for reader in (table.describe, table.read):
            with pytest.raises(DataError, match=message) as caught:
                reader(path, (name,), ("energy",))
            assert caught.value.where == path


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_arrays_without_columns_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    arrays = {"none": np.zeros((4, 0)), "x": np.arange(4.0), "y": np.arange(4.0)}
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    for reader in (table.describe, table.read):
        with pytest.raises(DataError, match=r"none has shape \(4, 0\): rows without a column"):
            reader(path, ("none", "x"), ("y",))


def test_an_array_that_is_twice_in_an_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(4.0), y=np.arange(4.0))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as members, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        members.writestr("x.npy", members.read("y.npy"))
    with pytest.raises(DataError, match="the array 'x' is there twice"):
        table.describe(tmp_path / "a.npz", ("x",), ("y",))


def test_long_doubles_beyond_all_doubles_are_refused_without_a_warning(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.longdouble("1e4000") * np.arange(4), y=np.arange(4.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = table.read(tmp_path / "a.npz", ("x",), ("y",))
    with pytest.raises(DataError, match=r"row 1 .* of x is inf"):
        table.check(found, tmp_path)


@pytest.mark.promise("Truncated .npz, .h5 and .parquet files are refused by name.")
@pytest.mark.parametrize("suffix", [".npz", ".h5", ".parquet"])
@pytest.mark.parametrize("size", [0, 300, -100])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, size: int) -> None:
    path = write(tmp_path / f"bad{suffix}")
    path.write_bytes(path.read_bytes()[:size])
    for reader in (table.describe, table.read):
        with pytest.raises(DataError, match=f"cannot be (read|parsed)(.|\n)*bad{suffix}"):
            reader(path, X, Y)


def test_a_flipped_bit_in_a_parquet_page_with_a_checksum_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    FRAME.to_parquet(path, write_page_checksum=True, use_dictionary=False, compression="none")
    np.testing.assert_array_equal(table.read(path, X, Y).y[:, 0], FRAME["energy"])
    raw = bytearray(path.read_bytes())
    raw[raw.index(FRAME["mass"].to_numpy().tobytes()) + 8] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"(?i)checksum|crc"):
        table.read(path, X, Y)


def test_a_flipped_bit_in_an_npz_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.npz")
    raw = bytearray(path.read_bytes())
    raw[raw.index(np.float64(1 / 3).tobytes())] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="Bad CRC-32"):
        table.read(path, X, Y)


@pytest.mark.parametrize(
    ("name", "x", "y", "said"),
    [
        ("a.txt", X, Y, r"no reader for files '\.txt'"),
        ("none.csv", X, Y, "no such file"),
        ("a.csv", X, (), "at least one column"),
        ("a.csv", (*X, "hits"), Y, "hits twice"),
        ("a.csv", X, ("hits",), "gives the answer away"),
        ("a.csv", ("*", "hits"), Y, "stands alone"),
        ("a.csv", X, ("*",), "stands alone"),
        ("a.csv", X, ("enrgy",), "no column 'enrgy'; 'energy' is there"),
    ],
)
def test_names_that_make_no_sense_are_refused(
    tmp_path: Path, name: str, x: tuple[str, ...], y: tuple[str, ...], said: str
) -> None:
    write(tmp_path / "a.csv")
    for reader in (table.describe, table.read):
        with pytest.raises(DataError, match=said) as caught:
            reader(tmp_path / name, x, y)
        assert caught.value.where == tmp_path / name


def make(rows: int = 8) -> NamedColumns:
    rng = np.random.default_rng(1)
    return NamedColumns(rng.random((rows, 3)), rng.random((rows, 2)), ("a", "b", "c"), ("u", "v"), np.arange(rows))


def spoil(side: str, place: object, value: object) -> Callable[[NamedColumns], NamedColumns]:
    def change(good: NamedColumns) -> NamedColumns:
        values = getattr(good, side).copy()
        values[place] = value
        return replace(good, **{side: values})

    return change


def repeat(rows: list[int], *, same: bool = True) -> Callable[[NamedColumns], NamedColumns]:
    def change(good: NamedColumns) -> NamedColumns:
        y = good.y[rows] if same else good.y[: len(rows)] + 1
        x = np.vstack([good.x, good.x[rows]])
        return replace(good, x=x, y=np.vstack([good.y, y]), rows=np.arange(len(x)))

    return change


FAULTS = [
    (
        spoil("x", ([5, 2, 3], [1, 1, 2]), [np.nan, np.inf, np.nan]),
        r"row 2 \(from 0\) of b is inf; .*: b 2, c 1(.|\n)*these 3 rows",
    ),
    (spoil("y", (6, 1), np.nan), r"row 6 \(from 0\) of v is nan"),
    (spoil("x", (slice(None), [0, 2]), 4.0), "constant in all 8 rows: a, c(.|\n)*no information(.|\n)*drop it from x"),
    (spoil("y", (slice(None), 0), 0.0), "constant target: u"),
    (
        repeat([3, 3, 0]),
        r"3 rows of x .* row 8 \(from 0\) as row 3; their y are the same(.|\n)*singular(.|\n)*duplicates = \"drop\"",
    ),
    (repeat([3, 1], same=False), "the y of 2 of them differ"),
    (spoil("x", slice(2), [[0.0, 1, 1], [-0.0, 1, 1]]), r"row 1 \(from 0\) as row 0"),
    (
        lambda good: replace(good, x=np.hstack([good.x, good.y]), x_names=("a", "b", "c", "/u", "v2")),
        "target among the inputs, in every row: /u equals u, v2 equals v(.|\n)*gives the answer away",
    ),
    (lambda good: make(3), "3 rows; at least 4"),
    (lambda good: replace(good, x=np.empty((8, 0)), x_names=()), "0 features and 2 outputs"),
]


@pytest.mark.parametrize(("change", "said"), FAULTS)
def test_what_cannot_be_learned_from_is_refused(tmp_path: Path, change: Callable, said: str) -> None:
    table.check(make(), tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        table.check(change(make()), tmp_path)
    assert caught.value.where == tmp_path


def test_inputs_that_are_equal_in_every_row_are_found() -> None:
    good = make()
    x = np.stack([good.x[:, 0], good.x[:, 1], good.x[:, 0], np.append(good.x[:-1, 0], 5), -0.0 * good.x[:, 0],
        0.0 * good.x[:, 0], good.x[:, 0]], axis=1)  # fmt: skip
    assert table.equal_inputs(good) == []
    same = table.equal_inputs(replace(good, x=x, x_names=tuple("abcdefg")))
    assert same == [("a", "c"), ("e", "f"), ("a", "g")]


def test_dropping_duplicates_keeps_the_first_of_each(tmp_path: Path) -> None:
    good = make()
    for same in (True, False):
        dropped = table.drop_duplicates(repeat([3, 3, 0], same=same)(good))
        np.testing.assert_array_equal(dropped.x, good.x)
        np.testing.assert_array_equal(dropped.y, good.y)
        np.testing.assert_array_equal(dropped.rows, good.rows)
    table.check(dropped, tmp_path)


@pytest.mark.promise("A table larger than memory is refused by its header, before anything of it is read.")
@pytest.mark.parametrize("suffix", [".npz", ".h5", ".parquet", ".csv"])
def test_tables_larger_than_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = write(tmp_path / f"a{suffix}")
    monkeypatch.setattr(capacity, "at_hand", lambda: 20)
    with pytest.raises(DataError, match=r"would take 0 MiB of memory(.|\n)*pool and test need"):
        table.describe(path, ("mass",), ("energy",))
