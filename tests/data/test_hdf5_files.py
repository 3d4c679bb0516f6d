"""HDF5 files whose values are elsewhere, were never written, or cannot be unpacked; and links that are followed."""

import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.shower_arrays import lcd_arrays
from support.shower_arrays import write as write_showers

from ntkhpc.data import shower_files, table
from ntkhpc.data.formats import capacity, hdf5
from ntkhpc.errors import DataError

ROWS = 12
VALUES = np.arange(ROWS) ** 1.5


def other(folder: Path) -> Path:
    with h5py.File(folder / "second.h5", "w") as file:
        file["v"], file["g/v"] = VALUES, VALUES
    return folder / "second.h5"


def virtual(file: h5py.File, *names: str, rows: int = ROWS) -> None:
    layout = h5py.VirtualLayout((rows * len(names),), "f8")
    for i, name in enumerate(names):
        layout[i * rows : (i + 1) * rows] = h5py.VirtualSource(name, "v", (rows,))
    file.create_virtual_dataset("x", layout, fillvalue=0)


ELSEWHERE: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "virtual, of one other file": (lambda f: virtual(f, "second.h5"), r"virtual data set of second\.h5"),
    "virtual, half of it from this file": (
        lambda f: (f.update({"v": VALUES[:6]}), virtual(f, ".", "second.h5", rows=6)),
        r"virtual data set of \., second\.h5",
    ),
    "virtual, of a file that is gone": (lambda f: virtual(f, "gone.h5"), r"virtual data set of gone\.h5"),
    "raw storage": (
        lambda f: f.create_dataset("x", data=VALUES, external=[("x.raw", 0, 8 * ROWS)]),
        r"stored in x\.raw",
    ),
    "raw storage in two files": (
        lambda f: f.create_dataset("x", data=VALUES, external=[("x.raw", 0, 48), ("y.raw", 0, 48)]),
        r"stored in x\.raw, y\.raw",
    ),
    "external link": (
        lambda f: f.update({"x": h5py.ExternalLink("second.h5", "v")}),
        r"link to v in the file second\.h5",
    ),
    "external link to a file that is gone": (
        lambda f: f.update({"x": h5py.ExternalLink("gone.h5", "v")}),
        r"link to v in the file gone\.h5",
    ),
    "soft link through an external link": (
        lambda f: f.update({"far": h5py.ExternalLink("second.h5", "g"), "x": h5py.SoftLink("/far/v")}),
        r"link to g in the file second\.h5",
    ),
}


@pytest.mark.promise("HDF5 arrays whose values lie in another file are refused: the checksum would not stand for them.")
@pytest.mark.parametrize("how", ELSEWHERE)
def test_values_in_another_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    make, said = ELSEWHERE[how]
    monkeypatch.chdir(tmp_path)  # HDF5 writes raw storage of a relative name into the working directory
    other(tmp_path)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        make(file)
        file["y"] = VALUES
    for reader in (table.describe, table.read):
        with pytest.raises(DataError, match=f"values of .* are not in this file(.|\n)*{said}") as caught:
            reader(path, ("x",), ("y",))
        assert f"h5repack --merge -l CONTI {path} NEW.h5" in (caught.value.todo or "")


@pytest.mark.parametrize("key", ["ECAL", "HCAL", "pdgID", "energy"])
def test_showers_in_another_file_are_refused_also_where_the_layout_could_do_without(tmp_path: Path, key: str) -> None:
    arrays = lcd_arrays()
    write_showers(tmp_path / "second.h5", {"v": arrays.pop(key)})
    path = write_showers(tmp_path / "a.h5", arrays)
    for name in ("second.h5", "gone.h5"):
        with h5py.File(path, "a") as file:
            file.pop(key, None)
            file[key] = h5py.ExternalLink(name, "v")
        with pytest.raises(DataError, match=f"values of {key} are not in this file(.|\n)*{name}"):
            shower_files.describe(path, "lcd")


LINKS: dict[str, Callable[[h5py.File], object]] = {
    "soft link to an array": lambda f: f.update({"orig/x": VALUES, "data/x": h5py.SoftLink("/orig/x")}),
    "relative soft link": lambda f: f.update({"data/orig": VALUES, "data/x": h5py.SoftLink("orig")}),
    "soft link to a group": lambda f: f.update({"orig/x": VALUES, "data": h5py.SoftLink("/orig")}),
    "soft link to a soft link": lambda f: f.update(
        {"a": VALUES, "b": h5py.SoftLink("/a"), "data/x": h5py.SoftLink("/b")}
    ),
    "second name of an array": lambda f: (f.update({"orig/x": VALUES}), f.update({"data/x": f["orig/x"]})),
    "second name of a group": lambda f: (f.update({"orig/x": VALUES}), f.update({"data": f["orig"]})),
}


