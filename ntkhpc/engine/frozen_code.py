"""The code of a run: a copy of this package in `code/<hash>/`, which its jobs import and no other."""

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

from ntkhpc import files

_CHECKOUT = Path(__file__).resolve().parents[2]
_FROZEN = ("ntkhpc", "analysis")


def freeze(run_path: Path) -> str:
    """Copy the package into `code/<hash>/`, so that an edit of the checkout never changes a running study; the hash."""
    contents = _sources()
    code = _code_hash(contents)
    target = run_path / "code" / code[:12]
    if not target.exists():
        staged = target.with_name(f".{code[:12]}.{uuid.uuid4().hex[:12]}.tmp")
        for name, content in contents.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(content)
        os.rename(staged, target)
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


def hash_of(code: Path) -> str:
    """Hash of a frozen copy of the package as it is now."""
    return _code_hash(_sources(code))


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
