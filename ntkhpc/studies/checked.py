"""Whether the values of a study's data can be used, looked at before a run is made, and not twice.

What was found right is remembered in the user's cache folder, under the hash of what the section of the study says, of
the checksums of its files, which are computed anew each time, and of the code that looks. So no note stands for
another file, and none for other rules. A refusal is not remembered. A cache that cannot be written is done without.
"""

import contextlib
import os
from functools import cache
from pathlib import Path

import platformdirs

from ntkhpc import files
from ntkhpc.errors import NtkhpcError
from ntkhpc.studies.base import Study


def look(study: Study) -> tuple[str, ...]:
    """What should be said of the data of a resolved study. Raises DataError if they cannot be used; fetches nothing."""
    note = _note(study)
    with contextlib.suppress(OSError, NtkhpcError, KeyError, TypeError, ValueError):
        if note is not None:
            return tuple(str(line) for line in files.read_sealed(note)["lines"])
    found = study.data.check(study.known)
    if note is not None and found is not None:
        with contextlib.suppress(OSError, NtkhpcError):
            note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.write_atomic(note, files.seal({"lines": list(found)}))
    return found or ()


def _note(study: Study) -> Path | None:
    """Where it is remembered; None if nothing would be saved by it, or there is no place."""
    has_home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    folder = platformdirs.user_cache_dir("ntkhpc") if has_home else ""
    if not study.data.slow_to_check or not os.path.isabs(folder):
        return None
    # Of the archives of images the checksums are part of the code, and the section says all else.
    said = {"data": study.content["data"], "features": study.known.features, "code": _code()}
    return Path(folder) / "checked" / f"{files.sha256(files.canonical_json(said))}.json"


@cache
def _code() -> str:
    folder = Path(__file__).parent.parent / "data"
    return files.sha256("\n".join(files.sha256_file(path) for path in sorted(folder.rglob("*.py"))).encode())
