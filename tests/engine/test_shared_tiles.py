"""Tiles of kernels and factors that a run takes from one beside it: the same bits, and never a false one."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from support.runs import made_once, ntkhpc, run_shards, tiny_text

from ntkhpc import files, studies
from ntkhpc.engine import arrays, receipts, run, siblings, verify
from ntkhpc.engine.run import Run
from ntkhpc.launch import container

PHASES = ("data", "kernel", "factor", "curve")
SMALL, LARGE = "[10, 16, 40]", "[10, 16, 40, 70]"
DRAWS, SAME = 2, 5
"""Tiles of 16 rows: of 3 blocks of training rows two are whole, and with that of the test points have 5 tiles; of the
larger curve's 5 blocks and one there are 20."""


def text(n_train: str, *, tile: int = 16, draws: int = DRAWS) -> str:
    section = (
        f'[infinite_width]\nn_train = {n_train}\ntimes = ["infinite"]\ntile = {tile}\ndraws = {draws}\n'
        'factor_precision = "float64"\n'
    )
    return tiny_text(redraws=0).replace("[infinite_width]\n", section).replace("pool = 40", "pool = 80")


OTHER = text("[7, 33, 40]", draws=1).replace("widths = [4]", "widths = [4, 8]")
"""All tiles of whose draw are those of the smaller curve."""


def make(runs: Path, of: str) -> Run:
    return run.create(runs, studies.loads(of))


def shards(target: Run, *phases: str) -> list[str]:
    return [shard.id for phase in phases or PHASES for shard in target.plan.of_phase(phase)]


COUNT = """
from ntkhpc import tiled
tile, column = tiled.filled_tile, tiled.factor_column
def count(what):
    with open({log!r}, "a") as file:
        print(what, file=file)
def filled_tile(*given, **named):
    count("kernel")
    return tile(*given, **named)
def factor_column(*given, **named):
    for one in column(*given, **named):
        count("factor")
        yield one
tiled.filled_tile, tiled.factor_column = filled_tile, factor_column
"""


def compute(target: Run, *phases: str, log: Path | None = None) -> Run:
    missing = [shard.id for phase in phases or PHASES for shard in target.missing(phase)]
    done = run_shards(target, missing, first=COUNT.format(log=str(log)) if log else "")
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def tiles_of(target: Run) -> dict[str, bytes]:
    """Every file of kernel.zarr and of the curve."""
    written = [array.name for phase in PHASES[1:] for array in target.layout.arrays(phase)]
    folders = [arrays.folder(target.store, name) for name in written]
    return {f"{folder.name}/{path.name}": path.read_bytes() for folder in folders for path in folder.iterdir()}


