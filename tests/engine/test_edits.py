"""Of the files of a run one digit or one bit is changed: it is found or refused, and no number changes silently.

NTKHPC_EDITS=1000 makes as many edits, in a finished run and in one that was killed; the suite makes some of them.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from support.edits import Judge, edits, files_by_kind
from support.runs import all_shards, made_once, make_run, run_shards

from ntkhpc.engine.run import Run

COUNT = int(os.environ.get("NTKHPC_EDITS", "48"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was killed in its third shard of networks, within the write of the store of which it has tiles."""

    def make(folder: Path) -> Run:
        target = make_run(folder)
        run_shards(target, all_shards(target)[:3])
        run_shards(target, all_shards(target)[3:], failpoint="tile-saved:2")
        return target

    return made_once(tmp_path_factory, "killed", make)


@pytest.mark.promise(
    "One changed digit or bit of study, plan, manifest, receipts, chunks, metadata, tiles or report is found by verify "
    "or refused, and changes no value and no file that is shown."
)
@pytest.mark.parametrize("which", ["finished", "killed"])
def test_a_changed_digit_or_bit_changes_no_number_silently(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target = Run(shutil.copytree(request.getfixturevalue(which).path, tmp_path / "copy"))
    assert ("tile" if which == "killed" else "report") in files_by_kind(target)
    judge = Judge(target)
    outcomes: Counter[tuple[str, str]] = Counter()
    for kind, path in edits(target, COUNT // 2, seed=14):
        outcomes[kind, judge.outcome(kind, path)] += 1
    print(which, {" ".join(key): count for key, count in sorted(outcomes.items())})
    assert sum(outcomes.values()) == COUNT // 2
    assert not [kind for kind, outcome in outcomes if outcome == "silent"]
    # A worker refuses a tile, whatever of it was changed; all else verify names.
    assert all("found" in outcome for kind, outcome in outcomes if kind != "tile")
