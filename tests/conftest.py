"""Fixtures of all tests: runs that are made once and only read, folders, servers."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from support.runs import SHARED_DATA, made_once, make_compared, make_finished, make_posterior

from ntkhpc.engine.run import Run

if TYPE_CHECKING:
    from support.mirrors import Server

    from analysis.posterior.results import PosteriorResults


# The same examples each time, however long one takes on a busy machine.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterable[None]:
    """Workers share compiled programs: most of a tiny shard's time is the compiler's. They run on this machine."""
    names = {
        "NTKHPC_PROFILE": "local",  # also where this machine happens to have a SLURM
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp().parent / "jax-cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp().parent / "cache"),
    }
    os.environ.update(names)
    yield
    for name in names:
        del os.environ[name]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the tiny study that nothing ever interrupted. Tests only read it."""
    return made_once(tmp_path_factory, "finished", make_finished)


@pytest.fixture(scope="session")
def compared_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A comparison of three variants, all of whose shards were run; without a report. Tests only read it."""
    return made_once(tmp_path_factory, "compared", make_compared)


@pytest.fixture(scope="session")
def posterior(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A Bayesian run with chains of known answers, and its report. Tests only read it."""
    return made_once(tmp_path_factory, "posterior", make_posterior)


@pytest.fixture(scope="session")
def posterior_results(posterior: Run) -> "PosteriorResults":
    from analysis.posterior import results

    return results.collect(posterior)


@pytest.fixture
def posterior_copy(posterior: Run, tmp_path: Path) -> Run:
    """A copy that a test may spoil."""
    return Run(shutil.copytree(posterior.path, tmp_path / "copy"))


@pytest.fixture
def shared_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real data, as NTKHPC_DATA. Where it is there, nothing that needs it is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data in {SHARED_DATA}")
    monkeypatch.setenv("NTKHPC_DATA", str(SHARED_DATA))
    return SHARED_DATA


@pytest.fixture
def server() -> Iterator["Server"]:
    from support.mirrors import serving

    with serving() as found:
        yield found


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory, empty, of a user without a proxy and with little patience."""
    from ntkhpc.data import transfer

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NTKHPC_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(transfer, "CONNECT_SECONDS", 5.0)
    monkeypatch.setattr(transfer, "STALL_SECONDS", 5.0)
    return tmp_path / "data"
