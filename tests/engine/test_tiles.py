"""Finished tiles of a shard under way: kept though a twin finished the same shard; no place for them is an error."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.runs import make_run

from ntkhpc import files
from ntkhpc.engine.tiles import Tiles

VALUES = {"redraw_mu": np.arange(3.0)}


def tiles(runs: Path) -> Tiles:
    target = make_run(runs)
    return Tiles(target, target.plan.of_phase("redraws")[0], {"study": "f" * 64})


def test_a_tile_is_kept_though_a_twin_removes_the_folder_meanwhile(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, write, removed = tiles(runs), files.write_atomic, []

    def late(path: Path, data: bytes) -> None:
        if not removed:
            removed.append(path.parent)
            shutil.rmtree(path.parent)
        write(path, data)

    monkeypatch.setattr(files, "write_atomic", late)
    mine.save(4, VALUES)
    assert removed == [mine.directory]
    kept = mine.load(4)
    assert kept is not None
    np.testing.assert_array_equal(kept["redraw_mu"], VALUES["redraw_mu"])


def test_a_folder_that_is_never_there_is_an_error_and_not_tried_for_ever(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(path: Path, data: bytes) -> None:
        raise FileNotFoundError(path)

    mine = tiles(runs)
    monkeypatch.setattr(files, "write_atomic", vanished)
    with pytest.raises(FileNotFoundError):
        mine.save(4, VALUES)
