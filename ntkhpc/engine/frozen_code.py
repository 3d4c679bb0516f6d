"""The code of a run: a copy of this package in `code/<hash>/`, which its jobs import and no other."""

import contextlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

from ntkhpc import files, gates, start
from ntkhpc.errors import DamagedError

_CHECKOUT = Path(__file__).resolve().parents[2]
_FROZEN = ("ntkhpc", "analysis")


def freeze(run_path: Path) -> str:
    """Copy the package into `code/<hash>/`, so that an edit of the checkout never changes a running study; the hash."""
    contents = _sources()
    code = _code_hash(contents)
    target = run_path / "code" / code[:12]
    if not gates.exists(target):
        staged = target.with_name(f".{code[:12]}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            for name, content in contents.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(content)
            # The manifest that names them is synced, and may be all that a power cut leaves.
            for path in files.tree(staged):
                files.sync_file(path)
            for folder in (staged, *(path for path in staged.rglob("*") if path.is_dir())):
                files.sync_directory(folder)
            os.rename(staged, target)
            files.sync_directory(target.parent)
        except OSError:
            if not gates.exists(
                target
            ):  # a rename never replaces a directory: somebody else, or its first request, did it
                raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return code


def current_hash() -> str:
    """Hash of the code that runs now: of the checkout, which would be frozen, or of a frozen copy."""
    return _code_hash(_sources())


def _sources(root: Path = _CHECKOUT) -> dict[str, bytes]:
    paths = [path for name in _FROZEN for path in files.tree(root / name) if path.suffix == ".py"]
    contents = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    return {**contents, "requirements.lock": _lock(root).read_bytes()}


def _lock(root: Path) -> Path:
    """The lock that belongs to the packages of `root`: in the package where it is installed, at the top elsewhere."""
    packaged = root / "ntkhpc" / "requirements.lock"
    return packaged if packaged.is_file() else root / "requirements.lock"


def _code_hash(contents: dict[str, bytes]) -> str:
    return files.sha256(files.canonical_json({name: files.sha256(data) for name, data in contents.items()}))


def source(name: str) -> bytes:
    """A file as `freeze` would copy it from the code that runs now. Raises OSError if there is none of that name."""
    return (_lock(_CHECKOUT) if name == "requirements.lock" else _CHECKOUT / name).read_bytes()


def remove_bytecode(code: Path) -> None:
    """Remove the `__pycache__` folders of a frozen copy, unless anything but bytecode is in them.

    They are of a Python that somebody started in there by hand, as older versions advised. Workers write none, and
    import from none: what stays is refused.
    """
    for folder in sorted(code.rglob("__pycache__")):
        with contextlib.suppress(OSError):  # of another user, or on a place that is read-only: it is refused by name
            if folder.is_symlink() or not folder.is_dir():
                continue
            if all(path.suffix == ".pyc" and not path.is_symlink() and path.is_file() for path in folder.iterdir()):
                shutil.rmtree(folder)


def require_intact(code: Path, code_hash: str) -> None:
    """Raises DamagedError unless the frozen copy is whole and nothing else lies there, which would be imported."""
    try:
        wrong = start.problem(str(code), code_hash)
    except FileNotFoundError:
        wrong = "it is not there"
    if wrong:
        raise DamagedError(f"{start.NOT_THE_CODE}: {wrong}", where=code, cause=start.CAUSE, todo=start.todo(str(code)))


def git() -> dict[str, Any] | None:
    """Commit of the repository that tracks this very file; None for an installed package or a frozen copy."""

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=_CHECKOUT, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
