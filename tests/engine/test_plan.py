"""Plans: every value of the store belongs to exactly one shard, and planning touches nothing."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.advice import assert_names_own_fields
from support.runs import ROOT, assert_every_array_is_covered_once, make_run, ntkhpc, tiny_text

from ntkhpc import files, studies
from ntkhpc.bayesian.inputs import Data
from ntkhpc.bayesian.target import Problem
from ntkhpc.engine import plan, run, status
from ntkhpc.errors import StudyError
from ntkhpc.studies.posterior.cell import across_bytes

HEAVY = {"jax", "zarr", "xarray", "submitit", "pandas", "pyarrow", "h5py", "pooch", "requests", "scipy"}


@pytest.mark.promise("Every value of an ensemble's store belongs to exactly one shard, in whole chunks.")
@settings(max_examples=60, deadline=None)
@given(
    members=st.integers(2, 40),
    tile=st.integers(1, 7),
    tiles_per_shard=st.integers(1, 5),
    draws=st.integers(1, 3),
    redraws=st.integers(0, 20),
    leaps=st.sampled_from(
        ["", 'method = "leaps"\nvalidation = 2', "leap_members = 2", "leap_members = 90\ntwin = true"]
    ),
)
def test_shards_cover_every_array_exactly_once_in_whole_chunks(
    members: int, tile: int, tiles_per_shard: int, draws: int, redraws: int, leaps: str
) -> None:
    text = tiny_text(widths="[4, 6]", members=members, tile=tile, shard_members=tile * tiles_per_shard, redraws=redraws)
    wanted = studies.loads(text.replace("trace_points", f"draws = {draws}\n{leaps}\ntrace_points"))
    assert_every_array_is_covered_once(wanted)


def test_a_plan_is_a_function_of_the_study() -> None:
    wanted = studies.loads(tiny_text())
    assert plan.dumps(plan.make(wanted)) == plan.dumps(plan.make(studies.loads(tiny_text())))
    assert plan.loads(plan.dumps(plan.make(wanted))) == plan.make(wanted)


@pytest.mark.promise("The bytes of chunks and the number of files that a plan projects are exact.")
def test_the_projection_of_bytes_and_files_is_exact(finished: run.Run) -> None:
    chunks = [path for path in finished.store.rglob("c*") if path.is_file()]
    assert sum(path.stat().st_size for path in chunks) == finished.plan.store_bytes
    receipts = list((finished.path / "receipts").rglob("*.json"))
    metadata = list(finished.store.rglob("zarr.json"))
    assert len(chunks) + len(metadata) + len(receipts) == finished.plan.files


@pytest.mark.parametrize(("test", "features"), [(1000, 60), (100, 1500), (400, 400)])
def test_memory_of_inputs_across_the_span_is_projected_above_what_is_allocated(test: int, features: int) -> None:
    draw = np.random.default_rng(2)
    x_train, x_test = draw.normal(size=(5, features)), draw.normal(size=(test, features))
    given = Data.make(x_train, np.zeros(5), x_test, np.zeros(test))
    tracemalloc.start()
    Problem.make(given, [3], 0.1, [1.0, 1.0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < across_bytes(test, features) < 2.5 * peak


@pytest.mark.parametrize("stage", studies.layout(studies.loads(tiny_text())).stages, ids="-".join)
def test_memory_of_a_worker_of_several_phases_is_that_of_the_largest(stage: tuple[str, ...], finished: run.Run) -> None:
    """The largest receipt speaks for all phases of a stage; how close projections are is test_memory's to measure.

    They may be far above here, where no member was suspicious enough to be trained again.
    """
    shards = [shard for phase in stage for shard in finished.plan.of_phase(phase)]
    peak = max(files.read_sealed(finished.receipt(shard))["peak_memory_bytes"] for shard in shards)
    assert 0.8 * peak < max(finished.plan.memory_bytes[phase] for phase in stage) < 1.7 * peak


POSTERIOR = """
kind = "bayes"
name = "many"
[data]
source = "calorimeter"
pool = 40
test = 15
[network]
widths = [4, 8, 16]
[posterior]
n_train = [8, 12]
draws = {draws}
[adaptive]
populations = {populations}
[sampling]
chains = {chains}
shard_chains = {shard_chains}
"""


def posterior_text(*, draws: int = 1, populations: int = 0, chains: int = 0, shard_chains: int = 4) -> str:
    return POSTERIOR.format(draws=draws, populations=populations, chains=chains, shard_chains=shard_chains)


def ensemble_text(*, draws: int = 1, curve_draws: int = 1, **changes: object) -> str:
    text = tiny_text(**changes).replace("trace_points", f"draws = {draws}\ntrace_points")
    return text + f"draws = {curve_draws}\n"  # its last table is [infinite_width]


BILLION = 10**9
TOO_MANY = {
    "ensemble": (ensemble_text(members=BILLION), "ensemble.shard_members"),
    "leaps": (
        ensemble_text().replace("trace_points", f"leap_members = {BILLION}\ntrace_points"),
        "ensemble.shard_members",
    ),
    "law": (ensemble_text(members=2, shard_members=2, draws=BILLION), "ensemble.draws"),
    "curve": (ensemble_text(curve_draws=BILLION), "infinite_width.draws"),
    "redraws": (ensemble_text(redraws=BILLION), "infinite_width.redraws"),
    "theory": (posterior_text(draws=BILLION), "posterior.draws"),
    "adaptive": (posterior_text(draws=200_000, populations=4), "posterior.draws"),
    "chains": (posterior_text(chains=BILLION), "sampling.shard_chains"),
    "chains of one shard": (posterior_text(draws=200_000, chains=4), "posterior.draws"),
}
"""What each phase has too many of, and the field that a message names. Of adaptive and of chains of one shard there are
1.2 million, of theory beside them 400,000."""


@pytest.mark.parametrize("phase", TOO_MANY)
def test_more_than_a_million_shards_of_any_phase_are_refused_before_one_is_made(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, field = TOO_MANY[phase]
    wanted = studies.loads(text)
    monkeypatch.setattr(plan, "Shard", lambda *_, **__: pytest.fail("a shard was made"))
    with pytest.raises(StudyError, match="shards; at most 1,000,000") as caught:
        plan.make(wanted)
    assert field in str(caught.value)
    assert_names_own_fields(str(caught.value), wanted)


def test_a_million_shards_are_counted_over_all_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """No phase has a million by itself: 300,000 of theory and 900,000 of chains."""
    wanted = studies.loads(posterior_text(draws=150_000, chains=4))
    monkeypatch.setattr(plan, "Shard", lambda *_, **__: pytest.fail("a shard was made"))
    with pytest.raises(StudyError, match="1,200,002 shards"):
        plan.make(wanted)


@pytest.mark.promise("plan writes nothing.")
def test_plan_writes_nothing(tmp_path: Path) -> None:
    said = ntkhpc("plan", "--task=calorimeter", f"--runs={tmp_path / 'runs'}")
    assert said.returncode == 0
    assert "61 shards" in said.stdout
    assert "nothing was written" in said.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("Counting 10,000 shards for status opens no receipt.")
def test_plan_and_status_of_ten_thousand_shards_open_no_receipt(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_run(runs, members=30_000, predictions="false")
    assert len(target.plan.of_phase("ensemble")) == 10_000
    for shard in target.plan.of_phase("ensemble")[:9_000]:
        target.receipt(shard).touch()
    opened = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or real(path))
    ensemble = status.phases(run.Run(target.path))[1]
    assert (ensemble.done, ensemble.missing, ensemble.total) == (9_000, 1_000, 10_000)
    assert {path.name for path in opened} <= {"study.toml", "plan.json", "manifest.json"}


@pytest.mark.promise("plan and status import none of JAX, NumPy, Zarr, xarray and submitit.")
@pytest.mark.parametrize("verb", ["plan", "status"])
def test_planning_and_looking_import_no_heavy_library(verb: str, finished: run.Run) -> None:
    task = f"--task={ROOT / 'jobs' / 'calorimeter.toml'}" if verb == "plan" else f"--run={finished.path}"
    script = f"import sys; from ntkhpc.cli import main; main(sys.argv[1:]);print({HEAVY} & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", script, verb, task],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines()[-1] == "set()"


def traced(read: Callable[[], plan.Plan]) -> tuple[plan.Plan, int]:
    """A plan, and how much memory stays in use while it is there."""
    tracemalloc.start()
    found = read()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return found, size


def test_the_process_of_a_few_shards_reads_no_regions_of_others() -> None:
    content = plan.dumps(plan.make(studies.loads(tiny_text(members=30_000, predictions="false"))))
    whole, all_of_it = traced(lambda: plan.loads(content))
    mine = {whole.of_phase("ensemble")[number].id for number in (5, 700)}
    part, size = traced(lambda: plan.loads(content, mine))
    assert size < 0.4 * all_of_it
    assert [shard for shard in part.shards if shard.id in mine] == [one for one in whole.shards if one.id in mine]
    without = ("id", "phase", "seconds", "tile_seconds")
    for ours, theirs in zip(part.shards, whole.shards, strict=True):
        assert all(getattr(ours, name) == getattr(theirs, name) for name in without)
    assert msgspec.structs.replace(part, shards=()) == msgspec.structs.replace(whole, shards=())
    other = part.of_phase("law")[0]
    for use in (lambda: other.region["draw"], lambda: dict(other.region), lambda: other.region.get("member")):
        with pytest.raises((TypeError, AttributeError), match="_RegionNotRead"):
            use()


def test_a_task_and_its_workers_read_the_plan_for_their_shards_only(finished: run.Run) -> None:
    shard = finished.plan.of_phase("ensemble")[1]
    mine = run.load(finished.path, given=[shard.id])
    assert {one.id for one in mine.plan.shards if isinstance(one.region, dict)} == {shard.id}
    assert all(not mine.missing(phase) for phase in mine.layout.phases if phase != "analysis")
