"""Nothing outside the fingerprint decides a bit: what users, sites and modules set does not reach what computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import hostile
from support.runs import ROOT, make_run, ntkhpc, run_shards, store_bytes, tiny_text

from ntkhpc import files, start, surroundings
from ntkhpc.engine import receipts
from ntkhpc.engine.run import Run

CONFIGURATION = """
import json, os, sys
import numpy as np
from ntkhpc import pinned
import jax
print(json.dumps({
    "environment": dict(sorted(os.environ.items())), "jax": pinned.jax_settings(), "flags": repr(sys.flags),
    "filters": len(sys.warnoptions), "path": sys.path, "user": sys.flags.no_user_site, "devices": len(jax.devices()),
    "numpy": [value.tobytes().hex() for value in pinned.sample()], "hash": hash("a"), "encoding": sys.stdout.encoding,
}))
"""


def configuration(environment: dict[str, str]) -> dict[str, object]:
    """What a process computes with that is started as workers are."""
    words = surroundings.python(sys.executable, ROOT, "-", {})
    done = subprocess.run(
        [*words, "-c", CONFIGURATION], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_at_least_forty_variables_are_tried() -> None:
    assert len(hostile.VARIABLES) >= 40


def test_a_process_of_ours_is_configured_as_if_nobody_had_set_anything(tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    usual = configuration(bare)
    assert configuration({**bare, **hostile.VARIABLES, **hostile.home(tmp_path)}) == usual


@pytest.mark.parametrize("name", hostile.VARIABLES)
def test_no_variable_alone_reaches_a_process_of_ours(name: str) -> None:
    bare = {"PATH": os.environ["PATH"], "HOME": "/home/me"}
    assert start.cleaned({**bare, name: hostile.VARIABLES[name]}) == start.cleaned(bare)


def test_the_device_and_its_memory_are_the_users_choice() -> None:
    chosen = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    assert chosen.items() <= start.cleaned(chosen).items()
    assert not any(map(surroundings.is_dropped, chosen.keys() - {"CUDA_VISIBLE_DEVICES"}))


def test_what_a_user_passes_on_purpose_reaches_workers_and_is_in_the_fingerprint(runs: Path) -> None:
    passed = {start.ALSO: "XLA_FLAGS, NO_SUCH", "XLA_FLAGS": "--xla_cpu_enable_fast_math=false", "OTHER": "1"}
    assert start.cleaned(passed)["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"
    target = make_run(runs)
    assert run_shards(target, ["data-0"], environment=passed).returncode == 0
    receipt = receipts.read(target, target.plan.of_phase("data")[0])
    assert receipt is not None
    assert receipt.fingerprint["passed"] == {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}
    assert receipt.fingerprint["xla_flags"] == "--xla_cpu_enable_fast_math=false"


@pytest.mark.promise(
    "Variables that change JAX, XLA, NumPy, BLAS, Dask, Zarr or Python, and a user's own configuration files, change "
    "no stored bit of a run, nor its fingerprint."
)
def test_forty_variables_together_and_a_hostile_home_change_no_stored_bit(
    runs: Path, finished: Run, tmp_path: Path
) -> None:
    task = tmp_path / "tiny.toml"
    task.write_text(tiny_text())
    home = hostile.home(tmp_path / "home")
    (tmp_path / "matplotlibrc").write_text("backend: no-such\n")
    done = ntkhpc(
        "submit", f"--task={task}", f"--runs={runs}", "--cores=2", "--profile=local", cwd=tmp_path,
        **hostile.VARIABLES, **home,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    target = Run(next(runs.glob("tiny-*")))
    assert store_bytes(target) == store_bytes(finished)
    assert (target.path / "analysis" / "report.html").is_file()
    fingerprints = {files.read_sealed(target.receipt(shard))["fingerprint"]["id"] for shard in target.plan.shards}
    assert len(fingerprints) == 1
    again = ntkhpc("report", f"--run={target.path}", cwd=tmp_path, **hostile.VARIABLES, **home)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Traceback" not in again.stdout + again.stderr


HOSTILE_PROCESSES = {
    "other keys": "jax.config.update('jax_default_prng_impl', 'rbg'); jax.config.update('jax_random_seed_offset', 7)",
    "other precision": "jax.config.update('jax_enable_x64', True); "
    "jax.config.update('jax_default_matmul_precision', 'bfloat16')",
    "other streams": "jax.config.update('jax_threefry_partitionable', False)",
    "no compiler": "jax.config.update('jax_disable_jit', True)",
    "strict": "jax.config.update('jax_numpy_dtype_promotion', 'strict'); import numpy; numpy.seterr(all='raise')",
    "used before": "jax.config.update('jax_default_prng_impl', 'rbg'); jax.random.normal(jax.random.key(1), (3,)); "
    "import ntkhpc; import numpy; numpy.random.seed(1)",
}


@pytest.mark.promise("Shards that are run in a process whose JAX somebody configured otherwise have the same bits.")
@pytest.mark.parametrize("kind", HOSTILE_PROCESSES)
def test_a_process_with_another_jax_configuration_computes_the_same_bits(kind: str, runs: Path, finished: Run) -> None:
    target = make_run(runs)
    wanted = ["data-0", next(shard.id for shard in target.plan.of_phase("ensemble"))]
    done = run_shards(target, wanted, first=f"import jax; {HOSTILE_PROCESSES[kind]}")
    assert done.returncode == 0, done.stderr
    for shard in target.plan.shards:
        if shard.id in wanted:
            ours, theirs = (receipts.read(one, shard) for one in (target, finished))
            assert ours is not None
            assert theirs is not None
            assert ours.values == theirs.values
            assert ours.fingerprint["id"] == theirs.fingerprint["id"]


def test_a_setting_that_cannot_be_pinned_is_refused(runs: Path) -> None:
    target = make_run(runs)
    done = run_shards(target, ["data-0"], first="import jax; context = jax.enable_x64(True); context.__enter__()")
    assert done.returncode != 0
    assert "JAX is set otherwise than runs are computed: jax_enable_x64" in done.stderr
    assert not target.finished("data")


@pytest.mark.parametrize("wanted", ["cuda", "rocm", "no-such-device"])
def test_a_device_that_is_not_there_is_refused_before_there_is_a_run(wanted: str, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_text())
    refused = ntkhpc(
        "submit", f"--task={tmp_path / 'tiny.toml'}", f"--runs={runs}", "--profile=local", JAX_PLATFORMS=wanted
    )
    assert refused.returncode == 1
    assert f"JAX_PLATFORMS={wanted} names a device that JAX does not find here" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert not runs.exists()
    worker = run_shards(make_run(runs), ["data-0"], environment={"JAX_PLATFORMS": wanted})
    assert f"JAX_PLATFORMS={wanted} names a device that is not here" in worker.stderr


def test_a_variable_of_python_alone_starts_the_command_anew(tmp_path: Path) -> None:
    """It acted as Python started: a process that has it cannot be rid of it otherwise."""
    shown = "import sys; from ntkhpc import surroundings; surroundings.prepare(); print(sys.flags.optimize, sys.argv)"
    done = subprocess.run(
        [sys.executable, "-c", shown, "a b"], env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONOPTIMIZE": "2"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "0 ['-c', 'a b']\n"


@pytest.mark.parametrize("marker", ["", "1"])
def test_a_sitecustomize_that_sets_a_variable_of_python_does_not_start_a_command_for_ever(
    marker: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os; os.environ['PYTHONWARNINGS'] = 'ignore'; os.write(1, b'.')\n"
    )
    shown = (
        "import os; from ntkhpc import surroundings; surroundings.prepare(); "
        "print([name for name in os.environ if name in ('PYTHONWARNINGS', 'NTKHPC_RESTARTED')])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"} | ({"NTKHPC_RESTARTED": marker} if marker else {})
    done = subprocess.run(
        [sys.executable, "-c", shown], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "..[]\n"


def test_make_hands_no_foreign_variable_to_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / "containers" / "ntkhpc.sh").write_text("env\n")
    welcome = {"JAX_PLATFORMS": "cpu", "PIP_INDEX_URL": "https://here", "PYTHON": "/my/python"}
    given = {**hostile.VARIABLES, "PYTHONHOME": "/opt/lcg/Python/3.9", "PIP_USER": "1", "PIP_TARGET": "/x", **welcome}
    bare = {"PATH": os.environ["PATH"], "HOME": "/home/me"}
    said = [
        subprocess.run(
            ["make", "status"],
            cwd=tmp_path,
            env={**bare, **more},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for more in (welcome, given)
    ]
    usual, found = (dict(line.partition("=")[::2] for line in one.splitlines()) for one in said)
    assert welcome.items() <= found.items()
    late = {"LC_ALL", "LANG", "PYTHONIOENCODING", "PYTHONUTF8"}  # of the terminal: the command line sees to them
    assert found.keys() - usual.keys() <= late
