"""Every field of every study: what it was when it was introduced, and other values that it may have."""

import copy
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import structs

from ntkhpc.data.sources import AnySource
from ntkhpc.phase.settings import Settings
from ntkhpc.studies import KINDS, content

REQUIRED = {
    "ensemble": {"name": "any", "network": {"widths": [4]}, "ensemble": {"n_train": [8, 12], "members": 20}},
    "bayes": {"name": "any", "kind": "bayes", "network": {"widths": [10]}, "posterior": {"n_train": [8, 12]}},
    "comparison": {
        "name": "any", "kind": "comparison", "network": {"widths": [4]},
        "ensemble": {"n_train": [8, 12], "members": 20},
        "variants": [{"name": "gd"}, {"name": "cosine", "training": {"schedule": "cosine"}}],
    },
}  # fmt: skip
"""A study of each kind but for its data: what it must have."""

SOURCES = {
    "calorimeter": {"pool": 40, "test": 15},
    "showers": {"path": ["a.h5"], "layout": "lcd", "pool": 40, "test": 15},
    "file": {"path": "a.csv", "x": ["a"], "y": ["b"], "pool": 40, "test": 15},
    "mnist": {"pool": 40, "test": 15},
    "cifar10": {"pool": 40, "test": 15},
}
"""A table [data] of each source."""


def sources() -> dict[str, type[Settings]]:
    return {str(one.__struct_config__.tag): one for one in get_args(AnySource)}


def rooms() -> dict[str, type[Settings]]:
    """Every class of a table: `ensemble`, `ensemble.training.steps`, `data.calorimeter`, ..."""
    found: dict[str, type[Settings]] = {}

    def walk(name: str, section: type[Settings]) -> None:
        found[name] = section
        for field in structs.fields(section):
            for one in tables(field.type) if field.name not in ("data", "facts") else ():
                tag = one.__struct_config__.tag
                walk(f"{name}.{field.name}.{tag}" if tag else f"{name}.{field.name}", one)

    kinds = ((name, kind.study) for name, kind in KINDS.items())
    for name, section in (*kinds, *((f"data.{tag}", one) for tag, one in sources().items())):
        walk(name, section)
    return found


def tables(kind: Any) -> list[type[Settings]]:
    """The classes of tables that a field of a type may have."""
    return [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, Settings)]


def introduced() -> dict[str, Any]:
    """By room and field: the introduced value, or "required"; fields that are tables have rooms of their own."""
    found: dict[str, Any] = {}
    for room, section in rooms().items():
        usual = content.introduced(section)
        for field in structs.fields(section):
            value = usual.get(field.name, "required")
            if not isinstance(value, Settings):
                found[f"{room}.{field.name}"] = msgspec.to_builtins(value)
    return msgspec.json.decode(msgspec.json.encode(found))


def raw(kind: str, source: str = "calorimeter") -> dict[str, Any]:
    """What a study file of a kind and a source must have."""
    return copy.deepcopy({**REQUIRED[kind], "data": {"source": source, **SOURCES[source]}})


def places(kind: str, source: str = "calorimeter") -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, type) of every field of a kind of study with such data that decides values; no tables, `kind` or tag."""
    for room, section in rooms().items():
        first, *rest = room.split(".")
        path = ("data",) if room == f"data.{source}" else tuple(rest)
        if room == f"data.{source}" or first == kind:
            for field in structs.fields(section):
                is_table = isinstance(field.type, type) and issubclass(field.type, Settings)
                if not is_table and field.name not in ("kind", "data", "facts"):
                    yield (*path, field.name), field.type


def others(kind: Any) -> list[Any]:
    """Values that a field of a type may have, as TOML holds them."""
    singles: list[Any] = [*_choices(kind), True, False, 2, 3, 7, 12, 40, 300, 0.125, 0.5, 3.5, "m", "km"]
    found: list[Any] = []
    for candidate in (*singles, *([one] for one in singles), [2, 3], [0.5, 0.75], ["a", "c"], []):
        try:
            value = msgspec.to_builtins(msgspec.convert(candidate, kind))
        except msgspec.ValidationError:
            continue
        if value not in found:
            found.append(value)
    return found


def _choices(kind: Any) -> list[Any]:
    """The words of a Literal, however deep in the type it is."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [word for one in get_args(kind) for word in _choices(one)]


def put(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        raw = raw.setdefault(name, {})
    raw[path[-1]] = value
