"""Download the wheels that the image installs: those of a lock for Python 3.11 on Linux with glibc 2.36 or older.

    python3 containers/wheels.py LOCK FOLDER

Any Python with pip does, so that this machine's proxy, index and certificates apply. pip can download for another
Python, but evaluates the lock's markers for the one it runs in: so they are evaluated here.
"""

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

TARGET = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.0",
    "os_name": "posix",
    "platform_machine": platform.machine(),
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}
GLIBC = range(36, 4, -1)
"""2.36 is that of Debian 12, the image's base."""


def wanted(lock: str) -> str:
    """The lock's requirements that hold for the target, without their markers."""
    kept = []
    for block in lock.replace("\\\n", " ").splitlines():
        text, *hashes = block.split("--hash=")
        if not text.strip() or text.startswith("#"):
            continue
        requirement = Requirement(text.strip())
        if requirement.marker is None or requirement.marker.evaluate(TARGET):
            kept.append(" --hash=".join([f"{requirement.name}{requirement.specifier} ", *map(str.strip, hashes)]))
    return "\n".join(kept) + "\n"


def main(lock: Path, folder: Path) -> int:
    tags = [f"manylinux_2_{minor}" for minor in GLIBC] + ["manylinux2014", "manylinux2010", "manylinux1", "linux"]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "requirements.txt")
        file.write_text(wanted(lock.read_text()))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
        command += ["--python-version", "3.11", "--implementation", "cp"]
        command += [f"--platform={tag}_{platform.machine()}" for tag in tags]
        return subprocess.run([*command, "--requirement", str(file)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
