"""Nothing that lies beside the frozen code of a run is imported."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.runs import make_run, ntkhpc, run_shards

from ntkhpc import files, start, surroundings
from ntkhpc.engine import discrepancies, frozen_code, remake, verify
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError
from ntkhpc.launch import local, sbatch

OWNED = "open({!r}, 'w').write('owned')\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(made.path, tmp_path / made.path.name))


def file(name: str) -> Callable[[Path, str], None]:
    def put(code: Path, text: str) -> None:
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(text)

    return put


def forged_bytecode(code: Path, text: str) -> None:
    """Python prefers it to a source of the same size and time."""
    import importlib._bootstrap_external as external

    source = code / "ntkhpc" / "files.py"
    status = source.stat()
    target = Path(external.cache_from_source(str(source)))
    target.parent.mkdir()
    compiled = compile(text, str(source), "exec")
    target.write_bytes(external._code_to_timestamp_pyc(compiled, int(status.st_mtime), status.st_size))


def link(code: Path, text: str) -> None:
    (code.parent / "elsewhere.py").write_text(text)
    (code / "sitecustomize.py").symlink_to(code.parent / "elsewhere.py")


def link_to_a_folder(code: Path, text: str) -> None:
    (code.parent / "elsewhere").mkdir()
    (code.parent / "elsewhere" / "__init__.py").write_text(text)
    (code / "scipy").symlink_to(code.parent / "elsewhere")


def link_to_the_same(code: Path, text: str) -> None:
    (code.parent / "files.py").write_bytes((code / "ntkhpc" / "files.py").read_bytes())
    (code / "ntkhpc" / "files.py").unlink()
    (code / "ntkhpc" / "files.py").symlink_to(code.parent / "files.py")


def the_code_is_a_link(code: Path, text: str) -> None:
    code.rename(code.parent / "moved")
    code.symlink_to("moved")


def edited(code: Path, text: str) -> None:
    with (code / "ntkhpc" / "__init__.py").open("a") as opened:
        opened.write(text)


INTRUDERS: dict[str, Callable[[Path, str], None]] = {
    "sitecustomize": file("sitecustomize.py"),
    "usercustomize": file("usercustomize.py"),
    "pth": file("evil.pth"),
    "package that shadows": file("numpy/__init__.py"),
    "module that shadows": file("jax.py"),
    "module of the standard library": file("json.py"),
    "module in the package": file("ntkhpc/engine/extra.py"),
    "library": file("ntkhpc/files.cpython-311-x86_64-linux-gnu.so"),
    "bytecode without source": file("xarray.pyc"),
    "data": file("analysis/notes.txt"),
    "hidden file": file(".hidden.py"),
    "hostile name": file("a\x1b[2Jb\n.py"),
    "empty folder": lambda code, text: (code / "msgspec").mkdir(),
    "pipe": lambda code, text: os.mkfifo(code / "dask.py"),
    "forged bytecode": forged_bytecode,
    "link": link,
    "link to a folder": link_to_a_folder,
    "link to the same": link_to_the_same,
    "the code is a link": the_code_is_a_link,
    "edited": edited,
    "removed": lambda code, text: (code / "ntkhpc" / "files.py").unlink(),
}


@pytest.mark.promise("Nothing that was put beside the frozen code of a run, or edited in it, is imported by a worker.")
@pytest.mark.parametrize("kind", INTRUDERS)
def test_what_lies_beside_the_frozen_code_is_refused_before_python_looks_there(
    kind: str, run: Run, tmp_path: Path
) -> None:
    marker = tmp_path / "owned"
    INTRUDERS[kind](run.code, OWNED.format(str(marker)))
    words = surroundings.python(sys.executable, run.code, run.manifest.code, {})
    worker = [*words, "-m", "ntkhpc.worker", str(run.path), "data-0"]
    started = subprocess.run(worker, capture_output=True, text=True, check=False, timeout=60)
    assert started.returncode == 1
    assert start.NOT_THE_CODE in started.stderr
    assert "Traceback" not in started.stderr
    assert "\x1b" not in started.stderr
    with pytest.raises(DamagedError, match=start.NOT_THE_CODE):
        frozen_code.require_intact(run.code, run.manifest.code)
    assert not marker.exists()
    assert not run.finished("data")


def test_the_check_sees_what_would_be_imported(made: Run, tmp_path: Path) -> None:
    """Started as workers once were, Python imports the intruder: the tests above could fail."""
    marker = tmp_path / "owned"
    code = Path(shutil.copytree(made.code, tmp_path / "code"))
    INTRUDERS["sitecustomize"](code, OWNED.format(str(marker)))
    subprocess.run([sys.executable, "-c", ""], env={**os.environ, "PYTHONPATH": str(code)}, check=True)
    assert marker.exists()


@pytest.mark.parametrize("kind", ["sitecustomize", "bytecode without source", "link to a folder"])
def test_resume_names_what_does_not_belong_there_and_starts_nothing(kind: str, run: Run, tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    INTRUDERS[kind](run.code, OWNED.format(str(marker)))
    refused = ntkhpc("resume", f"--run={run.path}", "--cores=1", "--profile=local")
    assert refused.returncode == 1
    assert {"sitecustomize": "sitecustomize.py", "bytecode without source": "xarray.pyc", "link to a folder": "scipy"}[
        kind
    ] in refused.stderr
    assert "was not there when the run was made" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert not marker.exists()
    assert not (run.path / "logs").exists()


@pytest.mark.parametrize("kind", INTRUDERS)
def test_verify_names_whatever_keeps_a_worker_from_starting(kind: str, run: Run) -> None:
    INTRUDERS[kind](run.code, "")
    if kind == "edited":
        (run.code / "ntkhpc" / "__init__.py").write_text("")
    found = [problem for problem in verify.problems(Run(run.path)) if "code" in problem.path.parts]
    assert found
    assert {problem.todo for problem in found} <= {discrepancies.OF_NOBODY, discrepancies.MADE_AGAIN}


def dangling(code: Path) -> None:
    (code / "jax").symlink_to("nowhere")


OLD_HABITS: dict[str, Callable[[Path], None]] = {
    "dangling link": dangling,
    "empty folder": lambda code: (code / "analysis" / "x").mkdir(),
    "what looks like a leftover": lambda code: (code / ".x.tmp").write_text(""),
    "module in bytecode": lambda code: ((code / "__pycache__").mkdir(), (code / "__pycache__" / "x.py").write_text("")),
}


@pytest.mark.parametrize("kind", OLD_HABITS)
def test_verify_and_workers_agree_on_what_does_not_belong_to_the_code(kind: str, run: Run) -> None:
    OLD_HABITS[kind](run.code)
    frozen_code.remove_bytecode(run.code)
    with pytest.raises(DamagedError) as refused:
        frozen_code.require_intact(run.code, run.manifest.code)
    assert f"make verify RUN={run.path} SET_ASIDE=1" in str(refused.value)
    assert f"make resume RUN={run.path} ACCEPT_CHANGE=1" in str(refused.value)
    assert [problem.todo for problem in verify.problems(run)] == [discrepancies.OF_NOBODY]


def test_bytecode_that_a_python_left_in_the_code_is_removed_by_the_launcher_and_never_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions advised to start `python -m ntkhpc` in there, which leaves such folders."""
    marker = tmp_path / "owned"
    forged_bytecode(run.code, OWNED.format(str(marker)))
    (run.code / "ntkhpc" / "engine" / "__pycache__").mkdir()
    monkeypatch.setattr(local, "_run_stage", lambda *_: None)
    local.run(run, Console(quiet=True), 1)
    frozen_code.require_intact(run.code, run.manifest.code)
    assert list(verify.problems(run)) == []
    assert not marker.exists()


