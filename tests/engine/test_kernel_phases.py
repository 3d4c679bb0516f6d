"""Phases kernel, factor and curve by tiles: the numbers of whole matrices, through kills, in any order, and damage."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.runs import (
    RUN_SHARDS,
    assert_every_array_is_covered_once,
    made_once,
    ntkhpc,
    run_shards,
    tiny_text,
    worker_settings,
)

from analysis.ensemble import _refined
from analysis.ensemble.results import collect
from ntkhpc import files, kernels, studies
from ntkhpc.engine import arrays, plan, run, store, verify, worker
from ntkhpc.engine.run import Run
from ntkhpc.engine.store import digest
from ntkhpc.errors import StudyError
from ntkhpc.networks import MLP

TILED = ("kernel", "factor", "curve")
KILLS = int(os.environ.get("NTKHPC_KILLS", "4"))
"""Of each phase. Twenty take two minutes a phase."""


def text(tile: int = 16, n_train: str = "[10, 16, 30, 38]", times: str = '["steps", "infinite"]') -> str:
    section = f"[infinite_width]\nn_train = {n_train}\ntimes = {times}\ntile = {tile}\ndraws = 2\n"
    return tiny_text(redraws=0).replace("[infinite_width]\n", section)


def make(runs: Path, **changes: object) -> Run:
    return run.create(runs, studies.loads(text(**changes)))  # type: ignore[arg-type]  # of a dict


def names(target: Run, phase: str) -> list[str]:
    return [shard.id for shard in target.plan.of_phase(phase)]


def compute(target: Run, *phases: str) -> Run:
    for phase in phases:
        done = run_shards(target, names(target, phase))
        assert done.returncode == 0, done.stdout + done.stderr
        assert not target.missing(phase)
    return target


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_once(tmp_path_factory, "tiled", lambda folder: compute(make(folder), "data", *TILED))


@pytest.fixture
def copy(tiled: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(tiled.path, tmp_path / tiled.path.name))


def bytes_of(target: Run) -> dict[str, bytes]:
    """Every file of the arrays that the tiled phases write."""
    written = [array.name for phase in TILED for array in target.layout.arrays(phase)]
    folders = [arrays.folder(target.store, name) for name in written]
    return {f"{folder.name}/{path.name}": path.read_bytes() for folder in folders for path in folder.iterdir()}


def without(target: Run, *phases: str) -> Run:
    """What was not computed of these phases yet."""
    for phase in phases:
        shutil.rmtree(target.path / "receipts" / phase)
    return target


@pytest.mark.promise("A learning curve by tiles has the numbers of whole matrices to 1e-10.")
def test_a_curve_by_tiles_is_that_of_whole_matrices(tiled: Run, runs: Path) -> None:
    whole = compute(make(runs, tile=4096), "data", "curve")
    assert names(whole, "curve") == ["curve-d0", "curve-d1"]
    for array in whole.layout.arrays("curve"):
        found, expected = (store.load(one.store, array.name)[array.name] for one in (tiled, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max(), err_msg=array.name)
    assert list(verify.problems(tiled)) == []


@pytest.mark.promise(
    "Workers killed at seeded moments of kernel, factor and curve, and run again, change no stored bit."
)
@pytest.mark.parametrize("phase", TILED)
def test_kills_of_workers_change_no_bit(phase: str, tiled: Run, copy: Run) -> None:
    """Once a phase is complete it begins anew, so that every kill falls into work."""

    def begin() -> None:
        for later in TILED[TILED.index(phase) :]:
            shutil.rmtree(copy.path / "receipts" / later, ignore_errors=True)
        for room in (arrays.folder(copy.store, array.name) for array in copy.layout.arrays(phase)):
            for chunk in room.glob("c.*"):
                chunk.unlink()

    begin()
    moments, killed = random.Random(phase), 0
    stages = ("claimed", "shard-computed", "chunk-written", "chunks-synced", "values-compared", "receipt-published")
    while killed < KILLS:
        failpoint = f"{moments.choice(stages)}:{moments.randint(1, 2)}"
        missing = [shard.id for shard in copy.missing(phase)]
        killed += run_shards(copy, missing, failpoint=failpoint).returncode == -signal.SIGKILL
        if not copy.missing(phase):
            begin()
    compute(copy, *TILED[TILED.index(phase) :])
    assert bytes_of(copy) == bytes_of(tiled)
    assert list(verify.problems(copy)) == []


@pytest.mark.promise("Several workers, in any order, compute kernels, factors and curves of the same bits.")
def test_workers_in_any_order_compute_the_same_bits(tiled: Run, copy: Run) -> None:
    without(copy, *TILED)
    for array in (array for phase in TILED for array in copy.layout.arrays(phase)):
        for chunk in arrays.folder(copy.store, array.name).glob("c*"):
            if chunk.name != "zarr.json":
                chunk.unlink()
    order = random.Random(2)
    for phase in TILED:
        while copy.missing(phase):
            workers = []
            for _ in range(3):
                shards = names(copy, phase)
                order.shuffle(shards)
                command = [sys.executable, "-c", RUN_SHARDS, str(copy.path), *shards]
                workers.append(subprocess.Popen(command, env=worker_settings(copy), stdout=subprocess.DEVNULL))
            assert [worker.wait() for worker in workers] == [0] * 3
    assert bytes_of(copy) == bytes_of(tiled)


def test_a_column_is_left_until_the_one_before_it_is_there(copy: Run) -> None:
    without(copy, "factor")
    first, second, *_ = names(copy, "factor")
    left = run_shards(copy, [second])
    assert left.returncode == 0
    assert f"{second}: left, as {first} comes before it" in left.stdout
    assert len(copy.missing("factor")) == len(names(copy, "factor"))


def flip(path: Path, at: int, *, sealed: bool) -> None:
    """One bit of a chunk's values; `sealed` makes its checksum that of the new values."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    if sealed:
        import google_crc32c

        content[-4:] = google_crc32c.value(bytes(content[:-4])).to_bytes(4, "little")
    path.write_bytes(bytes(content))


