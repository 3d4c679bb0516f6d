"""Files that are not what their names say, and what users do with tables: endings, compression, encodings, parts."""

import bz2
import gzip
import io
import lzma
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ntkhpc.data import table
from ntkhpc.data.formats import capacity, content
from ntkhpc.data.user_table import TableFile
from ntkhpc.errors import DataError

FRAME = pd.DataFrame({"a": np.arange(40) ** 1.5, "b": np.arange(40) % 7 + 0.25, "y": np.arange(40.0)})
X, Y = ("a", "b"), ("y",)
TEXT = FRAME.to_csv(index=False).encode()


def arrays() -> dict[str, np.ndarray]:
    return {name: FRAME[name].to_numpy() for name in FRAME}


@pytest.mark.promise("The ending of a table's name may be in any case.")
@pytest.mark.parametrize("name", ["T.CSV", "t.Csv", "T.NPZ", "t.Npz", "T.PARQUET", "t.Parquet", "T.H5", "t.HDF5"])
def test_endings_may_be_in_any_case(tmp_path: Path, name: str) -> None:
    path, ending = tmp_path / name, name.rpartition(".")[2].lower()
    if ending == "csv":
        FRAME.to_csv(path, index=False)
    elif ending == "parquet":
        FRAME.to_parquet(path)
    elif ending == "npz":
        with path.open("wb") as file:
            np.savez(file, **arrays())
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays())
    assert table.describe(path, X, Y) == (40, 2, 1)
    np.testing.assert_array_equal(table.read(path, X, Y).x, FRAME[[*X]])


PACKED = {
    "t.csv.gz": (gzip.compress(TEXT), "gzip"),
    "t.csv.bz2": (bz2.compress(TEXT), "bzip2"),
    "t.csv.xz": (lzma.compress(TEXT), "xz"),
    "t.csv.zst": (b"\x28\xb5\x2f\xfd" + TEXT, "Zstandard"),
    "t.csv.zip": (b"PK\x03\x04" + TEXT, "zip"),
    "t.tgz": (gzip.compress(TEXT), "gzip"),
    "t.CSV.GZ": (gzip.compress(TEXT), "gzip"),
    "t.parquet.gz": (gzip.compress(TEXT), "gzip"),
    "gz.csv": (gzip.compress(TEXT), "gzip"),
    "bz2.csv": (bz2.compress(TEXT), "bzip2"),
    "xz.csv": (lzma.compress(TEXT), "xz"),
    "gz.npz": (gzip.compress(TEXT), "gzip"),
    "gz.h5": (gzip.compress(TEXT), "gzip"),
    "gz.parquet": (gzip.compress(TEXT), "gzip"),
}


@pytest.mark.promise("Compressed tables are refused with the command that unpacks them.")
@pytest.mark.parametrize("name", PACKED)
def test_compressed_tables_are_refused_with_the_command_that_unpacks_them(tmp_path: Path, name: str) -> None:
    raw, kind = PACKED[name]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=kind) as caught:
        table.describe(tmp_path / name, X, Y)
    assert content.UNPACK.get(kind, "unzip").split()[0] in (caught.value.todo or "")