def test_a_copy_of_the_code_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_file", synced.append)
    (tmp_path / "code").mkdir()
    code = frozen_code.freeze(tmp_path)
    copied = {path.relative_to(tmp_path / "code" / code[:12]) for path in files.tree(tmp_path / "code" / code[:12])}
    assert {Path(*path.relative_to(tmp_path / "code").parts[1:]) for path in synced} == copied
    assert all(path.relative_to(tmp_path / "code").parts[0].endswith(".tmp") for path in synced)


def test_the_lock_of_an_installed_package_can_be_put_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It travels in the package, and lies at the top of a run's code."""
    installed = tmp_path / "site-packages"
    (installed / "ntkhpc").mkdir(parents=True)
    name = f"code/{run.code.name}/requirements.lock"
    (run.path / name).rename(installed / "ntkhpc" / "requirements.lock")
    monkeypatch.setattr(frozen_code, "_CHECKOUT", installed)
    assert remake.restore(run, [name]) == [name]


def test_a_worker_that_was_started_by_hand_looks_too(run: Run) -> None:
    """Python itself may have imported it by then; the worker computes nothing all the same."""
    INTRUDERS["module in the package"](run.code, "")
    refused = run_shards(run, ["data-0"])
    assert refused.returncode != 0
    assert "ntkhpc/engine/extra.py was not there when the run was made" in refused.stderr
    assert not run.finished("data")


def test_intact_code_starts(run: Run) -> None:
    words = surroundings.python(sys.executable, run.code, run.manifest.code, {"X": "a b=c"})
    code = "import os, sys, ntkhpc; print(ntkhpc.__file__, os.environ['X'], sys.argv[1:])"
    done = subprocess.run([*words, "-c", code, "--", "$y"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{run.code}/ntkhpc/__init__.py a b=c ['--', '$y']\n"


def test_a_job_starts_the_copy_that_was_written_when_it_was_submitted_and_no_other(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / sbatch.START
    copy.write_bytes(surroundings.START.read_bytes())
    words = surroundings.python(sys.executable, run.code, run.manifest.code, {}, copy)
    said = subprocess.run([*words, "-c", "print('here')"], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "here\n"
    marker = tmp_path / "owned"
    copy.write_text(OWNED.format(str(marker)) + copy.read_text())
    refused = subprocess.run([*words, "-c", ""], capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 1
    assert "changed since it was submitted" in refused.stderr
    assert not marker.exists()


def test_the_hash_of_the_files_is_the_hash_of_the_code(made: Run) -> None:
    assert start.problem(str(made.code), frozen_code.current_hash()) == ""
    assert start.problem(str(made.code), "0" * 64)
