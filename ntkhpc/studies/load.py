"""Study: a validated, frozen TOML file whose content hash is its id.

`jobs/template.toml`, and one of each other kind, explain every field for users. Each field has its type and range where
its section is defined; what fields mean for one another is in the `__post_init__` of the section they belong to.
"""

import difflib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import tomli_w
from msgspec import Struct

from ntkhpc.errors import StudyError
from ntkhpc.studies import toml
from ntkhpc.studies.base import Study
from ntkhpc.studies.kinds import DEFAULT, KINDS


@dataclass(frozen=True)
class _Source:
    """Where a study was read from, and the template of its kind, which explains every field."""

    where: object
    template: str


def loads(text: str, where: object = "study") -> Study:
    """Parse and validate a study. Raises StudyError naming field, value, what is allowed and the nearest spelling.

    Facts of the data are none of its fields: the program finds them. `studies.frozen` reads what it wrote.
    """
    try:
        raw = toml.parse(text)
    except ValueError as error:
        raise StudyError(f"not valid TOML: {error}", where=where, todo="compare with jobs/template.toml") from error
    kind = _kind(raw, where)
    source = _Source(where, _template(raw))
    _check_tables(raw, kind, "", source, hidden=("facts",))
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _explain(error, raw, kind, source) from error
    except (OverflowError, MemoryError) as error:
        raise StudyError(
            f"what the fields say together leaves the range of numbers: {error}",
            where=where,
            cause="a factor, a power or a size that is far too large",
            todo=f"compare with {source.template}",
        ) from error


def load(path: Path) -> Study:
    """The study of a file. Raises StudyError if it cannot be read, and as `loads` does."""
    try:
        text = toml.read(path)
    except OSError as error:
        raise StudyError(
            f"cannot read the study: {error.strerror}",
            where=path.absolute(),
            todo="TASK is a name of jobs/ without .toml, or the path of a study file; a run directory is named by RUN",
        ) from error
    except ValueError as error:  # of the path, too: a zero byte
        raise StudyError(f"this is no study: {error}", where=path, todo="compare with jobs/template.toml") from error
    return loads(text, path)


def dumps(study: Study) -> bytes:
    """The frozen spelling of a study: every field, defaults included, in the order of the classes; and the facts."""
    return tomli_w.dumps(_without_nothing(msgspec.to_builtins(study))).encode()


def _without_nothing(value: Any) -> Any:
    """Without fields that are None, which TOML cannot say: of tables that need not be there."""
    if isinstance(value, dict):
        return {name: _without_nothing(one) for name, one in value.items() if one is not None}
    return [_without_nothing(one) for one in value] if isinstance(value, list | tuple) else value


def find(task: str, jobs: Path = Path("jobs")) -> Path:
    """The study file of TASK: a name of `jobs/`, or a path. Raises StudyError with the nearest name."""
    if task.endswith(".toml") or "/" in task:
        return Path(task)
    known = {path.stem: path for path in sorted(jobs.glob("*.toml"))}
    if task in known:
        return known[task]
    if task and not jobs.is_dir():
        raise StudyError(
            f"no study is called {task!r}",
            where=jobs.resolve(),
            cause="named studies are those of jobs/ in a checkout of the project, and this folder is none",
            todo="go to a checkout, or give the path of a study file: TASK=path/to/study.toml",
        )
    raise StudyError(
        f"no study is called {task!r}{_nearest(task, known)}" if task else "no study was named",
        where=jobs.resolve(),
        cause=f"there are: {', '.join(known) or 'none'}",
        todo="name one of them, or give the path of a study file: TASK=path/to/study.toml",
    )


def _kind(raw: dict[str, Any], where: object) -> type[Study]:
    given = raw.get("kind", DEFAULT)
    if isinstance(given, str) and given in KINDS:
        return KINDS[given].study
    raise StudyError(
        f"kind = {toml.shown(given)} is not allowed{_nearest(str(given), KINDS)}",
        where=where,
        cause=f"allowed: {', '.join(KINDS)}",
    )


def _template(raw: dict[str, Any]) -> str:
    kind = raw.get("kind", DEFAULT)
    return "jobs/template.toml" if kind == DEFAULT else f"jobs/template-{kind}.toml"


