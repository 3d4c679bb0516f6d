"""Files of kernels: whole or not there, read as they are, compared to the last byte."""

import os

import numpy as np
import pytest

from ntkhpc import files, large_files
from ntkhpc.errors import DamagedError

SIZES = (1, 4, (1 << 20) - 1, 1 << 20, (1 << 20) + 5, 3 << 20)


def write(path, *data):
    large_files.place(files.stage(path, *data), path)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_reads_back_as_its_parts(tmp_path, size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    path = tmp_path / "c"
    write(path, data.data, b"tail")
    assert large_files.read(path).tobytes() == data.tobytes() + b"tail" == path.read_bytes()
    assert large_files.holds(path, data.data, b"tail")
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", ["first", "middle", "last", "tail", "shorter", "longer"])
def test_a_file_that_differs_anywhere_is_told(tmp_path, size, where):
    data = bytearray(np.random.default_rng(size).integers(0, 256, size, np.uint8))
    path = tmp_path / "c"
    write(path, data, b"tail")
    stored = bytearray(path.read_bytes())
    if where == "shorter":
        del stored[-1]
    elif where == "longer":
        stored += b"x"
    else:
        stored[{"first": 0, "middle": size // 2, "last": size - 1, "tail": size}[where]] ^= 1
    path.write_bytes(stored)
    assert not large_files.holds(path, data, b"tail")


def test_what_fails_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "c"
    write(path, b"old")
    with pytest.raises(TypeError):
        write(path, b"new", "no bytes")  # type: ignore[arg-type]  # text on purpose
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c"]


def test_a_staged_file_that_is_gone_leaves_the_old_one(tmp_path):
    path = tmp_path / "c"
    write(path, b"old")
    with pytest.raises(FileNotFoundError):
        large_files.place(tmp_path / "gone", path)
    assert path.read_bytes() == b"old"


def test_memory_of_what_nobody_looks_at_is_read_into_again(tmp_path):
    for number in range(4):
        write(tmp_path / str(number), bytes([number]) * 4096)

    def look(number):
        return np.frombuffer(large_files.read(tmp_path / str(number)), np.uint8)[1:]  # a view of a view

    def place(array):
        return array.__array_interface__["data"][0]

    with large_files.reused():
        first, second = look(0), look(1)
        assert place(first) != place(second)
        assert not first.any()
        assert (second == 1).all()
        where = place(first)
        del first
        third = look(2)
        assert place(third) == where
        fourth = look(3)
        assert place(fourth) not in (where, place(second))
        assert [int(one[0]) for one in (second, third, fourth)] == [1, 2, 3]
        del second, third, fourth
        assert len(large_files._memory._free) == 2
        del where
        look(0)
    assert not large_files._memory._free
    kept = look(1)
    del kept
    assert not large_files._memory._free


def test_an_empty_file_is_read_and_a_pipe_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    assert not len(large_files.read(tmp_path / "empty"))
    os.mkfifo(tmp_path / "pipe")
    for attempt in (large_files.read, large_files.holds):
        with pytest.raises(DamagedError, match="is a pipe"):
            attempt(tmp_path / "pipe")