def taken(target: Run, phase: str) -> list[str]:
    """The runs that tiles of a phase were taken from."""
    found = [receipts.read(target, shard) for shard in target.plan.of_phase(phase)]
    return [name for one in found if one for names in one.taken.values() for name in names if name]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_once(tmp_path_factory, "small", lambda folder: compute(make(folder, text(SMALL))))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The larger curve, from nothing."""
    return made_once(tmp_path_factory, "large", lambda folder: compute(make(folder, text(LARGE))))


@pytest.fixture
def beside(small: Run, runs: Path) -> Run:
    """A copy of the smaller run, alone in a folder."""
    return Run(shutil.copytree(small.path, runs / small.path.name))


def reseal(path: Path, **fields: object) -> None:
    path.write_bytes(files.seal({**files.read_sealed(path), **fields}))


@pytest.mark.promise(
    "A curve that is extended to larger sizes has the bits of one from nothing; whole blocks are not computed again."
)
def test_an_extended_curve_has_the_bits_of_one_from_nothing(
    beside: Run, large: Run, runs: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    extended = compute(make(runs, text(LARGE)), log=log)
    counted = log.read_text().split()
    assert [counted.count(phase) for phase in ("kernel", "factor")] == [DRAWS * (20 - SAME)] * 2
    assert tiles_of(extended) == tiles_of(large)
    assert taken(extended, "kernel") == [beside.path.name] * (2 * DRAWS * SAME)
    assert taken(extended, "factor") == [beside.path.name] * (DRAWS * SAME)
    assert taken(large, "kernel") == taken(large, "factor") == []
    assert list(verify.problems(extended)) == []
    assert ntkhpc("clean-kernels", f"--run={beside.path}").returncode == 0
    assert list(verify.problems(extended)) == []
    assert tiles_of(extended) == tiles_of(large)


def test_other_sizes_with_the_same_last_block_compute_no_tile(beside: Run, runs: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    other = compute(make(runs, OTHER), log=log)
    assert log.read_text() == ""
    chunks = [*(other.path / arrays.SCRATCH).rglob("c.*")]
    assert len(chunks) == 3 * 9
    for path in chunks:
        assert (beside.path / path.relative_to(other.path)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changed", "phases"),
    [
        (("[network]\n", "[network]\ndepth = 2\n"), ()),
        (("[data]\n", "[data]\nseed = 2\n"), ()),
        (("tile = 16", "tile = 17"), ()),
        (("\ntile = 2\n", "\ntile = 3\n"), ()),  # of the ensemble: another fingerprint
        (('"float64"', '"float32"'), ("kernel",)),
        (('"float64"', '"float64"\nridge = 0.1'), ("kernel",)),
    ],
    ids=["network", "data", "tile", "fingerprint", "precision", "ridge"],
)
def test_tiles_of_another_function_are_not_taken(
    changed: tuple[str, str], phases: tuple[str, ...], beside: Run, runs: Path
) -> None:
    assert changed[0] in OTHER
    other = compute(make(runs, OTHER.replace(*changed)), "data", "kernel", "factor")
    assert tuple(phase for phase in ("kernel", "factor") if taken(other, phase)) == phases


def test_a_tile_is_taken_for_what_it_was_made_from_and_not_for_its_place(beside: Run, runs: Path) -> None:
    one, two = (beside.receipt(shard) for shard in beside.plan.of_phase("kernel")[:2])
    keys = [files.read_sealed(path)["keys"] for path in (one, two)]
    assert keys[0] != keys[1]
    reseal(one, keys=keys[1])
    reseal(two, keys=keys[0])
    other = compute(make(runs, OTHER))
    assert len(taken(other, "kernel")) == 2 * (9 - 2)
    for path in (other.path / arrays.SCRATCH).rglob("c.*"):
        assert (beside.path / path.relative_to(other.path)).read_bytes() == path.read_bytes()


def flip(path: Path) -> None:
    """One bit of a chunk's values, with the checksum of the new values."""
    import google_crc32c

    content = bytearray(path.read_bytes())
    content[100] ^= 1
    content[-4:] = google_crc32c.value(bytes(content[:-4])).to_bytes(4, "little")
    path.write_bytes(bytes(content))


@pytest.mark.promise("A tile of another run is compared with its receipt before it is taken.")
def test_a_damaged_tile_is_not_taken(small: Run, beside: Run, runs: Path) -> None:
    for name in ("kernel_ntk", "kernel_nngp", "kernel_factor"):
        flip(arrays.folder(beside.store, name) / "c.0.1.0.0")
    arrays.folder(beside.store, "kernel_ntk").joinpath("c.0.2.0.0").unlink()
    other = make(runs, OTHER)
    done = run_shards(other, shards(other))
    assert done.returncode == 0, done.stderr
    assert f"of {beside.path.name} is not used: the values" in done.stdout
    assert f"of {beside.path.name} is not used: a chunk of a finished shard is missing" in done.stdout
    for path in (other.path / arrays.SCRATCH).rglob("c.*"):
        assert (small.path / path.relative_to(other.path)).read_bytes() == path.read_bytes()
    assert (len(taken(other, "kernel")), len(taken(other, "factor"))) == (2 * 9 - 3, 9 - 1)


@pytest.mark.parametrize("phase", ["kernel", "factor"])
def test_kills_while_tiles_are_taken_change_no_bit(phase: str, beside: Run, large: Run, runs: Path) -> None:
    """Of a shard that takes all, of one that takes some, and of one that was written by half."""
    extended = compute(make(runs, text(LARGE)), *PHASES[: PHASES.index(phase)])
    for failpoint in ("shard-computed:1", "chunk-written:2"):
        killed = run_shards(extended, [one.id for one in extended.missing(phase)], failpoint=failpoint)
        assert killed.returncode == -signal.SIGKILL
    compute(extended)
    assert tiles_of(extended) == tiles_of(large)
    assert list(verify.problems(extended)) == []


def without_keys(beside: Run) -> None:
    for path in beside.path.glob("receipts/*/*.json"):
        record = files.read_sealed(path)
        path.write_bytes(files.seal({name: one for name, one in record.items() if name not in ("keys", "taken")}))


def freed(beside: Run) -> None:
    assert ntkhpc("clean-kernels", f"--run={beside.path}").returncode == 0


def half_freed(beside: Run) -> None:
    freed(beside)
    (beside.path / "kernels-freed.json").unlink()


def too_new(beside: Run) -> None:
    reseal(beside.path / "manifest.json", format=99)


def torn_study(beside: Run) -> None:
    (beside.path / "study.toml").write_text("[data")


def torn_receipts(beside: Run) -> None:
    for path in beside.path.glob("receipts/kernel/*.json"):
        path.write_bytes(path.read_bytes()[:-20])
    for path in beside.path.glob("receipts/factor/*.json"):
        path.unlink()
        path.mkdir()


