"""What a job script asks for and runs, in which image, and what it is never given."""

import json
import os
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from support.job_arrays import layout, planned, profile
from support.runs import make_run, reseal, tiny_text

from ntkhpc import cli, program_cache
from ntkhpc.engine import frozen_code
from ntkhpc.launch import cluster, container, sbatch, speed, tasks


def test_a_script_asks_and_runs_what_its_array_says(tmp_path: Path) -> None:
    made = planned()
    wanted = profile(account="abc", constraint="skylake|icelake", directives=("--mail-type=END", "--exclusive"))
    intent = cluster.intend(layout(made), made, wanted, {"law": made.of_phase("law")}, tasks.Experience(), None, None)
    place = container.Place(tmp_path / "it's $(id)", tmp_path / "it's $(id)" / "code")
    text = sbatch.executor(place, intent, intent.arrays[0], wanted, ["8", "9"], exclude=("node3",)).text
    head, _, body = text.partition("# setup")
    for line in (
        "#SBATCH --account=abc", "#SBATCH --constraint='skylake|icelake'", "#SBATCH --mail-type=END",
        "#SBATCH --exclusive", "#SBATCH --dependency=afterany:8:9", "#SBATCH --exclude=node3", "#SBATCH --requeue",
        "#SBATCH --cpus-per-task=2", "#SBATCH --array=0-0%1", "#SBATCH --signal=USR2@120",
    ):  # fmt: skip
        assert line in head.splitlines(), head
    assert "$(id)" not in head
    assert "'\"'\"'" in body  # the quote of the path, quoted
    assert body.rstrip().endswith('exit "$code"')
    assert 'scontrol requeue "$element"' in body


