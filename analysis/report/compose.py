"""From a list of sections to a report: its page, figures, tables, fits and summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from analysis.report import closing, page
from analysis.report.alternative import alternative
from analysis.report.plotting import mark_partial, style
from analysis.report.publication import Publication
from analysis.report.section import R, Section
from analysis.report.symbols import markup


@dataclass(frozen=True)
class Cover:
    """What a report says outside its sections.

    `name` is the study's, `run_name` the run's; `subject` says what the report is about, `about` what was computed,
    `preface` what a reader must know first. `measured` are sentences of the methods that the study alone does not tell.
    `definitions` explain words. `fits` holds every documented key of fits.json with the value that it has where the
    section that fills it is left out.
    """

    name: str
    run_name: str
    subject: str
    about: str
    definitions: Mapping[str, str]
    fits: Mapping[str, Any]
    preface: str = ""
    measured: Sequence[str] = ()


def compose(sections: Sequence[Section[R]], results: R, cover: Cover) -> Publication:
    """The report of those sections whose arrays are in the store."""
    there = [section for section in sections if section.is_possible(results.store)]
    figures = _drawn(there, results)
    files = {name: frame for section in there for name, frame in section.files(results).items()}
    fits = dict(cover.fits)
    for section in there:
        fits |= section.fits(results)
    return Publication(
        figures=figures,
        fits=fits,
        tables=files,
        summary=_summary(there, results),
        page=partial(_page, there, results, cover, _alternatives(figures), tuple(files)),
    )


def cautions(sections: Sequence[Section[R]], results: R) -> list[str]:
    """What a careful reader should know before using the numbers; nothing where nothing is wrong."""
    found = [f"PARTIAL: {results.missing}; numbers will change"] if results.missing else []
    found += [results.conflicts] if results.conflicts else []
    return found + [text for section in sections for text in section.cautions(results)]


def _drawn(sections: Sequence[Section[R]], results: R) -> dict[str, Figure]:
    """Every figure by the name of its files; a banner on each if shards are missing."""
    drawn = {}
    with style():
        for section in sections:
            if (figure := section.figure(results)) is not None:
                mark_partial(figure, results.missing)
                drawn[section.figure_name] = figure
    return drawn


def _summary(sections: Sequence[Section[R]], results: R) -> str:
    """The end of `make submit`."""
    lines: list[str] = []
    for section in sections:
        lines += section.summary(results)
        if claim := section.claim(results):
            lines += ["", claim]
    if found := cautions(sections, results):
        lines += ["", *(f"mind: {text}" for text in found)]
    return "\n".join(lines) + "\n"


def _alternatives(figures: Mapping[str, Figure]) -> dict[str, str]:
    return {name: alternative(name, figure) for name, figure in figures.items()}


def _page(
    sections: Sequence[Section[R]], results: R, cover: Cover, alternatives: Mapping[str, str], files: Sequence[str],
    made_from: dict[str, Any], drawn: Mapping[str, bytes],
) -> str:  # fmt: skip
    """The HTML, from the provenance and the figures as SVG."""
    pictures = {name: (words, drawn[name]) for name, words in alternatives.items()}
    first, *others = _chapters(sections, results, pictures) or [("", [])]
    if found := cautions(sections, results):
        first[1].extend([page.paragraph("Mind:"), page.bullets(found)])
    chapters = [first, *others, *_closing(results, cover, files, made_from)]
    parts = [
        f"<h1>{page.text(cover.name)}</h1>",
        f'<p class="small">{markup(cover.subject)} Run <code>{page.text(cover.run_name)}</code>: '
        f"{markup(cover.about)}</p>",
    ]
    if results.missing:
        parts.append(page.paragraph(f"PARTIAL REPORT: {results.missing}.", "partial"))
    parts += [page.paragraph(claim, "claim") for section in sections if (claim := section.claim(results))]
    if cover.preface:
        parts.append(page.paragraph(cover.preface))
    parts.append(page.contents([title for title, _ in chapters if title]))
    for title, inside in chapters:
        parts += [page.heading(title), *inside] if title else inside
    return page.document(cover.run_name, parts)


def _closing(results: R, cover: Cover, files: Sequence[str], made_from: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What follows the results: how they were made, from what, and whom to cite."""
    study = results.study
    settings = f"Every field of the study, as {page.link('../study.toml')} has it:"
    return [
        ("Methods", [page.paragraph(one) for one in closing.methods(study, cover.measured, made_from)]),
        ("What the words mean", [page.definitions(cover.definitions)]),
        ("Settings", [f"<p>{settings}</p>", page.folded("All settings", page.pairs(closing.settings(study)))]),
        ("Where this comes from", [page.pairs(closing.provenance_rows(made_from)), page.files(files)]),
        ("References", closing.citations(study)),
    ]


def _chapters(
    sections: Sequence[Section[R]], results: R, pictures: Mapping[str, tuple[str, bytes]]
) -> list[tuple[str, list[str]]]:
    """Each heading, with the HTML of what stands below it."""
    chapters: list[tuple[str, list[str]]] = []
    for section in sections:
        if not (parts := _parts(section, results, pictures)):
            continue
        if section.title or not chapters:
            chapters.append((section.title, parts))
        else:
            chapters[-1][1].extend(parts)
    return chapters


def _parts(section: Section[R], results: R, pictures: Mapping[str, tuple[str, bytes]]) -> list[str]:
    parts = []
    for part in section.order:
        if part == "figure" and section.figure_name in pictures:
            parts.append(page.figure(section.figure_name, section.caption_of(results), *pictures[section.figure_name]))
        elif part == "tables":
            for table in section.tables(results):
                parts += [page.table(table.rows), *([page.small(table.note)] if table.note else [])]
        elif part == "sentences":
            said = [one for one in section.sentences(results) if one]
            parts += [page.paragraph(one) if isinstance(one, str) else page.bullets(one) for one in said]
    return parts
