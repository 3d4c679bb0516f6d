"""Lists and numbers as words of a sentence."""

from collections.abc import Iterable

MANY = 12
"""Names beyond which a sentence lists the first and says how many there are."""


def count(number: int, noun: str) -> str:
    """ "1 draw", "2,000 draws": the plural has an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def joined(words: Iterable[object], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    *others, end = [str(word) for word in words] or [""]
    return f"{', '.join(others)} {last} {end}" if others else end


def numbers(values: Iterable[float], last: str = "and") -> str:
    """As `joined`, with commas in thousands and without digits that mean nothing."""
    return joined((f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}" for value in values), last)


def named(names: tuple[str, ...]) -> str:
    """As `joined`, of no more than MANY names."""
    if len(names) <= MANY:
        return joined(names)
    return f"{', '.join(names[:MANY])} and {len(names) - MANY:,} more"
