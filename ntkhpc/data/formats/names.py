"""Names that a file has, and the message when one is asked for that it has not."""

from collections.abc import Iterable
from difflib import get_close_matches

from ntkhpc.errors import DataError

_SHOWN = 12


def listed(names: Iterable[object], shown: int = _SHOWN) -> str:
    """Names for a message: all of a few, the first of many with the number of the rest."""
    every = [str(name) for name in names]
    rest = len(every) - shown
    return ", ".join(every[:shown]) + (f" and {rest} more" if rest > 0 else "") if every else "nothing"


def require(wanted: Iterable[str], there: Iterable[str], where: object, kind: str = "key") -> None:
    """Raise DataError for the first wanted name that is not there, with the nearest spelling and those that are."""
    present = list(there)
    for name in wanted:
        if name in present:
            continue
        folded = {other.strip().casefold(): other for other in reversed(present)}
        near = get_close_matches(name.strip().casefold(), folded, n=1)
        raise DataError(
            f"there is no {kind} {name!r}" + (f"; {folded[near[0]]!r} is there" if near else ""),
            where=where,
            cause=f"a different spelling, or another kind of file: its {kind}s are {listed(map(repr, present))}",
            todo="correct the name, or choose the file or layout that was meant",
        )
