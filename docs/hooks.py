"""Generated parts of the documentation: the tables of the store, and the promises that tests keep.

mkdocs calls `on_page_markdown` for every page. Nothing here imports mkdocs, so that tests can read what a page says.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

ROOMS = {
    "engine": "Runs: kills, bits, receipts",
    "launch": "Commands, jobs and images",
    "studies": "Studies",
    "data": "Data",
    "science": "Training, laws and posteriors",
    "report": "Reports",
    "cluster": "On a cluster",
}
"""Folders of tests/, in the order of the page, and their headings. Other folders follow under their own names."""


@dataclass(frozen=True)
class Promise:
    """A sentence of the page, and the test that keeps it."""

    text: str
    path: str
    """Of the test file, relative to the checkout."""
    test: str
    skipped_unless: str = ""
    """What a machine must have for the test to run; empty if it always runs."""

    @property
    def room(self) -> str:
        return Path(self.path).parts[1]


def promises(tests: Path = ROOT / "tests") -> tuple[Promise, ...]:
    """Every test that is marked `@pytest.mark.promise("...")`, found by reading the files: nothing is imported."""
    return tuple(promise for path in sorted(tests.rglob("test_*.py")) for promise in _of_file(path, tests.parent))


def _of_file(path: Path, root: Path) -> Iterator[Promise]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        marks = {ast.unparse(mark.func): mark for mark in node.decorator_list if isinstance(mark, ast.Call)}
        if "pytest.mark.promise" in marks:
            (text,) = marks["pytest.mark.promise"].args
            yield Promise(ast.literal_eval(text), str(path.relative_to(root)), node.name, _condition(node, marks))


def _condition(node: ast.FunctionDef, marks: dict[str, ast.Call]) -> str:
    if skip := marks.get("pytest.mark.skipif"):
        return str(next(ast.literal_eval(one.value) for one in skip.keywords if one.arg == "reason"))
    if "shared_data" in {argument.arg for argument in node.args.args}:
        return "needs the real data sets"
    return ""


def promises_page() -> str:
    """The sentences, by folder of tests/."""
    found = promises()
    rooms = [*ROOMS, *sorted({one.room for one in found} - set(ROOMS))]
    return "\n".join(
        f"## {ROOMS.get(room, room)}\n\n{lines}\n"
        for room in rooms
        if (lines := "\n".join(_line(one) for one in found if one.room == room))
    )


def _line(promise: Promise) -> str:
    condition = f" ({promise.skipped_unless})" if promise.skipped_unless else ""
    text = promise.text.replace("_", r"\_").replace("^", r"\^")
    return f"- {text}{condition}  \n  `{promise.path}::{promise.test}`"


def store_tables() -> str:
    """What `python -m ntkhpc schema` prints, with the bars inside cells escaped."""
    printed = subprocess.run(
        [sys.executable, "-m", "ntkhpc", "schema"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return "\n".join(map(_row, printed.splitlines()))


def _row(line: str) -> str:
    """A row of a table of six columns, of which the last, the meaning, may hold bars."""
    if not line.startswith("| "):
        return line
    *cells, meaning = line.strip("|").strip().split(" | ", 5)
    return "| " + " | ".join([*cells, meaning.replace(r"\|", "|").replace("|", r"\|")]) + " |"


GENERATED = {
    "(Generated: `make docs` puts the tables here, and `.venv/bin/python -m ntkhpc schema` prints them.)": store_tables,
    "(Generated: `make docs` puts the sentences here.)": promises_page,
}
"""Lines of pages in docs/, and what stands in their place on the page that is built."""


def on_page_markdown(markdown: str, **_: object) -> str:
    for line, generate in GENERATED.items():
        if line in markdown:
            markdown = markdown.replace(line, generate())
    return markdown
