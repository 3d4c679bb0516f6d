"""Compiled programs in a folder: the same bits cold and warm, and never in the way."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.runs import ROOT, all_shards, make_run, run_shards, store_bytes

from ntkhpc import program_cache
from ntkhpc.engine.run import Run
from ntkhpc.program_cache import ProgramCache

TRAIN = """
import sys
import jax, numpy as np
from jax import monitoring
from ntkhpc import program_cache, training
from ntkhpc.networks import MLP
hits = []
monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
program_cache.SHORTEST_SECONDS = 0.0  # whatever else this machine does meanwhile
used = program_cache.use("here")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 1))
program = training.Program(MLP(1, "relu"), 16, (0, 9, 60), watched=True)
found = training.train_tile(program, x, y, x, y, learning_rate=0.3, seed=0, members=range(4))
print(used is not None, len(hits), found.predictions.tobytes().hex(), found.last_rise.tobytes().hex())
"""


def train(folder: str | Path) -> tuple[bool, int, str]:
    """Whether a cache was used, how many programs came from it, and the bits; in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRAIN],
        env={**environment, "PYTHONPATH": str(ROOT), "NPROC": "1", program_cache.SETTING: str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    used, hits, *bits = done.stdout.split()
    return used == "True", int(hits), " ".join(bits)


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "programs").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that one process filled, and the bits that it computed."""
    folder = tmp_path_factory.mktemp("cold")
    used, hits, bits = train(folder)
    assert used
    assert hits == 0
    assert entries(folder)
    return folder, bits


@pytest.mark.promise("Networks trained by a program from the cache have the bits of those of a program compiled anew.")
def test_bits_are_the_same_cold_and_warm(cold: tuple[Path, str]) -> None:
    used, hits, bits = train(cold[0])
    assert used
    assert hits >= 2  # initial weights, and training
    assert bits == cold[1]


@pytest.mark.promise("A damaged entry of the cache of programs is compiled again, and replaced.")
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_entry_is_compiled_again(damage: str, cold: tuple[Path, str], tmp_path: Path) -> None:
    cache = ProgramCache(tmp_path / "programs" / "here")
    cache.folder.mkdir(parents=True)
    for path in entries(cold[0]):
        (cache.folder / path.name).write_bytes(path.read_bytes())
    for path in entries(tmp_path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-7]), "empty": b""}[damage])
    used, hits, bits = train(tmp_path)
    assert used
    assert hits == 0
    assert bits == cold[1]
    assert [path.name for path in entries(tmp_path)] == [path.name for path in entries(cold[0])]
    assert train(tmp_path)[1] >= 2


@pytest.mark.promise("Without a place for compiled programs, or with NTKHPC_CACHE=off, they are compiled as ever.")
def test_without_a_place_nothing_is_kept(cold: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("off", tmp_path / "file"):
        assert train(place) == (False, 0, cold[1])


@pytest.mark.parametrize("place", ["off", "relative", "/dev/null", "/dev/null/below", "/proc/nowhere"])
def test_a_place_that_is_none_is_not_used(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(program_cache.SETTING, place)
    assert program_cache.opened("here") is None


def test_a_user_without_a_home_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (program_cache.SETTING, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert program_cache.opened("here") is None


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(program_cache.SETTING, str(tmp_path))
    cache = program_cache.opened("here")
    assert cache is not None
    for folder in (cache.folder, cache.folder.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o770)
        assert program_cache.opened("here") is None
        folder.chmod(0o700)
    assert program_cache.opened("here") == cache


@pytest.mark.parametrize(("mode", "used"), [(0o755, True), (0o757, False), (0o1777, True)])
def test_what_is_above_the_folder_must_not_be_open_to_others_either(
    mode: int, used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever can write there can put a folder of their own in its place; not in one like /tmp."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(mode)
    monkeypatch.setenv(program_cache.SETTING, str(above / "cache"))
    assert (program_cache.opened("here") is not None) == used
    assert ("others can write to" in capsys.readouterr().err) != used


def test_two_processes_may_fill_one_folder(cold: tuple[Path, str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as both:
        found = list(both.map(train, [tmp_path, tmp_path]))
    assert [bits for _, _, bits in found] == [cold[1]] * 2
    assert len(entries(tmp_path)) == len(entries(cold[0]))
    assert train(tmp_path)[1] >= 2


def test_the_least_recently_used_entries_go(tmp_path: Path) -> None:
    """Across the folders of all machines; an entry that is used stays."""
    old, cache = ProgramCache(tmp_path / "old", 1000), ProgramCache(tmp_path / "new", 1000)
    for place in (old, cache):
        place.folder.mkdir()
    old.put("a", b"a" * 300)
    for number, name in enumerate("bc"):
        cache.put(name, name.encode() * 300)
        os.utime(cache._path(name), (number + 10, number + 10))
    os.utime(old._path("a"), (5, 5))
    assert old.get("a") == b"a" * 300  # used just now
    cache.put("d", b"d" * 300)
    assert cache.get("b") is None
    assert cache.get("c") is None
    assert old.get("a") is not None
    assert cache.get("d") == b"d" * 300
    cache.put("larger than all", b"e" * 2000)
    assert cache.get("larger than all") is None
    assert cache.get("d") is not None


def test_room_is_looked_for_at_first_and_after_much_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(ProgramCache, "_make_room", lambda _: looks.append(len(list(tmp_path.iterdir()))))
    cache = ProgramCache(tmp_path, 1600)
    for number in range(8):
        cache.put(str(number), b"a" * 40)
    assert looks == [1, 4, 7]


def test_a_full_disk_or_a_folder_that_went_away_is_no_error(tmp_path: Path) -> None:
    cache = ProgramCache(tmp_path / "gone")
    cache.put("a", b"b")
    assert cache.get("a") is None


@pytest.mark.promise("A run has the same stored bytes whether its programs were compiled, loaded, or not kept at all.")
def test_runs_have_the_same_bytes_with_and_without_the_cache(runs: Path, finished: Run) -> None:
    """That of the fixture was made with the cache of all tests, which it filled."""
    for number, settings in enumerate(({program_cache.SETTING: "off"}, {})):
        target = make_run(runs / str(number))
        done = run_shards(target, all_shards(target), environment=settings)
        assert done.returncode == 0, done.stderr
        assert store_bytes(target) == store_bytes(finished)
    machines = {path.parent.name for path in entries(Path(os.environ["XDG_CACHE_HOME"], "ntkhpc"))}
    assert machines
    assert all(re.fullmatch(r"jax-[\d.]+-[0-9a-f]{16}", name) for name in machines)