FOREIGN = {
    "UTF-16 with its mark": ("t.csv", TEXT.decode().encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
    "UTF-16 without": ("t.csv", TEXT.decode().encode("utf-16-le"), "iconv -f UTF-16 -t UTF-8"),
    "UTF-32": ("t.csv", TEXT.decode().encode("utf-32"), "iconv -f UTF-32 -t UTF-8"),
    "Latin-1": ("t.csv", "a,b,y,é\n1,2,3,4\n".encode("latin-1"), "iconv -f LATIN1 -t UTF-8"),
    "a zero byte": ("t.csv", b"a,b,y\n1,2,3\n1\x002,5,6\n", "byte 13 is zero"),
    "a block of zeros": ("t.csv", TEXT + bytes(5000), f"byte {len(TEXT):,} is zero"),
    "a pointer of Git LFS": ("t.npz", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
    "a page of a server": ("t.parquet", b"\n<!DOCTYPE html><html>Log in</html>", "page of HTML"),
    "Excel": ("t.csv", b"PK\x03\x04" + bytes(50), "this is zip, not text"),
    "Parquet named .csv": ("t.csv", b"PAR1" + bytes(50), "this is Parquet, not text"),
    "HDF5 named .parquet": ("t.parquet", b"\x89HDF\r\n\x1a\n" + bytes(50), "this is HDF5, not Parquet"),
    "text named .npz": ("t.npz", TEXT, "this is no zip file"),
    "one array named .npz": ("t.npz", b"\x93NUMPY\x01\x00" + bytes(60), "one array of NumPy"),
    "nothing": ("t.csv", b"", "it is empty"),
}


@pytest.mark.parametrize("how", FOREIGN)
def test_files_of_another_kind_than_their_ending_are_named(tmp_path: Path, how: str) -> None:
    name, raw, said = FOREIGN[how]
    (tmp_path / name).write_bytes(raw)
    for reader in (table.describe, table.read):
        with pytest.raises(DataError) as caught:
            reader(tmp_path / name, X, Y)
        assert said in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("head", ["PAR1", "PARE", "PARENT", "root", "rootmean", "BZh", "BZhang", "BZh9", "CDF"])
def test_text_that_begins_as_a_binary_file_does_is_read(tmp_path: Path, head: str) -> None:
    (tmp_path / "t.csv").write_bytes(TEXT.replace(b"a,", head.encode() + b",", 1))
    np.testing.assert_array_equal(table.read(tmp_path / "t.csv", (head, "b"), Y).x, FRAME[[*X]])


@pytest.mark.parametrize("size", [512, 1024, 4096])
def test_hdf5_behind_a_block_of_the_users_own_is_read(tmp_path: Path, size: int) -> None:
    """As MATLAB writes its files of version 7.3."""
    with h5py.File(tmp_path / "t.h5", "w", userblock_size=size) as file:
        file.update(arrays())
    raw = bytearray((tmp_path / "t.h5").read_bytes())
    raw[:16] = b"MATLAB 7.3 MAT-f"
    (tmp_path / "t.h5").write_bytes(raw)
    np.testing.assert_array_equal(table.read(tmp_path / "t.h5", X, Y).x, FRAME[[*X]])
    (tmp_path / "t.csv").write_bytes(raw)
    with pytest.raises(DataError, match="this is HDF5, not text"):
        table.read(tmp_path / "t.csv", X, Y)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_text_with_the_mark_of_utf_8_is_read(tmp_path: Path, mark: bytes, end: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(mark + TEXT.replace(b"\n", end))
    np.testing.assert_array_equal(table.read(tmp_path / "t.csv", X, Y).x, FRAME[[*X]])


@pytest.mark.promise("A Parquet table in parts is refused with a command that makes one file of it.")
@pytest.mark.parametrize("how", ["flat", "hive", "dask"])
def test_the_command_for_a_parquet_table_in_parts_makes_one_that_is_read(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "it's in parts.parquet"
    folder.mkdir()
    halves = [FRAME[:20], FRAME[20:]]
    for i, half in enumerate(halves):
        if how == "hive":
            (folder / f"b={i}").mkdir()
            half[["a", "y"]].to_parquet(folder / f"b={i}" / "part-0.snappy.parquet")
        else:
            half.to_parquet(folder / f"part.{i}.parquet")
    if how == "dask":
        (folder / "_metadata").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="directory of 2 Parquet files, not one") as caught:
        table.describe(folder, X, Y)
    command = (caught.value.todo or "").partition("python -c ")[2].rpartition(", and name ")[0]
    subprocess.run([sys.executable, "-c", *shlex.split(command)], check=True, cwd=tmp_path)
    (new,) = tmp_path.glob("*-one.parquet")
    assert new.name in (caught.value.todo or "")
    np.testing.assert_array_equal(table.read(new, ("a",), Y).x[:, 0], FRAME["a"])


def test_directories_and_pipes_are_no_files(tmp_path: Path) -> None:
    for name, said in (("t.csv", "a directory"), ("t.h5", "a directory"), ("t.zarr", "a directory")):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=said):
            table.describe(tmp_path / name, X, Y)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="a pipe, a device or a socket"):
        table.describe(tmp_path / "pipe.csv", X, Y)


def test_a_large_directory_is_not_walked_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "t" / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "far.parquet").touch()
    (tmp_path / "t" / "locked").mkdir()
    for number in range(1500):
        (tmp_path / "t" / f"{number}.txt").touch()
    listed: list[Path] = []
    real = os.scandir

    def scandir(path: Path) -> Any:
        listed.append(path)
        if Path(path).name == "locked":
            raise PermissionError
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"a directory, not a file(.|\n)*at least \d+ files"):
        table.describe(tmp_path / "t", X, Y)
    assert len(listed) == 1
    for path in (tmp_path / "t").glob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match="empty, or cannot be listed"):
        table.describe(tmp_path / "t", X, Y)
    assert deep not in listed


@pytest.mark.parametrize("path", ["a\0b.csv", "~nobody-of-this-name/t.csv", "x" * 5000 + ".csv"])
def test_paths_that_no_file_can_have_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError):
        TableFile(path=path, x=("a",), y=("y",), pool=4, test=2).located(tmp_path).examine()