def _check_tables(
    raw: dict[str, Any], section: type[Struct], path: str, source: _Source, hidden: tuple[str, ...] = ()
) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(section) if field.name not in hidden}
    if tag := section.__struct_config__.tag_field:
        fields = {tag: str, **fields}
    for key, value in raw.items():
        field = f"{path}{key}"
        if key not in fields:
            raise StudyError(
                f"unknown field {toml.shown(field)[1:-1]} = {toml.shown(value)}{_nearest(key, fields)}",
                where=source.where,
                cause=f"{'[' + path[:-1] + ']' if path else 'the top level'} has the fields: {', '.join(fields)}",
                todo=f"{source.template} explains each of them",
            )
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise StudyError(f"{field} = {toml.shown(value)} is not a finite number", where=source.where)
        if isinstance(value, dict) and (table := _table(fields[key], value, field, source)) is not None:
            _check_tables(value, table, f"{field}.", source)
        for number, one in enumerate(value if isinstance(value, list) else []):
            if isinstance(one, dict) and (table := _row(fields[key])) is not None:
                _check_tables(one, table, f"{field}[{number}].", source)


def _table(kind: Any, value: dict[str, Any], field: str, source: _Source) -> type[Struct] | None:
    """The class of a table; where there are several, the one whose tag the table names. None if no table is meant."""
    kinds = [one for one in get_args(kind) if one is not NoneType] if isinstance(kind, UnionType) else [kind]
    if len(kinds) == 1:
        return kinds[0] if isinstance(kinds[0], type) and issubclass(kinds[0], Struct) else None
    known = {str(one.__struct_config__.tag): one for one in kinds}
    tag = kinds[0].__struct_config__.tag_field
    if isinstance(value.get(tag), str) and value[tag] in known:
        return known[value[tag]]
    given = f"{field}.{tag} = {toml.shown(value[tag])} is not allowed" if tag in value else f"{field}.{tag} is missing"
    raise StudyError(
        f"{given}{_nearest(str(value.get(tag, '')), known)}",
        where=source.where,
        cause=f"allowed: {', '.join(known)}",
        todo=f"{source.template} explains each of them",
    )


def _row(kind: Any) -> type[Struct] | None:
    """The class of the tables of a list of tables, such as [[variants]]; None for a list of anything else."""
    listed = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    rows = [one for one in get_args(listed) if isinstance(one, type) and issubclass(one, Struct)]
    return rows[0] if rows else None


def _explain(error: msgspec.ValidationError, raw: dict[str, Any], study: type[Study], source: _Source) -> StudyError:
    """msgspec says what was expected and the path; add the value, the choices and the nearest spelling."""
    message, _, path = str(error).partition(" - at `$")
    keys = re.findall(r"[A-Za-z_]\w*|\d+", path.rstrip("`"))
    value: Any = raw
    kind: Any = study
    for key in keys:
        table = _table(kind, value, key, source) if isinstance(value, dict) else None
        value = value[int(key)] if isinstance(value, list) else value.get(key) if isinstance(value, dict) else value
        if table is not None:
            kind = {field.name: field.type for field in msgspec.structs.fields(table)}.get(key)
        elif key.isdigit():
            kind = get_args(get_args(kind)[0] if get_origin(kind) is Annotated else kind)[0]
    field = ".".join(keys)
    if field == "variants" and isinstance(value, dict):
        return StudyError(
            "variants are a list of tables, and one table is given",
            where=source.where,
            todo="write [[variants]] above each of them; jobs/template-comparison.toml has an example",
        )
    if isinstance(value, dict):
        # A rule of a whole section: its message already names field and value.
        section = f"[{field}] " if field else ""
        return StudyError(
            f"{section}{message[:1000]}", where=source.where, todo=f"{source.template} explains every field"
        )
    cause = message
    nearest = ""
    kind = next((one for one in get_args(kind) if get_origin(one) is Literal), kind)  # of a field that may be left out
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        cause, nearest = f"allowed: {', '.join(choices)}", _nearest(str(value), choices)
    return StudyError(f"{field} = {toml.shown(value)} is not allowed{nearest}", where=source.where, cause=cause)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word[:80], list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
