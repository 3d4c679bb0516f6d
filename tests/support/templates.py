"""A check of the templates of jobs/."""

import msgspec


def check_defaults(section: type[msgspec.Struct], table: dict, sections: dict[str, type[msgspec.Struct]]) -> None:
    """Every field is in the table, and, unless it is required, with its default."""
    fields = [field for field in msgspec.structs.fields(section) if field.name != "facts"]  # which no user writes
    assert table.keys() - {"source"} <= {field.name for field in fields}
    for field in fields:
        value = table[field.name]
        if isinstance(value, dict):
            check_defaults(sections[field.name], value, sections)
        elif not field.required:
            assert value == (list(field.default) if isinstance(field.default, tuple) else field.default), field.name
