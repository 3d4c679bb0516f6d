"""What a table says, without the fields whose value is the one that they had when they were introduced.

A study's id is the hash of this. A new optional field therefore changes no id. What is left out is the introduced
value, fixed for ever: a default that changes later is not, so that studies of one text made before and after differ.
"""

from typing import Any

import msgspec
from msgspec import structs

from ntkhpc.phase.settings import Settings


def introduced(section: type[Settings]) -> dict[str, Any]:
    """By name of each optional field, the value that it had when it was introduced.

    That is its default, unless the class, or one that it extends, declares another one in `introduced`.
    """
    declared: dict[str, object] = {}
    for one in reversed(section.__mro__):
        declared |= vars(one).get("introduced", {})
    defaults = {field.name: default(field) for field in structs.fields(section) if not field.required}
    return {name: declared.get(name, value) for name, value in defaults.items()}


def default(field: structs.FieldInfo) -> Any:
    """Of an optional field: the value that it has where a study file does not give it."""
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def of(section: Settings) -> dict[str, Any]:
    """The table as TOML would hold it, less what is as it was introduced. Its tag and required fields are always in it.

    An optional table is left out, its tag too, if it is of the class that it was introduced as and says nothing else.
    One that was introduced as nothing (None) is there, if only as an empty table.
    """
    found, usual = _tag(section), introduced(type(section))
    for field in structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Settings):
            table = of(value)
            if field.required or type(value) is not type(usual[field.name]) or table != _tag(value):
                found[field.name] = table
        elif field.required or value != usual[field.name]:
            found[field.name] = _plain(value)
    return found


def _tag(section: Settings) -> dict[str, Any]:
    """What tells a table of a union from the others; nothing for a table of its own."""
    config = type(section).__struct_config__
    return {config.tag_field: config.tag} if config.tag_field else {}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and any(isinstance(one, Settings) for one in value):
        return [of(one) for one in value]
    return msgspec.to_builtins(value)