@pytest.mark.promise("Soft links and further names of arrays in an HDF5 file are followed.")
@pytest.mark.parametrize("how", LINKS)
def test_links_within_the_file_are_followed(tmp_path: Path, how: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        LINKS[how](file)
        file["y"] = VALUES
    assert table.describe(tmp_path / "a.h5", ("data/x",), ("y",)) == (ROWS, 1, 1)
    np.testing.assert_array_equal(table.read(tmp_path / "a.h5", ("data/x",), ("y",)).x[:, 0], VALUES)
    with h5py.File(tmp_path / "a.h5") as file:
        assert "data/x" in hdf5.keys(file)


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ({"x": "/gone"}, "x is a soft link to /gone, and there is nothing"),
        ({"x": "/b", "b": "/x"}, "lead in a circle"),
        ({"x": "/x"}, "lead in a circle"),
        ({"x": "/y/deeper"}, "x is a soft link to /y/deeper, and there is nothing"),
    ],
)
def test_links_that_lead_nowhere_are_named(tmp_path: Path, links: dict[str, str], said: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"] = VALUES
        for name, target in links.items():
            file[name] = h5py.SoftLink(target)
    with pytest.raises(DataError, match=said):
        table.describe(tmp_path / "a.h5", ("x",), ("y",))


def test_groups_in_a_circle_do_not_hang_the_list_of_keys(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"] = VALUES
        group = file.create_group("g")
        group["up"], group["self"], group["soft"] = file["/"], group, h5py.SoftLink("/g")
        above = group
        for i in range(40):  # 2^40 names for one group
            below = file.create_group(f"n{i}")
            above["a"], above["b"] = below, below
            above = below
    with pytest.raises(DataError, match="there is no key 'x'"):
        table.describe(tmp_path / "a.h5", ("x",), ("y",))


def with_filter(path: Path, code: int) -> None:
    """A file whose values need a filter of which there is only the number."""
    with h5py.File(path, "w") as file:
        file["y"] = VALUES
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((ROWS,))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        space = h5py.h5s.create_simple((ROWS,))
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F64LE, space, properties)
        made.write_direct_chunk((0,), VALUES.tobytes())


@pytest.mark.promise("A missing HDF5 filter is named, with the command that writes the file without it.")
@pytest.mark.parametrize(
    ("code", "name"), [(32015, "Zstandard"), (32001, "Blosc"), (32008, "bitshuffle"), (307, "bzip2"), (40000, "")]
)
def test_a_missing_filter_is_named(tmp_path: Path, code: int, name: str) -> None:
    if h5py.h5z.filter_avail(code):
        pytest.skip(f"this HDF5 has filter {code}")
    with_filter(tmp_path / "a.h5", code)
    with pytest.raises(DataError, match=rf"HDF5 filter {name}.*\(number {code}\)") as caught:
        table.describe(tmp_path / "a.h5", ("x",), ("y",))
    assert "h5repack -f GZIP=4" in (caught.value.todo or "")
    assert "NTKHPC_PASS=HDF5_PLUGIN_PATH" in (caught.value.todo or "")


NEVER_WRITTEN: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "nothing": (lambda f: f.create_dataset("x", (ROWS,), "f8"), "values of x were never written"),
    "no chunk": (lambda f: f.create_dataset("x", (ROWS,), "f8", chunks=(3,)), "values of x were never written"),
    "two chunks of four": (
        lambda f: f.create_dataset("x", (ROWS,), "f8", chunks=(3,)).write_direct(VALUES[:6], None, np.s_[:6]),
        "2 of the 4 chunks of x",
    ),
    "of a shape that nothing holds": (
        lambda f: f.create_dataset("x", (10**15,), "f8", chunks=(2**20,)),
        "values of x were never written",
    ),
    "of a shape that nothing holds, one chunk written": (
        lambda f: f.create_dataset("x", (10**13,), "f8", chunks=(2**16,)).write_direct(VALUES, None, np.s_[:ROWS]),
        "chunks of x were never written",
    ),
}


