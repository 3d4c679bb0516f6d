"""Users without a name, a home or a place for temporary files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import ROOT, store_bytes, tiny_text

from ntkhpc import start, surroundings
from ntkhpc.engine.run import Run
from ntkhpc.errors import SchedulerError
from ntkhpc.launch import slurm

NOBODY = """
#include <stddef.h>
#include <pwd.h>
#include <sys/types.h>
struct passwd *getpwuid(uid_t id) { return NULL; }
int getpwuid_r(uid_t id, struct passwd *p, char *text, size_t n, struct passwd **found) { *found = NULL; return 0; }
"""


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library by which no user has a passwd entry, as in a container or while a directory service is down."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "nobody.c").write_text(NOBODY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "nobody.so", "nobody.c"], cwd=folder, check=True)
    return str(folder / "nobody.so")


def call(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    hidden = ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME", "TMPDIR")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, "-m", "ntkhpc", *words], cwd=folder, env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


PLACES = {
    "no home": {},
    "an empty home": {"HOME": ""},
    "a home that is not there": {"HOME": "/no/such/home"},
    "a home that is a file": {"HOME": "/etc/hostname"},
    "a home that is read-only": {"HOME": "/proc"},
    "no place for temporary files": {"HOME": "/root", "TMPDIR": "/no/such/folder"},
    "temporary files in a file": {"HOME": "/root", "TMPDIR": "/etc/hostname"},
    "configuration in a file": {"HOME": "/root", "XDG_CONFIG_HOME": "/etc/hostname", "XDG_CACHE_HOME": "/proc"},
}


@pytest.mark.parametrize("kind", PLACES)
def test_verbs_do_without_a_name_and_a_home(kind: str, nobody: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_text())
    planned = call(tmp_path, "plan", "--task=tiny.toml", "--profile=local", LD_PRELOAD=nobody, **PLACES[kind])
    assert planned.returncode == 0, planned.stderr
    assert "nothing was written" in planned.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.toml"}
    refused = call(tmp_path, "plan", "--task=tiny.toml", "--profile=none", LD_PRELOAD=nobody, **PLACES[kind])
    assert refused.returncode == 2
    assert "there is no profile 'none'" in refused.stderr
    assert "Traceback" not in refused.stderr + planned.stderr


@pytest.mark.promise(
    "A run is made by a user without a passwd entry, a home and a usable TMPDIR, on a terminal of ASCII."
)
def test_a_run_is_made_without_a_name_a_home_and_a_place_for_temporary_files(
    nobody: str, tmp_path: Path, finished: Run
) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_text())
    done = call(
        tmp_path, "submit", "--task=tiny.toml", "--profile=local", "--cores=2",
        LD_PRELOAD=nobody, TMPDIR="/no/such/folder", PYTHONIOENCODING="ascii", LC_ALL="C",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.isascii()
    target = Run(next((tmp_path / "runs").glob("tiny-*")))
    assert store_bytes(target) == store_bytes(finished)
    assert [str(os.getuid()) in path.name for path in (target.path / "logs").iterdir()]


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def none(uid: int) -> None:
        raise KeyError(uid)

    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", none)
    assert surroundings.user() == str(os.getuid())
    monkeypatch.setenv("USER", "me")
    assert surroundings.user() == "me"


def test_a_place_for_temporary_files_that_is_none_is_not_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for bad in ("", "/no/such", str(tmp_path / "file"), "/proc"):
        assert "TMPDIR" not in start.cleaned({"TMPDIR": bad}) or bad == "/proc"
    assert start.cleaned({"TMPDIR": str(tmp_path)})["TMPDIR"] == str(tmp_path)


@pytest.mark.parametrize("size", ["0", "-1", "00"])
def test_a_cluster_without_job_arrays_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "ask", lambda command: f"ClusterName = x\nMaxArraySize            = {size}\n")
    with pytest.raises(SchedulerError, match="has job arrays switched off: MaxArraySize is"):
        slurm.max_array_size()


def test_one_element_an_array_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "ask", lambda command: "MaxArraySize = 1\n")
    assert slurm.max_array_size() == 1
