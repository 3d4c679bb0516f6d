"""What a figure shows, in words: for readers who cannot see it."""

import re
from collections.abc import Iterable

from matplotlib.figure import Figure

_LATEX = {r"\mathrm": "", r"\epsilon": "eps", r"\bar Q": "Qb", r"\mathrm{pop}": "pop"}


def alternative(name: str, figure: Figure) -> str:
    """Its name, what is drawn against what, and the names of what is drawn, from its own axes and legends."""
    axes = [axis for axis in figure.axes if axis.get_visible()]
    across = _plain(axis.get_xlabel() for axis in axes)
    up = _plain(axis.get_ylabel() for axis in axes)
    panels = _plain(title for axis in axes for title in (axis.get_title(), axis.get_title(loc="left")))
    shown = _plain(label for axis in axes for label in axis.get_legend_handles_labels()[1])
    said = [f"{'; '.join(up)}{' against ' if up and across else ''}{'; '.join(across)}" if up or across else ""]
    said += [f"panels: {'; '.join(panels)}" if panels else "", f"shown: {'; '.join(shown)}" if shown else ""]
    words = ". ".join(one for one in said if one)
    return name.replace("_", " ") + (f": {words}" if words else "")


def _plain(labels: Iterable[str]) -> list[str]:
    """Labels without mathematical markup, each once, without those that are empty."""
    found = []
    for label in labels:
        for latex, words in _LATEX.items():
            label = label.replace(latex, words)
        found.append(" ".join(re.sub(r"[$\\{}]", "", label).split()))
    return [one for one in dict.fromkeys(found) if one]
