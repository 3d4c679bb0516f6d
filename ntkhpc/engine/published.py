"""The report of a run, in `analysis/`: what it wrote is known by the hashes in its provenance.json, which is sealed.

Whoever shows a file of a report reads it here, so that an edited one is never shown as what the run says.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ntkhpc import files
from ntkhpc.engine import receipts
from ntkhpc.engine.run import Run
from ntkhpc.errors import DamagedError, RunError

RECORD = "provenance.json"

NO_RECORD = "the record of the report is missing, and with it what is known of its files"


def folder(run: Run) -> Path:
    return run.path / "analysis"


def write(run: Run, contents: Mapping[str, bytes], made_from: Mapping[str, Any], *, missing: str, results: str) -> None:
    """Each file whole or not at all, and last of all the record of them; `missing` says which shards it lacks.

    `results` is the hash of the results before any was read. Raises RunError, and writes nothing, if that of a report
    of all shards is another by now, or if analysis/ leads into another run. What was killed in between is found by
    `problems`: the record is still that of the report before.
    """
    if not missing and receipts.results_hash(run) != results:
        raise RunError(
            "results of the run changed while its report was made of them",
            where=run.path,
            cause="shards were set aside or computed again meanwhile",
            todo=f"make status RUN={run.path}; once it is complete: {advice(run)}",
        )
    target = folder(run)
    target.mkdir(exist_ok=True)
    other = target.resolve().parent
    if other != run.path.resolve() and files.is_there(other / "manifest.json"):
        raise RunError(
            f"analysis/ is a link to the report of {other.name}, which would be overwritten",
            where=target,
            cause="somebody linked it there",
            todo=f"remove the link, then {advice(run)}",
        )
    for name, content in contents.items():
        files.write_atomic(target / name, content)
    hashes = {name: files.sha256(content) for name, content in sorted(contents.items())}
    known = {**made_from, "files": hashes, "missing": missing, "results": results}
    files.write_atomic(target / RECORD, files.seal(known))


def record(run: Run) -> dict[str, Any] | None:
    """What the last report says of itself; None if there is none. One of an older version has no `results`.

    Raises DamagedError for a record that is not as it was written.
    """
    path = folder(run) / RECORD
    try:
        content = files.read(path)
    except FileNotFoundError:
        return None
    with contextlib.suppress(ValueError):
        known = json.loads(content)
        if isinstance(known, dict) and files.SEAL not in known and _may_be_older(run, known):
            return {name: value for name, value in known.items() if name != "results"}
    try:
        known = files.unseal(content, path)
    except DamagedError as error:
        raise DamagedError(error.what, where=path, cause=error.cause, todo=advice(run)) from error
    if known.get("study_id") != run.manifest.study_id:
        raise DamagedError("is of the report of another study", where=path, todo=advice(run))
    return known


def _may_be_older(run: Run, known: Mapping[str, Any]) -> bool:
    """Whether a record without a seal may be one of an older version: of this study, in a run whose report, or whose
    data where it has none, an older version computed."""
    if isinstance(known.get("files"), dict) or known.get("study_id") != run.manifest.study_id:
        return False
    for shard in (*run.plan.of_phase("analysis"), *run.plan.of_phase("data")):
        with contextlib.suppress(DamagedError):
            if (receipt := receipts.read(run, shard)) is not None:
                return not receipt.study
    return True


def content(run: Run, name: str) -> bytes:
    """A file of the report. Raises FileNotFoundError if it is not there, DamagedError if it is not what was written.

    Reports of older versions recorded no hashes: their files are taken as they are. Each has a record all the same.
    """
    path, known = folder(run) / name, record(run)
    found = files.read(path)
    if known is None:
        raise DamagedError(
            NO_RECORD,
            where=folder(run) / RECORD,
            cause="it was removed, or the making of the first report was interrupted",
            todo=advice(run),
        )
    if "results" not in known or known["files"].get(name) == files.sha256(found):
        return found
    raise DamagedError(
        "is not the file that the report wrote",
        where=path,
        cause="it was edited or damaged, or the making of a report was interrupted",
        todo=advice(run),
    )


def problems(run: Run) -> Iterator[tuple[Path, str | OSError]]:
    """Files of the report that are not as they were written, with what is wrong, or why they cannot be read."""
    place, finished = folder(run), bool(run.finished("analysis"))
    try:
        known = record(run)
    except DamagedError as error:
        yield place / RECORD, error.what
        return
    except OSError as error:
        yield place / RECORD, error
        return
    if known is None:
        if finished:
            yield place / RECORD, NO_RECORD
        return
    if "results" not in known:
        return
    for name, digest in known["files"].items():
        path = place / name
        try:
            if files.sha256_file(path) != digest:
                yield path, "is not the file that the report wrote"
        except DamagedError as error:
            yield path, error.what
        except FileNotFoundError:
            yield path, "is missing, though the report wrote it"
        except OSError as error:
            yield path, error
    with contextlib.suppress(DamagedError, OSError):  # a receipt that is damaged is reported as such
        if not known["missing"] and known["results"] != receipts.results_hash(run):
            yield place / RECORD, "is of a report that was made from other values than the run has now"


def strangers(run: Run) -> list[Path]:
    """Files beside the report that it did not write; nothing where it does not say what it wrote."""
    known: dict[str, Any] | None = None
    with contextlib.suppress(DamagedError, OSError):
        known = record(run)
    if known is None or "results" not in known:
        return []
    own = {folder(run) / name for name in (*known["files"], RECORD)}
    return [path for path in files.tree(folder(run)) if path not in own]


def advice(run: Run) -> str:
    """What to do about a report that is not as it was written."""
    return f"make report RUN={run.path}"
