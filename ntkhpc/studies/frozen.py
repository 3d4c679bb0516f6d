"""The study of a run: the `study.toml` that was frozen with it, whatever version of this package made it.

It is no user's file: nothing in it is a mistake. What it lacks was introduced later and has the value it had then,
never a default that changed since; what this code does not know came with newer code, and the run is too new for it.
"""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import msgspec
from msgspec import structs

from ntkhpc import surroundings
from ntkhpc.errors import DamagedError, RunError
from ntkhpc.phase.settings import Settings, unruled
from ntkhpc.studies import content, toml
from ntkhpc.studies.base import Study
from ntkhpc.studies.kinds import DEFAULT, KINDS

FORMATS = {
    1: "study.toml: what is known of data files (sha256, bytes, rows, features, outputs) is in [data]. "
    "study_id: hash of every field of the study",
    2: "study.toml: what is known of data files is in [facts]. "
    "study_id: hash of the fields that differ from what they were when they were introduced",
}
"""What the files of a run were like, by the manifest's `format`. This code reads all of these and writes the last.

A new one is for what older code cannot read, or would take for something else; not for a new field, array or phase.
"""

FORMAT = max(FORMATS)

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns what `study.toml` held in one format into what it holds in the next."""


_COUNTS = ("rows", "bytes", "features", "outputs")


def facts_from_data(raw: dict[str, Any]) -> dict[str, Any]:
    """Format 1 held what was found in files of data in [data], and of showers and CIFAR-10 not all of it."""
    given = raw.get("data", {})
    if given.get("source") not in ("showers", "file", "cifar10"):
        return raw
    data = {name: value for name, value in given.items() if name not in ("sha256", *_COUNTS)}
    if not (sha256 := given.get("sha256")):  # the defaults of a study without files, or a later format
        return {**raw, "data": data}
    facts = {name: given[name] for name in _COUNTS if name in given}
    facts["sha256"] = [sha256] if isinstance(sha256, str) else sha256
    if given["source"] == "showers":
        facts["outputs"] = 1
    if given["source"] == "cifar10":
        facts["features"] = (1 if given["grey"] else 3) * given["size"] ** 2
        facts["outputs"] = 1 if given["targets"] else len(given["classes"])
    return {**raw, "data": data, "facts": facts}


def no_populations_before_there_were_any(raw: dict[str, Any]) -> dict[str, Any]:
    """Runs of kind bayes that are older than [adaptive] had no such theory; a later one without it means four."""
    return raw if raw.get("kind") != "bayes" else {"adaptive": {"populations": 0}, **raw}


def from_first(raw: dict[str, Any]) -> dict[str, Any]:
    """Format 1 to format 2."""
    return no_populations_before_there_were_any(facts_from_data(raw))


MIGRATIONS: tuple[Migration, ...] = (from_first,)
"""From each format to the next. A field that was moved, renamed or removed needs a new format and a migration."""


def loads(text: str, where: object = "study.toml", format: int = FORMAT) -> Study:
    """The study of a run of a format. Raises RunError for one of newer code, or of another shape."""
    try:
        return _loads(text, where, format)
    except (AttributeError, KeyError, TypeError) as error:  # a table that is a number, a tag that is a list
        raise too_new(f"its study has another shape than this code knows: {error!r}", where) from error


def _loads(text: str, where: object, format: int) -> Study:
    try:
        raw = toml.parse(text)
    except ValueError as error:
        raise DamagedError(f"the study cannot be read: {error}", where=where, todo="make verify") from error
    for migrate in MIGRATIONS[format - 1 :]:
        raw = migrate(raw)
    given = raw.get("kind", DEFAULT)
    if not isinstance(given, str) or given not in KINDS:
        raise too_new(f"its study has kind = {given!r}, which this code does not know", where)
    kind = KINDS[given].study
    filled = _filled(raw, kind, "", where)
    try:
        with unruled():
            return msgspec.convert(filled, kind)
    except msgspec.ValidationError as error:
        raise too_new(f"its study has a value that this code does not know: {error}", where) from error


def too_new(what: str, where: object) -> RunError:
    """The error for a run that only newer code can read."""
    return _unreadable("new", "newer", what, where)


def too_old(what: str, where: object) -> RunError:
    """The error for a run that only older code can read."""
    return _unreadable("old", "older", what, where)


def _unreadable(age: str, made_by: str, what: str, where: object) -> RunError:
    run = where.parent if isinstance(where, Path) else Path("RUN")
    code = max((run / "code").glob("[!.]*"), key=lambda path: path.stat().st_mtime, default=run / "code" / "HASH")
    python = surroundings.python(sys.executable, code, _code_hash(run), {})
    command = f"{shlex.join(python)} -m ntkhpc status --run={shlex.quote(str(run))}"
    return RunError(
        f"the run is too {age} for this code: {what}",
        where=where,
        cause=f"it was made by {made_by} code; nothing of it was touched",
        todo=f"use the version that made it, or the code in it: {command}",
    )


def _code_hash(run: Path) -> str:
    """The hash of the code that the run goes on in; a dash, for code that is not looked at, where nobody can tell."""
    try:
        return str(json.loads((run / "manifest.json").read_bytes())["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return "-"


def _filled(raw: dict[str, Any], section: type[Settings], path: str, where: object) -> dict[str, Any]:
    """The table with the introduced value of every field that it lacks."""
    fields = {field.name: field for field in structs.fields(section)}
    for key in raw.keys() - fields.keys() - {section.__struct_config__.tag_field}:
        raise too_new(f"its study has the field {path}{key}, which this code does not know", where)
    usual, filled = content.introduced(section), dict(raw)
    for name, field in fields.items():
        if name in raw:
            if isinstance(raw[name], dict) and (table := _table(field.type, raw[name], path + name, where)):
                filled[name] = _filled(raw[name], table, f"{path}{name}.", where)
        elif field.required:
            raise too_old(f"its study lacks {path}{name}", where)
        elif isinstance(usual[name], Settings):
            filled[name] = _filled({}, type(usual[name]), f"{path}{name}.", where)
        else:
            filled[name] = msgspec.to_builtins(usual[name])
    return filled


def _table(kind: Any, given: dict[str, Any], name: str, where: object) -> type[Settings] | None:
    """The class of a table; where there are several, the one that the table's tag names. None if no table is meant."""
    choices = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    tables = [one for one in choices if isinstance(one, type) and issubclass(one, Settings)]
    if not tables or not (tag := tables[0].__struct_config__.tag_field):
        return tables[0] if tables else None
    known = {one.__struct_config__.tag: one for one in tables}
    if given.get(tag) not in known:
        raise too_new(f"its study has {name}.{tag} = {given.get(tag)!r}, which this code does not know", where)
    return known[given[tag]]
