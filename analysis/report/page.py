"""A page of HTML that needs no other file: its style, and tables, lists and figures as text of it."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem } figure { margin: 1.2rem 0 } img { max-width: 100% }
figcaption, .small { color: #444; font-size: .92rem } table { border-collapse: collapse; margin: .8rem 0 }
th, td { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #ddd }
td:nth-child(-n+6) { white-space: nowrap }
td { vertical-align: top } th { border-bottom: 2px solid #888 }
.claim { font-size: 1.15rem; border-left: 4px solid #3b6ea8; padding: .3rem 1rem; background: #f4f7fb }
.partial { color: #8b1a1a; font-weight: bold; border: 2px solid #8b1a1a; padding: .5rem 1rem }
code { background: #f3f3f3; padding: 0 .2rem } dt { font-weight: bold } dd { margin: 0 0 .5rem 1.2rem }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """The page of these parts, each of them HTML."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def figure(name: str, caption: str, folder: Path) -> str:
    """The figure `folder`/name.png, inside the page."""
    data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    return (
        f'<figure><img alt="{text(name.replace("_", " "))}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its heading."""
    head, *body = ["".join(f"<{tag}>{text(cell)}</{tag}>" for cell in row)
                   for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)]  # fmt: skip
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in body) + "</table>"


def bullets(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def definitions(entries: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in entries.items()) + "</dl>"


def heading(words: str) -> str:
    return f"<h2>{text(words)}</h2>"


def paragraph(words: str, look: str = "") -> str:
    """A paragraph; `look` is a class of STYLE."""
    return f'<p class="{look}">{text(words)}</p>' if look else f"<p>{text(words)}</p>"


def small(words: str) -> str:
    return paragraph(words, "small")


def files(tables: Sequence[str]) -> str:
    """What lies beside the page, with these CSV tables."""
    names = ", ".join(f"<code>{name}</code>" for name in ("fits.json", *(f"{one}.csv" for one in tables)))
    every = f"{names}, <code>provenance.json</code>, and every figure as PDF and PNG"
    return f'<p class="small">Beside this file: {every}.</p>'


def text(words: str) -> str:
    return html.escape(words)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
