"""The file of a study that was changed in numbers, in the words of the user who wrote it."""

import re
from pathlib import Path
from typing import Any

import tomli_w
from msgspec import to_builtins

from ntkhpc.studies import content, toml
from ntkhpc.studies.ensemble.study import EnsembleStudy

OF_LEAPS = ("method", "leap_members", "leap_tolerance", "validation", "twin")
"""Fields of [ensemble] that say what is leapt."""

_FIELDS = ("members", "draws", *OF_LEAPS)
"""Those that a design decides."""


def text(path: Path, wanted: EnsembleStudy) -> str:
    """The study file at `path` with the fields that a design decides as the wanted study has them.

    The text is kept where only numbers of it change, but for the remarks behind these, which were on other numbers.
    Relative paths of data become absolute, as it may lie elsewhere.
    """
    said = toml.read(path)
    raw, made = toml.parse(said), to_builtins(wanted)
    usual = content.introduced(type(wanted.ensemble))
    changed = {
        name: made["ensemble"][name]
        for name in _FIELDS
        if name in raw["ensemble"] or made["ensemble"].get(name) != usual.get(name)
    }
    raw["ensemble"] |= changed
    edited = _edited(said, changed)
    if "path" in raw["data"]:
        raw["data"]["path"] = made["data"]["path"]
    return edited if _says(edited, raw) else tomli_w.dumps(raw)


def _says(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return toml.parse(text) == wanted
    except ValueError:  # a key in quotes, which is there twice then
        return False


def _edited(text: str, changed: dict[str, Any]) -> str:
    """The text with these fields of [ensemble], those that are lacking behind its head. Who calls looks if it is so."""
    head = re.search(r"^\s*\[\s*ensemble\s*\].*\n", text, re.MULTILINE)
    if head is None:
        return text
    rest = text[head.end() :]
    end = re.search(r"^\s*\[", rest, re.MULTILINE)
    inside, after = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    for name, value in changed.items():
        said = tomli_w.dumps({name: value}).strip()
        line = re.compile(rf"^(\s*){name}\s*=\s*([^#\n]*?)(\s*(?:#.*)?)$", re.MULTILINE)
        if found := line.search(inside):
            remark = found[3] if f"{name} = {found[2]}" == said else ""
            inside = f"{inside[: found.start()]}{found[1]}{said}{remark}{inside[found.end() :]}"
        else:
            inside = f"{said}\n{inside}"
    return text[: head.end()] + inside + after
