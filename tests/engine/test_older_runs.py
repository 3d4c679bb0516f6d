"""Runs outlive the code that made them: finished runs of older versions, looked at and gone on with by today's code."""

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray
from support import older
from support.runs import ROOT, ntkhpc

import ntkhpc as package
from ntkhpc import cli, files
from ntkhpc.engine import arrays, frozen_code, packages, run, status, verify
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError, RunError
from ntkhpc.launch import prepare
from ntkhpc.phase.layout import Layout

TO_SET_BACK = {"ensemble": "ensemble", "posterior": "theory"}
"""A phase of which a shard is computed again."""


def resumed(target: Run, *options: str) -> str:
    done = ntkhpc("resume", f"--run={target.path}", "--cores=1", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.promise("Finished runs of older versions are complete for status and intact for verify.")
def test_an_older_run_is_intact_and_complete(old: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(verify.problems(old)) == []
    assert cli.main(["verify", f"--run={old.path}"]) == 0
    assert f"intact; {len(old.plan.shards)} of {len(old.plan.shards)} shards" in capsys.readouterr().out
    assert cli.main(["status", f"--run={old.path}"]) == 0
    assert "complete" in capsys.readouterr().out


@pytest.mark.promise("Runs of older versions are reported with today's code, and their manifest stays as it is.")
def test_an_older_run_is_reported_with_todays_code(old: Run) -> None:
    manifest = (old.path / "manifest.json").read_bytes()
    done = ntkhpc("report", f"--run={old.path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (old.path / "manifest.json").read_bytes() == manifest
    page = (old.path / "analysis" / "report.html").read_text()
    assert old.path.name in page
    assert json.loads((old.path / "analysis" / "provenance.json").read_text())["study_id"] == old.manifest.study_id
    pictures = sorted((old.path / "analysis").glob("*.png"))
    assert package.open_run(old.path).figure(pictures[0].stem)._repr_png_()[:4] == b"\x89PNG"


def test_an_older_run_is_in_a_persons_hands(old: Run, kind: str) -> None:
    target = package.open_run(old.path)
    assert target.study == old.study
    assert target.store.sizes["test_point"] == 16
    assert all(phase.complete for phase in target.status())
    assert old.path.name in target._repr_html_()
    assert len(target.table("moments")) > 1
    with pytest.raises(RunError, match="has no nothing"):
        target.figure("nothing")
    if kind == "ensemble":
        assert np.isfinite(target.moments().mu_L.values).all()
    else:
        with pytest.raises(RunError, match="only runs of an ensemble"):
            target.moments()


def test_opening_a_run_imports_nothing_heavy() -> None:
    script = "import sys, ntkhpc; ntkhpc.open_run; print({'jax', 'zarr', 'numpy', 'xarray', 'rich'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.promise("A run of an older version goes on in its own code; what is computed again agrees within 0.2 %.")
def test_an_older_run_is_gone_on_with_in_its_own_code(old: Run, kind: str, folder: Path) -> None:
    then = old.manifest.versions  # those that its own code asks for, whatever today's does
    here = packages.versions(tuple(name for name in then if name != "python"))
    if changed := {name for name in then if here[name] != then[name]}:
        pytest.skip(f"the run was made with other versions of {', '.join(sorted(changed))}")
    shard = older.set_back(old, TO_SET_BACK[kind])
    resumed(old)
    check_again(old, shard, folder)
    assert [path.name for path in (old.path / "code").iterdir()] == [old.manifest.code[:12]]


@pytest.mark.promise(
    "A run of an older version goes on in today's code once that is accepted; values agree within 0.2 %."
)
def test_an_older_run_is_gone_on_with_in_todays_code(old: Run, kind: str, folder: Path) -> None:
    shard = older.set_back(old, TO_SET_BACK[kind])
    assert "accepted and recorded" in resumed(old, "--accept-change")
    check_again(old, shard, folder)
    assert old.manifest.code == frozen_code.current_hash()
    assert len(old.manifest.changes) == 1


def test_phases_that_write_more_arrays_today_go_on_with_those_of_an_older_run(folder: Path, runs: Path) -> None:
    """Its store has no array of single test points: they are computed, left out, and nothing of the run is damaged."""
    old = older.copy(folder, "ensemble", runs)
    before = arrays.names(old.store)
    shards = [older.set_back(old, phase) for phase in ("law", "curve")]
    resumed(old, "--accept-change")
    for phase, shard in zip(("law", "curve"), shards, strict=True):
        described = {array.name for array in old.layout.arrays(phase)}
        assert described > described & before
        check_again(old, shard, folder)
    assert arrays.names(old.store) == before


def check_again(target: Run, shard: str, folder: Path) -> None:
    """It is complete and intact, and what was computed again agrees with what an older version computed."""
    assert list(verify.problems(Run(target.path))) == []
    assert older.chunks(target, shard)
    one, other = (xarray.open_zarr(path).load() for path in (target.store, folder / target.path.name / "store.zarr"))
    for name in other.data_vars:
        np.testing.assert_allclose(one[name].values, other[name].values, rtol=2e-3, atol=1e-6, err_msg=str(name))


@pytest.mark.promise("Damage in a run of an older version is found, and no more than its shards is set aside.")
def test_damage_in_an_older_run_is_found_and_set_aside(folder: Path, runs: Path) -> None:
    old = older.copy(folder, "ensemble", runs)
    chunk = random.Random(1).choice(sorted((old.store / "test_loss").glob("c.*")))
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    assert cli.main(["verify", f"--run={old.path}"]) == 1
    assert [problem.path for problem in verify.problems(old)] == [chunk]
    assert cli.main(["verify", f"--run={old.path}", "--set-aside"]) == 1
    assert len(list((old.path / "quarantine").iterdir())) == 3
    assert {phase: len(old.missing(phase)) for phase in ("ensemble", "law", "finalise")} == {
        "ensemble": 1, "law": 0, "finalise": 1
    }  # fmt: skip


@pytest.mark.parametrize("known", ["fewer", "more"])
def test_arrays_that_other_versions_add_or_drop_damage_nothing(
    old: Run, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = Layout.arrays

    def others(layout: Layout, phase: str | None = None) -> tuple:
        found = described(layout, phase)
        if known == "fewer":
            return tuple(array for array in found if array.name not in ("status", "theory_bias", "y_test"))
        return (*found, SimpleNamespace(name=f"{phase}_spread"))

    monkeypatch.setattr(Layout, "arrays", others)
    assert list(verify.problems(old)) == []
    victim = old.store / ("y_test" if known == "fewer" else "x_test")
    chunk = next(victim.glob("c*"))
    chunk.write_bytes(bytes(reversed(chunk.read_bytes())))
    assert [problem.path for problem in verify.problems(old)] == [chunk]


def test_a_phase_that_newer_code_puts_in_between_damages_nothing(
    folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The law of newer code reads an array of a phase that the older run does not have."""
    old = older.copy(folder, "ensemble", runs)
    kind = old.layout.kind
    law = next(phase for phase in kind.phases if phase.name == "law")
    between = dataclasses.replace(law, name="factor", writes=(dataclasses.replace(law.writes[0], name="factor"),))
    later = dataclasses.replace(law, reads=(*law.reads, "factor"))
    phases = [one for phase in kind.phases for one in ([between, later] if phase is law else [phase])]
    newer = Layout(dataclasses.replace(kind, phases=tuple(phases)), old.study)
    monkeypatch.setattr(Run, "layout", newer)
    assert old.layout.needs["law"] == ("factor",)
    assert list(verify.problems(old)) == []
    assert status.is_complete(old)
    older.set_back(old, "law")
    assert [shard.phase for phase in old.layout.phases for shard in old.missing(phase)] == [
        "law",
        "finalise",
        "analysis",
    ]


def test_an_array_that_nothing_places_is_checked_by_its_checksum(
    folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run under way, made by newer code: its store has arrays of which no receipt tells yet."""
    old = older.copy(folder, "ensemble", runs)
    for receipt in (old.path / "receipts" / "law").iterdir():
        receipt.unlink()
    described = Layout.arrays
    monkeypatch.setattr(Layout, "arrays", lambda *of: tuple(a for a in described(*of) if not a.name.startswith("law")))
    stale = [problem.what for problem in verify.problems(old)]
    assert all("other values than the phases before" in what for what in stale)  # the analysis read these laws
    chunk = next((old.store / "law_mean").glob("c*"))
    chunk.write_bytes(bytes(reversed(chunk.read_bytes())))
    assert chunk in {problem.path for problem in verify.problems(old)}


VERBS = [
    ("status",),
    ("verify",),
    ("verify", "--set-aside"),
    ("resume",),
    ("resume", "--accept-change"),
    ("efficiency",),
]


@pytest.mark.promise(
    "A run that this code cannot read is called too new or too old by every verb, and no byte of it changes."
)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (older.of_format(99), "too new"),
        (older.with_a_new_field, "too new"),
        (older.with_a_new_phase, "too new"),
        (older.of_format(0), "too old"),
    ],
    ids=["format-99", "field", "phase", "format-0"],
)
def test_what_this_code_cannot_read_is_named_so_by_every_verb_and_not_touched(
    folder: Path, runs: Path, change: Callable[[Run], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = older.copy(folder, "ensemble", runs)
    older.set_back(old, "ensemble")
    change(old)
    before = older.content(old.path)
    for verb in VERBS:
        assert cli.main([verb[0], f"--run={old.path}", *verb[1:]]) == 1
        text = capsys.readouterr()
        assert f"the run is {said} for this code" in text.err, verb
        assert "damaged" not in text.out + text.err
    for verb in ("report", "report --partial"):
        done = ntkhpc(*verb.split(), f"--run={old.path}")
        assert done.returncode == 1
        assert f"the run is {said} for this code" in done.stderr
    with pytest.raises(RunError, match=said):
        package.open_run(old.path)
    assert older.content(old.path) == before


@pytest.mark.promise("If study.toml or plan.json of a run was edited, nothing goes on.")
def test_a_study_or_plan_that_was_edited_is_damaged_and_nothing_goes_on(
    old: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise one changed digit of the seed would mix networks of two seeds."""
    for name, digit in (("study.toml", "seed = "), ("plan.json", '"seconds":')):
        path = old.path / name
        intact = path.read_text()
        path.write_text(intact.replace(digit, f"{digit}1", 1))
        with pytest.raises(DamagedError, match="is not the file the run was made with"):
            run.load(old.path)
        assert cli.main(["resume", f"--run={old.path}"]) == 1
        assert cli.main(["verify", f"--run={old.path}"]) == 1
        assert f"{path}: is not the file the run was made with" in capsys.readouterr().out
        path.write_text(intact)
    assert run.load(old.path).manifest.format == 1


def test_packages_that_decide_in_newer_code_keep_no_older_run_from_going_on(
    folder: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = older.copy(folder, "ensemble", runs)
    before = prepare.differences(old)
    monkeypatch.setattr(packages, "DECIDING", (*packages.DECIDING, "pytest"))
    assert prepare.differences(old) == before


def test_no_fixture_names_the_machine_it_was_made_on(folder: Path) -> None:
    """Paths are those of the README beside them; receipts name no host or user but its own."""
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".toml", ".csv", ".txt") and "code" not in path.parts:
            text = path.read_text()
            assert not [word for word in ("/home", "/root", "/tmp", "/opt", "/usr") if word in text], path
            if path.parent.parent.name == "receipts":
                receipt = files.read_sealed(path)
                assert (receipt["host"], receipt["user"]) == ("node1", "physicist")
