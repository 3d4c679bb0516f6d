"""What the image is made from; the image itself is checked by `make image-test`."""

import os
import runpy
import subprocess
from pathlib import Path

import pytest
from support.runs import ROOT

WHEELS = runpy.run_path(str(ROOT / "containers" / "wheels.py"))
LOCK = (ROOT / "requirements.lock").read_text()


def entries(lock: str) -> set[str]:
    """Each requirement with its marker and hashes as one line."""
    return set(lock.replace("\\\n", "").splitlines())


@pytest.mark.promise("The image for CUDA has every version and hash of the lock, and CUDA's packages besides.")
def test_the_cuda_lock_has_every_version_and_hash_of_the_lock() -> None:
    cuda = (ROOT / "containers" / "requirements-cuda12.lock").read_text()
    assert entries(LOCK) <= entries(cuda), "make lock writes both"
    added = sorted(line.split("==")[0] for line in entries(cuda) - entries(LOCK))
    assert all(name.startswith(("jax-cuda12-", "nvidia-")) for name in added), added


def test_markers_are_evaluated_for_the_image_and_not_for_this_python() -> None:
    lock = """\
always==1 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
forked==1 ; python_full_version < '3.12' \\
    --hash=sha256:cc
forked==2 ; python_full_version >= '3.12' \\
    --hash=sha256:dd
windows==1 ; sys_platform == 'win32' \\
    --hash=sha256:ee
"""
    kept = [line.split() for line in WHEELS["wanted"](lock).splitlines()]
    assert kept == [["always==1", "--hash=sha256:aa", "--hash=sha256:bb"], ["forked==1", "--hash=sha256:cc"]]


@pytest.mark.promise("No lock file names a package index.")
def test_nothing_in_a_lock_names_an_index() -> None:
    locks = [ROOT / "requirements.lock", *(ROOT / "containers").glob("*.lock")]
    assert not [path for path in locks if "://" in path.read_text()]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "apptainer is not on PATH"),
        ({"GPU": "cuda12"}, "apptainer is not on PATH"),
        ({"GPU": "cuda11; touch owned"}, "Allowed are cuda12, cuda13"),
    ],
)
def test_an_image_that_cannot_be_built_says_why(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    checkout = tmp_path / "it's a checkout"
    (checkout / "containers").mkdir(parents=True)
    for name in ("requirements.lock", "containers/image.sh", "containers/requirements-cuda12.lock"):
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    tools = tmp_path / "tools"  # a PATH that has what the script needs up to there, and no apptainer
    tools.mkdir()
    for name in ("sh", "dirname", "sha256sum", "cut"):
        (tools / name).symlink_to(next(p for d in os.get_exec_path() if (p := Path(d, name)).exists()).resolve())
    done = subprocess.run(
        [tools / "sh", checkout / "containers" / "image.sh"],
        env={"PATH": str(tools), **settings}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert not list(tmp_path.rglob("owned*")) + list(checkout.rglob("*.sif"))