def test_scratch_of_the_node_is_bound_and_is_where_temporary_files_go(tmp_path: Path) -> None:
    made = planned()
    wanted = msgspec.structs.replace(profile(), scratch="$SLURM_TMPDIR/ntkhpc")
    intent = cluster.intend(layout(made), made, wanted, {"law": made.of_phase("law")}, tasks.Experience(), None, None)
    text = sbatch.executor(container.Place(tmp_path, tmp_path), intent, intent.arrays[0], wanted, []).text
    script = text.partition("# setup")[2].partition("# command")[0]
    (tmp_path / "node").mkdir()
    ran = subprocess.run(
        ["bash", "-c", f'{script}\necho "$TMPDIR|$APPTAINER_BIND|$APPTAINERENV_TMPDIR"'],
        env={"PATH": os.environ["PATH"], "SLURM_TMPDIR": str(tmp_path / "node")}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ran.stdout.split("|") == [one := f"{tmp_path}/node/ntkhpc", one, f"{one}\n"]
    assert (tmp_path / "node" / "ntkhpc").is_dir()


def test_a_container_reads_the_runs_beside_that_are_still_there(tmp_path: Path) -> None:
    names = ("one it's", "gone", "a,b", "two")
    for name in names:
        (tmp_path / name).mkdir()
    made = planned()
    intent = cluster.intend(
        layout(made), made, profile(), {"law": made.of_phase("law")}, tasks.Experience(), None, None
    )
    place = container.Place(tmp_path, tmp_path, beside=tuple(tmp_path / name for name in names))
    bare = sbatch.executor(place, intent, intent.arrays[0], profile(), []).text
    assert "APPTAINER_BIND" not in bare  # without an image there is nothing to bind
    (tmp_path / "i.sif").touch()
    intent = msgspec.structs.replace(intent, image=str(tmp_path / "i.sif"))
    text = sbatch.executor(place, intent, intent.arrays[0], profile(), []).text
    script = text.partition("# setup")[2].partition("# command")[0]
    (tmp_path / "gone").rmdir()
    ran = subprocess.run(
        ["bash", "-c", f'set -u\n{script}\necho "$APPTAINER_BIND"'],
        env={"PATH": os.environ["PATH"], "APPTAINER_BIND": "/x"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == f"/x,{tmp_path}/one it's:{tmp_path}/one it's:ro,{tmp_path}/two:{tmp_path}/two:ro\n"


@pytest.mark.promise(
    "Containers keep compiled programs in the user's cache folder where it can be made, and only there."
)
@pytest.mark.parametrize("home", ["a home", "a,home", "file"])
@pytest.mark.parametrize("given", ["", "cache it's", "off"])
def test_a_container_sees_the_folder_of_compiled_programs(
    home: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    place = "off" if given == "off" else str(tmp_path / given) if given else ""
    monkeypatch.setenv(program_cache.SETTING, place)
    made = planned()
    intent = cluster.intend(
        layout(made), made, profile(), {"law": made.of_phase("law")}, tasks.Experience(), None, None
    )
    (tmp_path / "i.sif").touch()
    intent = msgspec.structs.replace(intent, image=str(tmp_path / "i.sif"))
    text = sbatch.executor(container.Place(tmp_path, tmp_path), intent, intent.arrays[0], profile(), []).text
    assert (program_cache.SETTING in text) == bool(place)  # what a user set reaches the job
    script = text.partition("# setup")[2].partition("# command")[0]
    ran = subprocess.run(
        ["bash", "-c", f'set -eu\n{script}\necho "${{APPTAINER_BIND:-}}"'],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / home)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    own = tmp_path / home / ".cache" / "ntkhpc" if home == "a home" else None
    wanted = {"": own, "off": None}.get(given, tmp_path / given)
    assert ran.stdout == f"{wanted or ''}\n"
    assert wanted is None or wanted.is_dir()


def test_the_image_and_its_environment_are_named_in_the_command(tmp_path: Path) -> None:
    place, wanted = container.Place(tmp_path, tmp_path / "code"), profile(gpu="--gres=gpu:1")
    words = container.command(place, wanted.container, Path("/i.sif"), {"X": "1"}, gpu=True)
    assert words[:4] == ["apptainer", "exec", "--no-home", "--nv"]
    at = words.index("/i.sif")
    assert words[at : at + 3] == ["/i.sif", "python3", "-I"]
    assert words[-4:] == [str(tmp_path / "code"), "-", "X=1", "--"]
    assert ("--bind", str(tmp_path)) in list(pairwise(words))


@pytest.mark.promise("Paths that a job script or a container cannot be given literally are refused.")
@pytest.mark.parametrize("bad", ["a,b", "a:b", "a%j", "a\nb", "$(touch owned)", "`id`", 'a"b', "a\\b"])
def test_paths_that_jobs_cannot_be_given_are_refused(tmp_path: Path, bad: str) -> None:
    from ntkhpc.errors import RunError

    with pytest.raises(RunError, match="cannot be given"):
        container.require_plain_path(container.Place(tmp_path / bad, tmp_path))


@pytest.mark.promise("A run does not go on with another image until it is accepted.")
def test_another_image_is_refused_until_accepted(runs: Path) -> None:
    from ntkhpc.errors import RunError

    target = make_run(runs)
    container.require_same(target, "a" * 64, accept=False)
    container.require_same(target, "a" * 64, accept=False)
    with pytest.raises(RunError, match="begun with image aaaaaaaaaaaa"):
        container.require_same(target, "b" * 64, accept=False)
    container.require_same(target, "b" * 64, accept=True)
    record = json.loads((target.path / "launch.json").read_text())
    assert [image["sha256"][0] for image in record["images"]] == ["a", "b"]


@pytest.fixture
def said(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """What `make plan` says of the tiny study and a cluster."""
    monkeypatch.setattr(speed, "probe", lambda wanted, profile: speed.Probe({}, "not timed"))
    (tmp_path / "tiny.toml").write_text(tiny_text())

    def plan() -> str:
        assert cli.main(["plan", f"--task={tmp_path / 'tiny.toml'}", f"--runs={runs}", "--profile=cpu"]) == 0
        return capsys.readouterr().out

    return plan


def test_a_plan_shows_the_scripts_of_what_is_missing_in_the_code_of_the_run(
    runs: Path, said: Callable[[], str]
) -> None:
    today = f"/code/{frozen_code.current_hash()[:12]}"
    new = said()
    assert today in new
    assert all(f"--comment='ntkhpc {phase}'" in new for phase in ("data", "ensemble", "law"))
    target = make_run(runs)
    os.rename(target.code, target.path / "code" / "older")
    reseal(target, code="older")
    for shard in target.plan.of_phase("data"):
        target.receipt(shard).touch()
    goes_on = said()
    assert f" {target.path}/code/older " in goes_on
    assert today not in goes_on
    assert "'ntkhpc data'" not in goes_on
    assert all(f"--comment='ntkhpc {phase}'" in goes_on for phase in ("ensemble", "law"))
    for shard in target.plan.shards:
        target.receipt(shard).touch()
    complete = said()
    assert "nothing is missing" in complete
    assert "#SBATCH" not in complete
    assert f"is in {target.path}" in complete


def test_a_plan_notes_a_run_that_cannot_be_read(runs: Path, said: Callable[[], str]) -> None:
    (make_run(runs).path / "plan.json").write_text("{}")
    found = said()
    assert "note: " in found
    assert "is not the file the run was made with" in found
    assert "#SBATCH" in found