def npz(header: str, body: bytes) -> bytes:
    """A file with arrays a and y of the same header and bytes."""
    raw = header.encode().ljust(117) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as members:
        for name in ("a", "y"):
            members.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + body)
    return file.getvalue()


HEADERS = {
    "more rows than bytes": ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 2)}", bytes(64)),
    "fewer rows than bytes": ("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", bytes(64)),
    "negative rows": ("{'descr': '<f8', 'fortran_order': False, 'shape': (-8,)}", bytes(64)),
    "a product that overflows": ("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", b""),
    "objects": ("{'descr': '|O', 'fortran_order': False, 'shape': (4,)}", b"cos\nsystem\n(S'true'\ntR."),
    "code": ("{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (4,)}", bytes(32)),
    "deep": ("(" * 100, b""),
    "nothing": ("", b""),
}


@pytest.mark.promise("Headers of .npz files that cannot be true, and arrays of Python objects, are refused unread.")
@pytest.mark.parametrize("how", HEADERS)
def test_headers_of_npz_files_that_mean_harm_are_refused(tmp_path: Path, how: str) -> None:
    (tmp_path / "t.npz").write_bytes(npz(*HEADERS[how]))
    for reader in (table.describe, table.read):
        with pytest.raises(DataError):
            reader(tmp_path / "t.npz", ("a",), ("y",))


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".parquet"])
def test_files_that_unpack_to_more_than_memory_are_refused_by_their_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"t{suffix}"
    if suffix == ".npz":
        path.write_bytes(npz("{'descr': '|u1', 'fortran_order': False, 'shape': (20000000,)}", bytes(20_000_000)))
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name in ("a", "y"):
                file.create_dataset(name, data=np.zeros(10**6), chunks=(10**5,), compression="gzip")
    else:
        pq.write_table(pa.table({name: np.zeros(10**6) for name in ("a", "y")}), path)
    assert path.stat().st_size < 60_000
    monkeypatch.setattr(capacity, "at_hand", lambda: 2**22)
    for reader in (table.describe, table.read):
        with pytest.raises(DataError, match="of memory, and 4 MiB are there"):
            reader(path, ("a",), ("y",))


def test_a_text_repeated_in_a_parquet_file_takes_no_memory_for_each_row(tmp_path: Path) -> None:
    """A million rows of a text of 10,000 letters are 10 GB when they are unpacked, and 60 kB in the file."""
    rows = 10**6
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 10_000]))
    plain = pa.table({"text": words, "a": np.arange(rows, dtype=float), "y": np.arange(rows, dtype=float) ** 2})
    pq.write_table(plain, tmp_path / "t.parquet", store_schema=False)
    assert table.read(tmp_path / "t.parquet", ("*",), ("y",)).x_names == ("a",)


def test_a_parquet_table_of_contents_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(FRAME), tmp_path / "part.parquet")
    contents = pq.read_metadata(tmp_path / "part.parquet")
    contents.set_file_path("part.parquet")
    contents.write_metadata_file(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"values of this Parquet file are in others: part\.parquet"):
        table.describe(tmp_path / "t.parquet", X, Y)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_damage_in_a_table_ends_in_a_sentence_or_in_values(tmp_path: Path, suffix: str) -> None:
    """Of 150 files with up to 6 changed bytes each, every one is read or refused."""
    path = tmp_path / f"t{suffix}"
    {".npz": lambda: np.savez_compressed(path, **arrays()), ".parquet": lambda: FRAME.to_parquet(path),
     ".csv": lambda: path.write_bytes(TEXT)}[suffix]()  # fmt: skip
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), rng.integers(1, 7)):
            raw[at] = rng.integers(256)
        path.write_bytes(raw[: rng.integers(20, len(raw))] if rng.random() < 0.2 else raw)
        try:
            table.describe(path, X, Y)
            table.read(path, X, Y)
        except DataError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("stored", ["blobs/0f3a", "blobs/0f3a.1", "blobs/T.CSV"])
def test_a_link_to_a_file_that_is_stored_under_its_checksum_has_the_ending_of_the_link(
    tmp_path: Path, stored: str
) -> None:
    """As data sets under version control, and caches of them, have their files."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / stored).write_bytes(TEXT)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "t.csv").symlink_to(tmp_path / stored)
    (tmp_path / "folder").symlink_to("real")
    section = TableFile(path="folder/t.csv", x=X, y=Y, pool=20, test=10).located(tmp_path)
    assert section.path == str(tmp_path / (stored if stored.endswith("CSV") else "real/t.csv"))
    assert section.examine().rows == 40
