"""Blocks of an open store: whole parts of shards, several of them where they are small."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis import opened
from ntkhpc.engine.run import Run
from ntkhpc.studies import memory


def test_small_parts_of_neighbouring_shards_are_one_block(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """11 members in shards of 6 and 5; along the n_train nothing is joined."""
    joined = opened.opened(finished)
    assert joined.test_point_loss.chunks == ((1,), (1, 1), (1,), (11,), (15,))
    assert joined.bias2.chunks == ((1,), (2,), (1,), (15,))
    monkeypatch.setattr(memory, "BLOCK", 6 * 15 * 4)
    apart = opened.opened(finished)
    assert apart.test_point_loss.chunks == ((1,), (1, 1), (1,), (6, 5), (15,))
    assert apart.test_loss.chunks[3] == (11,)
    for name in ("test_point_loss", "prediction_mean", "status", "bias2"):
        np.testing.assert_array_equal(apart[name].values, joined[name].values)


def test_parts_of_different_cells_are_never_one_block() -> None:
    """Each task of a cell would read, and compare with receipts, the other cells too."""
    dims = ("width", "n_train", "draw", "member", "test_point")
    parts: Any = SimpleNamespace(chunks=((1,), (1, 1), (1, 1, 1), (60,), (10,)), dtype=np.dtype("f4"))
    assert opened._blocks(parts, dims) == parts.chunks
    cut: Any = SimpleNamespace(chunks=((1,), (1, 1), (1, 1, 1), (30, 30), (10,)), dtype=np.dtype("f4"))
    assert opened._blocks(cut, dims) == parts.chunks


def test_a_part_that_is_larger_than_a_block_stays_whole() -> None:
    assert opened._joined((3, 3, 3, 2), 6) == (6, 5)
    assert opened._joined((10, 1, 1), 6) == (10, 2)
    assert opened._joined((4, 4), 0) == (4, 4)
    assert opened._joined((), 6) == ()
