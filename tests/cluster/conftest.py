"""Tests that need SLURM, Apptainer and an image; tests/cluster/run.sh brings them up."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.lab import IMAGE, Lab, copy_checkout

if not (os.environ.get("SLURM_CONF") and IMAGE and shutil.which("sbatch") and shutil.which("apptainer")):
    pytest.skip("no cluster here: make test-cluster brings one up", allow_module_level=True)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A user with a profile `test` and the checkout as it is."""
    made = Lab(tmp_path)
    made.profile()
    return made


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[], Lab]:
    """A user with a checkout of his own, to edit."""

    def make() -> Lab:
        made = Lab(tmp_path, copy_checkout(tmp_path / "checkout"))
        made.profile()
        return made

    return make


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    """A folder that Apptainer binds neither by itself nor as part of a home or a checkout."""
    with tempfile.TemporaryDirectory(dir="/srv") as folder:
        yield Path(folder)
