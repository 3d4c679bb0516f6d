"""A table of a study file or of a profile, and the types of its fields."""

import contextlib
import functools
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from itertools import pairwise
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct, defstruct, structs

Positive = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, lt=2**31)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Increasing = Annotated[tuple[Positive, ...], Meta(min_length=1)]


_ruled = ContextVar("_ruled", default=True)


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML table. What its fields mean for one another is checked in `__post_init__`, which raises ValueError."""

    introduced: ClassVar[dict[str, object]] = {}
    """Of fields whose default changed later: the value that each had when it was introduced (see studies.content)."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if rule := cls.__dict__.get("__post_init__"):

            @functools.wraps(rule)
            def check(self: Settings) -> None:
                if _ruled.get():
                    rule(self)

            cls.__post_init__ = check  # type: ignore[attr-defined]  # of those that have one


@contextlib.contextmanager
def unruled() -> Iterator[None]:
    """Settings made meanwhile are not checked by the rules of `__post_init__`.

    For studies that are frozen in runs: a rule that was added or tightened later must not make a run unreadable.
    """
    token = _ruled.set(False)
    try:
        yield
    finally:
        _ruled.reset(token)


def optional(name: str, section: type[Settings], module: str, without: Collection[str] = ()) -> type[Settings]:
    """A table with the fields of another, none of which has to be given: None is left as it is elsewhere.

    Nor have those of the tables in it. `module` is where the class is kept under this name.
    """
    fields: list[Any] = []
    for one in structs.fields(section):
        if one.name not in without:
            is_table = isinstance(one.type, type) and issubclass(one.type, Settings)
            kind = optional(f"{name}_{one.name}", one.type, module) if is_table else one.type
            fields.append((one.name, kind | None, None))
    made: type[Any] = defstruct(
        name, fields, bases=(Settings,), module=module, namespace={"__doc__": f"Changed fields of {section.__name__}."},
        frozen=True, kw_only=True, forbid_unknown_fields=True,
    )  # fmt: skip
    return made


def require_increasing(name: str, values: tuple[int, ...]) -> None:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"{name} = {list(values)} must be strictly increasing")
