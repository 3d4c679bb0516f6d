"""A page of HTML that needs no other file: its style, and tables, lists and figures as text of it."""

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence

from analysis.report.symbols import markup

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 66rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: break-word }
h1 { margin-bottom: 0; line-height: 1.2 } h2 { margin: 2.4rem 0 .6rem; line-height: 1.25 }
p, ul, dl, figcaption, .references { max-width: 50rem }
a { color: #1f4f86 } sub, sup { line-height: 0; font-size: .74em }
nav ul { padding: 0; margin: 1rem 0; max-width: none } nav li { display: inline-block; margin-right: 1.1rem }
.scroll { overflow-x: auto; margin: .8rem 0 } figure { margin: 1.2rem 0 }
figure .scroll { margin: 0 } img { display: block; width: var(--width); max-width: 100%; height: auto }
figcaption, .small { color: #444; font-size: .92rem } table { border-collapse: collapse }
th, td { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
th, td { white-space: nowrap } th { border-bottom: 2px solid #888 }
td.long { white-space: normal; min-width: 15rem }
.pairs td { white-space: normal; overflow-wrap: anywhere; min-width: 9rem }
.claim { font-size: 1.15rem; border-left: 4px solid #3b6ea8; padding: .3rem 1rem; background: #f4f7fb }
.partial { color: #8b1a1a; font-weight: bold; border: 2px solid #8b1a1a; padding: .5rem 1rem }
code, pre { background: #f3f3f3; padding: 0 .2rem; font-size: .92em } code { overflow-wrap: anywhere }
pre { padding: .6rem .8rem; overflow-x: auto; user-select: all } summary { cursor: pointer }
dt { font-weight: bold } dd { margin: 0 0 .5rem 1.2rem } .references li { margin-bottom: .5rem }
@media (max-width: 44rem) {
  body { margin: 1rem auto } h1 { font-size: 1.6rem } h2 { font-size: 1.3rem } .claim { font-size: 1.05rem }
  dd { margin-left: .8rem } ul { padding-left: 1.3rem } figure img { max-width: none; width: min(var(--width), 44rem) }
}
@media print {
  @page { margin: 16mm }
  body { font-size: 10pt; max-width: none; margin: 0 } nav { display: none } a { color: inherit }
  figure, tr, li, .claim { break-inside: avoid } h2 { break-after: avoid } .scroll, pre { overflow: visible }
  pre { white-space: pre-wrap } th, td { padding: .15rem .4rem }
  details::details-content { content-visibility: visible; display: block }
}
"""


LONG = 48
"""Characters from which the text of a cell is broken into lines."""


def document(title: str, parts: Sequence[str]) -> str:
    """The page of these parts, each of them HTML."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def anchor(words: str) -> str:
    """The id of a heading."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def heading(words: str) -> str:
    """A heading that links can lead to."""
    return f'<h2 id="{anchor(words)}">{markup(words)}</h2>'


def contents(titles: Sequence[str]) -> str:
    """The table of contents: a link to each heading."""
    items = "".join(f'<li><a href="#{anchor(title)}">{markup(title)}</a></li>' for title in titles)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def figure(name: str, caption: str, alternative: str, svg: bytes) -> str:
    """An SVG inside the page, with links to the same as PDF and PNG; `alternative` says what is shown."""
    data = base64.b64encode(svg).decode()
    files = f"{link(f'{name}.pdf', 'PDF')}, {link(f'{name}.png', 'PNG')}"
    return (
        f'<figure><div class="scroll"><img alt="{text(alternative)}" style="--width: {_width(svg):.0f}px" '
        f'src="data:image/svg+xml;base64,{data}"></div>'
        f"<figcaption>{markup(caption)} ({files})</figcaption></figure>"
    )


def _width(svg: bytes) -> float:
    """Of an SVG by Matplotlib, in pixels of CSS; 960 if it does not say."""
    found = re.search(rb'<svg[^>]* width="([\d.]+)pt"', svg)
    return float(found[1]) * 4 / 3 if found else 960.0


def table(rows: Sequence[Sequence[str]], cell: Callable[[str], str] = markup, look: str = "") -> str:
    """A table whose first row is its heading; a screen that is too narrow for it scrolls it alone."""
    head, *body = rows
    inside = f"<tr>{''.join(f'<th>{cell(one)}</th>' for one in head)}</tr>"
    for row in body:
        inside += f"<tr>{''.join(_cell(one, cell(one)) for one in row)}</tr>"
    return f'<div class="scroll" tabindex="0"><table{f" class={look}" if look else ""}>{inside}</table></div>'


def _cell(words: str, inside: str) -> str:
    return f'<td class="long">{inside}</td>' if len(words) > LONG else f"<td>{inside}</td>"


def pairs(rows: Sequence[Sequence[str]]) -> str:
    """A table of names and values as they are, without symbols."""
    return table(rows, text, "pairs")


def bullets(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{markup(item)}</li>" for item in items) + "</ul>"


def definitions(entries: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{markup(k)}</dt><dd>{markup(v)}</dd>" for k, v in entries.items()) + "</dl>"


def paragraph(words: str, look: str = "") -> str:
    """A paragraph; `look` is a class of STYLE."""
    return f'<p class="{look}">{markup(words)}</p>' if look else f"<p>{markup(words)}</p>"


def small(words: str) -> str:
    return paragraph(words, "small")


def folded(title: str, inside: str) -> str:
    """What a reader unfolds; print shows it."""
    return f"<details><summary>{markup(title)}</summary>{inside}</details>"


def verbatim(words: str) -> str:
    """Text to be copied: one click selects it."""
    return f"<pre>{text(words)}</pre>"


def link(target: str, words: str = "") -> str:
    """A link to a file beside the page, or to another page; without words the file's name, as code."""
    return f'<a href="{text(target)}">{text(words) or f"<code>{text(target)}</code>"}</a>'


def files(tables: Sequence[str]) -> str:
    """What lies beside the page, with these CSV tables, and the run above it."""
    beside = ", ".join(link(name) for name in ("summary.txt", "fits.json", "provenance.json",
                                               *(f"{one}.csv" for one in tables)))  # fmt: skip
    run = f"{link('../study.toml', 'the study')} and {link('../store.zarr', 'the store of all values')}"
    return f"<p>Beside this file: {beside}, and every figure as PDF and PNG. Above it: {run}.</p>"


def text(words: str) -> str:
    return html.escape(words)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
