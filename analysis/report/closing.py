"""What makes a report citable alone: its methods, its settings, where it comes from, and whom to cite."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from analysis.report import page
from ntkhpc import references
from ntkhpc.references import SOFTWARE, Reference
from ntkhpc.studies.base import Study

SOME = ("python", "jax", "jaxlib", "numpy", "scipy")
"""Packages that a methods section names."""


def methods(study: Study, measured: Sequence[str], made_from: dict[str, Any]) -> list[str]:
    """The methods section, in paragraphs: the study, what its run found of it, and the software."""
    return [*study.methods(), *measured, _software(made_from)]


def _software(made_from: dict[str, Any]) -> str:
    known, git = made_from["versions"], made_from["git"]
    packages = ", ".join(f"{name} {known[name]}" for name in SOME if name in known)
    commit = f", commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else ""
    return (
        f"Values were computed with {SOFTWARE.title} (code {made_from['code'][:12]}{commit}), with {packages}; this "
        f"report was made by its version {SOFTWARE.version}."
    )


def settings(study: Study) -> list[tuple[str, str]]:
    """Rows of a table, its heading first: every field of the study by its place in study.toml, with its value."""
    return [("field", "value"), *_fields(msgspec.to_builtins(study), "")]


def _fields(table: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{place}{name}.")
        elif value is not None:
            yield f"{place}{name}", json.dumps(value, ensure_ascii=False)


def citations(study: Study) -> list[str]:
    """The HTML of the references: this software first, then what the study names; and BibTeX of all."""
    cited = references.unique((SOFTWARE, *study.references))
    items = "".join(f"<li>{_entry(one)}</li>" for one in cited)
    entries = "\n\n".join(one.bibtex() for one in cited)
    return [
        page.paragraph("Please cite this software and the papers behind what it computed:"),
        f'<ul class="references">{items}</ul>',
        page.folded("BibTeX of all of them", page.verbatim(entries)),
    ]


def _entry(one: Reference) -> str:
    return page.text(one.cited()) + (f", {page.link(one.link, one.link_name)}" if one.link else "") + "."


def provenance_rows(made_from: dict[str, Any]) -> list[Sequence[str]]:
    """`analysis.report.provenance.provenance` as the rows of a table."""
    git = made_from["git"]
    rows: list[Sequence[str]] = [
        ("what", "value"),
        (
            "code",
            f"{made_from['code'][:12]}"
            + (f", commit {git['commit'][:12]}{'*' if git['dirty'] else ''}" if git else ""),
        ),
        ("packages", ", ".join(f"{name} {version}" for name, version in made_from["versions"].items())),
        ("hosts", ", ".join(made_from["hosts"])),
        ("devices", ", ".join(made_from["devices"])),
        (
            "core seconds",
            ", ".join(f"{phase} {seconds:,.0f}" for phase, seconds in made_from["seconds_by_phase"].items()),
        ),
        ("started", made_from["started"]),
        ("shards", f"{made_from['shards']:,}; numerics fingerprints: {made_from['fingerprints']}"),
    ]
    later = made_from["analysis"]
    if later["code"] != made_from["code"]:
        rows.append(("this report made with", f"code {later['code'][:12]}, not the run's"))
    if changed := [f"{k} {v}" for k, v in later["versions"].items() if made_from["versions"].get(k) != v]:
        rows.append(("and packages", ", ".join(changed)))
    rows += [("accepted change", f"{change['time']}: {change['why']}") for change in made_from["changes"]]
    return rows
