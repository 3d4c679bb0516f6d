"""Fields that a study has, and those that a message names."""

import re

from msgspec import Struct
from msgspec.structs import asdict

from ntkhpc.studies.base import Study

_FIELD = re.compile(r"\b(?!partitions|limits|container|phases)([a-z_]+(?:\.[a-z_]+)+)\b(?!\()")


def fields(table: Study | Struct, prefix: str = "") -> set[str]:
    """Dotted names of every field of a study, its tables included."""
    found = set()
    for name, value in asdict(table).items():
        found.add(f"{prefix}{name}")
        if isinstance(value, Struct):
            found |= fields(value, f"{prefix}{name}.")
    return found


def assert_names_own_fields(message: str, wanted: Study) -> None:
    """Every dotted name in what to do is a field of this study, and there is one."""
    advice = message.partition("do:")[2] or message
    named = set(_FIELD.findall(advice))
    assert named, f"no field is named: {message}"
    assert named <= fields(wanted), f"{named - fields(wanted)} are no fields of this study: {message}"