@pytest.mark.promise("HDF5 arrays that were never written, or in part, are refused and not read as zeros.")
@pytest.mark.parametrize("how", NEVER_WRITTEN)
def test_arrays_that_were_never_written_are_refused(tmp_path: Path, how: str) -> None:
    make, said = NEVER_WRITTEN[how]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
        file["y"] = VALUES
    with pytest.raises(DataError, match=said):
        table.describe(tmp_path / "a.h5", ("x",), ("y",))


def test_arrays_without_values_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"], file["z"] = h5py.Empty("f8"), VALUES, 5.0
    with pytest.raises(DataError, match="x is there, but has no values"):
        table.describe(tmp_path / "a.h5", ("x",), ("y",))
    with pytest.raises(DataError, match=r"z has shape \(\)"):
        table.describe(tmp_path / "a.h5", ("z",), ("y",))


PACKED = {"scale_factor": 0.01, "add_offset": 5.0}


@pytest.mark.promise("HDF5 arrays that are packed by the conventions of NetCDF are refused and not read as they lie.")
@pytest.mark.parametrize("said", [("scale_factor",), ("add_offset",), ("scale_factor", "add_offset")], ids=str)
def test_packed_values_are_refused(tmp_path: Path, said: tuple[str, ...]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"], file["x"] = VALUES, np.arange(ROWS, dtype="i2")
        file["x"].attrs.update({"scale_factor": np.float32(1), "add_offset": 0})
    assert table.describe(tmp_path / "a.h5", ("x",), ("y",)) == (ROWS, 1, 1)  # by numbers that change nothing
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["x"].attrs.update({name: PACKED[name] for name in said})
    with pytest.raises(DataError, match=f"values of x are packed: its {' and '.join(said)} would"):
        table.describe(tmp_path / "a.h5", ("x",), ("y",))


@pytest.mark.promise("Values that attributes of an HDF5 array call missing are missing, however plain they look.")
@pytest.mark.parametrize("attribute", ["_FillValue", "missing_value"])
@pytest.mark.parametrize(("mark", "kind"), [(3, "i2"), ([3, 5], "i8"), (3.0, "f4"), (np.array([3.0]), "f8")])
def test_values_that_attributes_call_missing_are_nan(tmp_path: Path, attribute: str, mark: object, kind: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["y"], file["x"], file["z"] = VALUES, np.arange(ROWS, dtype=kind), np.arange(ROWS)
        file["x"].attrs[attribute] = mark
        file["z"].attrs[attribute] = "none"
    found = table.read(tmp_path / "a.h5", ("x", "z"), ("y",))
    assert set(np.flatnonzero(np.isnan(found.x[:, 0]))) == set(np.ravel(mark))
    np.testing.assert_array_equal(found.x[:, 1], np.arange(ROWS))
    with pytest.raises(DataError, match=r"row 3 \(from 0\) of x is nan"):
        table.check(found, tmp_path)


def test_the_memory_at_hand_is_that_of_the_limit_of_the_process() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert 2**28 < capacity.at_hand() < 2**50
    resource.setrlimit(resource.RLIMIT_AS, (2**45, before[1]))
    try:
        assert capacity.at_hand() <= 2**45
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(("line", "place"), [("0::/job/step", "job"), ("2:memory:/job/step", "memory/job")])
def test_the_memory_at_hand_is_that_of_the_control_group_and_of_those_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, place: str
) -> None:
    whole = capacity.at_hand()
    (tmp_path / "own").write_text(f"3:cpu:/job\n{line}\n")
    for name in ("job/step", "memory/job/step"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(capacity, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(capacity, "_GROUPS", tmp_path)
    name = "memory.limit_in_bytes" if place.startswith("memory") else "memory.max"
    for text in ("max", str(2**62), "nonsense"):
        (tmp_path / place / name).write_text(text)
        assert capacity.at_hand() >= whole
    (tmp_path / place / name).write_text(str(2**28))
    assert capacity.at_hand() == 2**28


@pytest.mark.parametrize("seed", range(3))
def test_damage_in_an_hdf5_file_ends_in_a_sentence_or_in_values(tmp_path: Path, seed: int) -> None:
    """Of 60 files with 8 changed bytes each, every one is read or refused."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("g/x", data=VALUES, chunks=(4,), compression="gzip", fletcher32=True)
        file["y"] = VALUES
    whole, rng = path.read_bytes(), np.random.default_rng(seed)
    refused = 0
    for _ in range(60):
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), 8):
            raw[at] = rng.integers(256)
        path.write_bytes(raw)
        try:
            table.read(path, ("g/x",), ("y",))
        except DataError:
            refused += 1
    assert refused > 5