def no_metadata(beside: Run) -> None:
    for name in ("kernel_ntk", "kernel_factor", "kernel_nngp"):
        (arrays.folder(beside.store, name) / "zarr.json").write_text("{")


def conflicting(beside: Run) -> None:
    (beside.path / "conflicts").mkdir()
    for shard in shards(beside):
        (beside.path / "conflicts" / f"{shard}-0.json").write_text("{}")


SPOILS = (without_keys, freed, half_freed, too_new, torn_study, torn_receipts, no_metadata, conflicting)


@pytest.mark.promise("Another run that is damaged, freed, of another version or without keys fails no run beside it.")
def test_a_run_that_has_nothing_to_give_fails_none(small: Run, runs: Path) -> None:
    for spoil in SPOILS:
        spoil(Run(shutil.copytree(small.path, runs / spoil.__name__)))
    (runs / "gone").symlink_to(runs / "nowhere")
    (runs / "note.txt").write_text("no run")
    other = compute(make(runs, OTHER), "data", "kernel", "factor")
    assert taken(other, "kernel") == taken(other, "factor") == []
    assert list(verify.problems(Run(runs / without_keys.__name__))) == []
    shutil.rmtree(other.path)
    sound = shutil.copytree(
        small.path, runs / "sound"
    )  # a copy that nothing spoiled gives every tile, beside these too
    again = compute(make(runs, OTHER), "data", "kernel", "factor")
    assert set(taken(again, "kernel")) == set(taken(again, "factor")) == {sound.name}


def test_plan_says_what_is_known_and_what_is_left(beside: Run, runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "larger.toml"
    path.write_text(text(LARGE))
    before = sorted(runs.rglob("*"))
    said = ntkhpc("plan", f"--task={path}", f"--runs={runs}", COLUMNS="400")
    assert said.returncode == 0, said.stderr
    known = f"{DRAWS * SAME} of {DRAWS * 20} tiles are those of {beside.path}"
    assert f"kernel: {known}" in said.stdout
    assert f"factor: {known}" in said.stdout
    assert sorted(runs.rglob("*")) == before
    without_keys(beside)
    assert "tiles are those of" not in ntkhpc("plan", f"--task={path}", f"--runs={runs}", COLUMNS="400").stdout


def test_jobs_of_a_container_see_the_runs_that_have_something_to_give(beside: Run, runs: Path) -> None:
    extended = make(runs, text(LARGE))
    assert container.place_of_jobs(extended).beside == (beside.path,)
    assert container.place_of_jobs(make(runs, text(LARGE).replace("[data]\n", "[data]\nseed = 2\n"))).beside == ()


def test_a_column_costs_less_the_more_of_it_is_known() -> None:
    """Of whole tiles: one of 15 test points is read, of its whole size, as slowly as it is made."""
    whole = text("[10, 61440]", tile=4096).replace("pool = 80", "pool = 61440").replace("test = 15", "test = 8192")
    study = studies.loads(whole)
    layout = studies.layout(study)
    phase = layout.phases["factor"]
    assert phase.shared is not None
    for block in layout.blocks(phase):
        chunks = len(phase.shared.names(study, block))
        costs = [
            phase.shared.seconds(study, block, [number < known for number in range(chunks)])
            for known in range(chunks + 1)
        ]
        assert costs[0] == phase.seconds(study, block)
        assert costs == sorted(costs, reverse=True)


def test_names_tell_every_chunk_from_all_others(small: Run, large: Run) -> None:
    for target in (small, large):
        for name in ("kernel", "factor"):
            phase = target.layout.phases[name]
            assert phase.shared is not None
            names = [one for block in target.layout.blocks(phase) for one in phase.shared.names(target.study, block)]
            assert len(set(names)) == len(names)


def test_the_newest_runs_are_looked_at_and_no_more(beside: Run, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Run(shutil.copytree(beside.path, runs / "older"))
    os.utime(other.path / "receipts" / "kernel", (1, 1))
    phase, code = beside.layout.phases["kernel"], beside.manifest.code
    found = siblings.offers(runs, None, beside.study, phase, code)
    assert [place.run.path.name for place in next(iter(found.values()))] == [beside.path.name, "older"]
    monkeypatch.setattr(siblings, "MOST", 1)
    found = siblings.offers(runs, None, beside.study, phase, code)
    assert {place.run.path.name for places in found.values() for place in places} == {beside.path.name}
    assert siblings.offers(runs, beside.path, beside.study, phase, code) != {}
    assert siblings.offers(runs, None, beside.study, phase, "of other code") == {}
    assert siblings.offers(runs / "nowhere", None, beside.study, phase, code) == {}