@pytest.mark.promise("A bit that was flipped in a tile is found before the tile is used, and make verify names it.")
@pytest.mark.parametrize("sealed", [False, True], ids=["damaged", "exchanged"])
@pytest.mark.parametrize(
    ("name", "reader"), [("kernel_ntk", "factor"), ("kernel_nngp", "curve"), ("kernel_factor", "curve")]
)
def test_a_flipped_bit_is_found_before_a_tile_is_used(name: str, reader: str, sealed: bool, copy: Run) -> None:
    without(copy, *TILED[TILED.index(reader) :])
    for room in (arrays.folder(copy.store, array.name) for array in copy.layout.arrays(reader)):
        for chunk in room.glob("c.*"):
            chunk.unlink()
    chunk = arrays.folder(copy.store, name) / "c.0.1.0.0"
    flip(chunk, 100, sealed=sealed)
    refused = run_shards(copy, [names(copy, reader)[len(names(copy, reader)) // 2 - 1 if reader == "curve" else 0]])
    assert refused.returncode != 0
    assert str(chunk) in refused.stderr
    found = [problem for problem in verify.problems(copy) if problem.shard and problem.shard.phase in TILED]
    assert found
    writer = "factor" if name == "kernel_factor" else "kernel"
    assert {problem.shard.phase for problem in found if problem.shard} == {writer}
    assert not list((arrays.folder(copy.store, copy.layout.arrays(reader)[0].name)).glob("c.0.*"))


def test_what_a_damaged_tile_was_made_into_is_set_aside_and_computed_again(tiled: Run, copy: Run) -> None:
    flip(arrays.folder(copy.store, "kernel_factor") / "c.0.1.0.0", 100, sealed=True)
    assert ntkhpc("verify", f"--run={copy.path}", "--set-aside").returncode == 1
    assert {shard.phase for shard in copy.missing("factor") + copy.missing("curve")} == {"factor", "curve"}
    assert not copy.missing("kernel")
    compute(copy, "factor", "curve")
    assert bytes_of(copy) == bytes_of(tiled)


@pytest.mark.promise(
    "make clean-kernels frees kernel.zarr once the curve is there; what needs it again computes it again."
)
def test_kernels_are_freed_and_computed_again_where_they_are_wanted(tiled: Run, copy: Run) -> None:
    compute(copy, "ensemble", "law", "finalise")
    receipt = copy.receipt(copy.plan.of_phase("curve")[1])
    kept = receipt.read_bytes()
    receipt.unlink()
    refused = ntkhpc("clean-kernels", f"--run={copy.path}")
    assert refused.returncode != 0
    assert "1 shards of phase curve are missing" in refused.stderr
    receipt.write_bytes(kept)
    freed = ntkhpc("clean-kernels", f"--run={copy.path}")
    assert "MiB freed" in freed.stdout, freed.stderr
    assert not list((copy.path / arrays.SCRATCH).glob("*/c.*"))
    assert list(verify.problems(copy)) == []
    assert "freed before" in ntkhpc("clean-kernels", f"--run={copy.path}").stdout
    receipt.unlink()
    assert ntkhpc("resume", f"--run={copy.path}", "--cores=2").returncode == 0
    assert bytes_of(copy) == bytes_of(tiled)
    assert list(verify.problems(copy)) == []


@pytest.mark.promise("Two resumes at once after make clean-kernels compute kernels again, to the same bits.")
def test_two_resumes_at_once_after_kernels_were_freed(tiled: Run, copy: Run) -> None:
    compute(copy, "ensemble", "law", "finalise")
    assert ntkhpc("clean-kernels", f"--run={copy.path}").returncode == 0
    for shard in copy.plan.of_phase("curve")[1:]:
        copy.receipt(shard).unlink()
    command = [sys.executable, "-m", "ntkhpc", "resume", f"--run={copy.path}", "--cores=1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300)[0] for one in both]
    assert 0 in [one.returncode for one in both], said
    assert ntkhpc("resume", f"--run={copy.path}", "--cores=2").returncode == 0, said
    assert bytes_of(copy) == bytes_of(tiled)
    assert list(verify.problems(copy)) == []


_THREADS = """
import os
from ntkhpc import tiled
from ntkhpc.studies.ensemble import factor
os.sched_getaffinity = lambda _: set(range(16))
object.__setattr__(factor.PHASE, "wide", lambda study: 8)
column = tiled.factor_column
tiled.factor_column = lambda *given, **more: print("threads", more["threads"]) or column(*given, **more)
"""


@pytest.mark.parametrize(("cores", "threads"), [("3", 3), ("12", 8), ("", 8)])
def test_a_wide_phase_has_the_cores_of_its_worker_and_the_same_bits(
    cores: str, threads: int, tiled: Run, copy: Run
) -> None:
    """No more than it is work for: here eight, of a machine of sixteen."""
    without(copy, "factor")
    for chunk in arrays.folder(copy.store, "kernel_factor").glob("c.*"):
        chunk.unlink()
    surroundings = {worker.CORES: cores, "SLURM_CPUS_PER_TASK": ""}
    done = run_shards(copy, names(copy, "factor"), first=_THREADS, environment=surroundings)
    assert done.stdout.count(f"threads {threads}\n") == len(names(copy, "factor")), done.stdout + done.stderr
    assert bytes_of(copy) == bytes_of(tiled)


def test_kernels_that_were_freed_in_part_are_no_damage(tiled: Run, copy: Run) -> None:
    """Whoever freed them was killed: chunks are left."""
    assert ntkhpc("clean-kernels", f"--run={copy.path}").returncode == 0
    for left in ("kernel_ntk/c.0.2.0.0", "kernel_nngp/c.0.1.0.0"):
        shutil.copy(tiled.path / arrays.SCRATCH / left, copy.path / arrays.SCRATCH / left)
    assert list(verify.problems(copy)) == []
    assert "MiB freed" in ntkhpc("clean-kernels", f"--run={copy.path}").stdout
    assert not list((copy.path / arrays.SCRATCH).glob("*/c.*"))


@pytest.mark.promise("A column of a factor is computed only where all columns before it are there.")
def test_a_hole_in_a_factor_is_never_read(tiled: Run, copy: Run) -> None:
    first, second, third, *_ = names(copy, "factor")
    for shard in copy.plan.of_phase("factor"):
        if shard.id in (first, third):
            copy.receipt(shard).unlink()
    left = run_shards(copy, [third])
    assert f"{third}: left, as {first} comes before it" in left.stdout
    refused = run_shards(without(copy, "curve"), names(copy, "curve")[-1:])
    assert "needs phase factor complete" in refused.stderr
    assert [one.id for one in plan.chains(copy.layout, copy.missing("factor"))[0]] == [first, third]
    compute(copy, "factor", "curve")
    assert bytes_of(copy) == bytes_of(tiled)
    flip(arrays.folder(copy.store, "kernel_ntk") / "c.0.5.0.0", 100, sealed=True)  # of the second column
    assert ntkhpc("verify", f"--run={copy.path}", "--set-aside").returncode == 1
    assert [shard.id for shard in copy.missing("factor")] == [second, third]
    assert len(copy.missing("kernel")) == 1


def test_tiles_without_the_metadata_of_their_room_are_refused(copy: Run) -> None:
    without(copy, *TILED)
    (copy.path / arrays.SCRATCH / "zarr.json").unlink()
    refused = run_shards(copy, names(copy, "kernel")[:1])
    assert "kernel.zarr/zarr.json" in refused.stderr
    assert len(copy.missing("kernel")) == len(names(copy, "kernel"))


def test_a_run_without_kernels_says_so(finished: Run) -> None:
    refused = ntkhpc("clean-kernels", f"--run={finished.path}")
    assert refused.returncode != 0
    assert "no kernels" in refused.stderr


def test_receipts_name_every_tile(tiled: Run) -> None:
    shard = tiled.plan.of_phase("factor")[1]
    receipt = files.read_sealed(tiled.receipt(shard))
    first, end = shard.region["kernel_tile"]
    values = store.load(tiled.store, "kernel_factor")["kernel_factor"]
    draw = shard.region["curve_draw"][0]
    assert receipt["chunks"] == {
        "kernel_factor": [digest(values[draw : draw + 1, t : t + 1]) for t in range(first, end)]
    }


@pytest.mark.parametrize("tile", [16, 17, 19, 38])
def test_shards_cover_every_tile_exactly_once(tile: int) -> None:
    assert_every_array_is_covered_once(studies.loads(text(tile=tile)))


def test_the_projection_of_bytes_and_files_of_kernels_is_exact(tiled: Run) -> None:
    room = tiled.path / arrays.SCRATCH
    chunks = list(room.glob("*/c.*"))
    metadata = list(room.rglob("zarr.json"))
    assert plan.scratch(tiled.layout) == (len(chunks) + len(metadata), sum(path.stat().st_size for path in chunks))


@pytest.mark.promise("A curve by a factor in float32 has the numbers of one in float64 to 1e-8, in half of its bytes.")
def test_a_curve_by_a_factor_in_float32_is_that_in_float64(tiled: Run, runs: Path) -> None:
    """eps_L and its like are differences, which have less digits than the law's 1e-9."""
    wanted = studies.loads(text().replace("tile = 16", 'tile = 16\nfactor_precision = "float32"'))
    single = compute(run.create(runs, wanted), "data", *TILED)
    factor, double = (store.load(one.store, "kernel_factor")["kernel_factor"] for one in (single, tiled))
    assert (factor.dtype, factor.nbytes) == (np.float32, double.nbytes / 2)
    for array in tiled.layout.arrays("curve"):
        found, expected = (store.load(one.store, array.name)[array.name] for one in (single, tiled))
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max(), err_msg=array.name)
    assert list(verify.problems(single)) == []
    sweeps, conditions = (store.load(single.store, name)[name] for name in ("curve_sweeps", "curve_condition"))
    split = {name: store.load(single.store, name)[name] for name in ("x_train", "permutation")}
    for draw, order in enumerate(split["permutation"][:2]):
        ntk = kernels.nngp_ntk(MLP(1, "relu"), split["x_train"][order[:38]])[1]
        exact = [np.linalg.cond(ntk[:n, :n]) for n in (10, 16, 30, 38)]
        assert ((conditions[draw] / exact > 0.1) & (conditions[draw] / exact < 2)).all()  # of few test points
    assert ((sweeps >= 1) & (sweeps <= 5)).all()
    told = " ".join(_refined(collect(single, partial=True)))
    said = re.search(r"took ([\d to]+) sweeps .* estimated at (\S+) to (\S+),", told)
    assert said
    assert said[1].split(" to ") == sorted({str(sweeps.min()), str(sweeps.max())})
    assert [float(said[2]), float(said[3])] == pytest.approx([conditions.min(), conditions.max()], rel=0.06)
    assert "refined" in " ".join(wanted.methods())
    assert "refined" not in " ".join(tiled.layout.study.methods())


def test_a_factor_in_float32_is_projected_with_half_of_its_bytes() -> None:
    layouts = [studies.layout(studies.loads(text().replace("tile = 16", f"tile = 16\n{line}")))
               for line in ("", 'factor_precision = "float32"')]  # fmt: skip
    (chunks, double), (same, single) = (plan.scratch(layout) for layout in layouts)
    tiles = 2 * (3 + 2 + 1 + 3)
    assert (same, double - single) == (chunks, tiles * 4 * 16**2)


def test_kernels_are_projected_beside_the_store() -> None:
    wanted = studies.loads(text())
    layout = studies.layout(wanted)
    tiles = 2 * (3 + 2 + 1 + 3)
    assert plan.scratch(layout) == (3 * tiles + 4, 3 * tiles * (8 * 16**2 + 4))
    assert plan.scratch(studies.layout(studies.loads(text(tile=4096)))) == (0, 0)


def test_steps_at_more_points_than_can_be_decomposed_are_refused_with_their_cost() -> None:
    wanted = text(n_train="[30, 30000]").replace("pool = 40", "pool = 40000")
    with pytest.raises(StudyError, match=r"eigendecomposition.*34 GiB and 8 h"):
        studies.loads(wanted)
    studies.loads(wanted.replace('times = ["steps", "infinite"]', 'times = ["infinite"]'))
