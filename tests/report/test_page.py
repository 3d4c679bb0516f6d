"""The page of a report: it stands alone, can be cited alone, and every link of it leads somewhere."""

import base64
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
import xarray
from matplotlib.figure import Figure
from support.pages import dangling
from support.runs import run_shards, tiny_text

from analysis import report
from analysis.report import closing, page, plotting
from analysis.report.alternative import alternative
from analysis.report.section import led
from analysis.report.symbols import markup
from ntkhpc import references, studies
from ntkhpc.engine import run
from ntkhpc.engine.run import Run
from ntkhpc.studies import facts

VOID = {"meta", "img", "br"}


class Read(HTMLParser):
    """Tags with their attributes, and the text; an unbalanced page is refused."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str, name: str) -> list[str]:
        return [attributes[name] for one, attributes in self.tags if one == tag and name in attributes]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.fixture(params=["finished", "posterior"])
def reported(request: pytest.FixtureRequest) -> Run:
    found: Run = request.getfixturevalue(request.param)
    return found


def source(target: Run) -> str:
    return (target.path / "analysis" / "report.html").read_text()


def seen(words: str) -> str:
    """Words of the code as a reader of the page sees them, without tags."""
    return " ".join(Read(f"<p>{markup(words)}</p>").text.split())


@pytest.mark.promise("report.html needs no other file and no network.")
def test_the_report_needs_no_other_file_and_no_network(reported: Run) -> None:
    """Links may lead out of it; nothing that it shows is fetched."""
    read = Read(source(reported))
    fetching = {"script", "link", "iframe", "object", "embed", "base", "audio", "video", "source"}
    assert not {tag for tag, _ in read.tags} & fetching
    assert len(read.all("img", "src")) == len(list((reported.path / "analysis").glob("*.png"))) > 5
    assert all(one.startswith("data:image/svg+xml;base64,") for one in read.all("img", "src"))
    assert not re.search(r"url\(|@import", source(reported).split("</style>")[0])
    for _, attributes in read.tags:
        assert not {"srcset", "poster", "background", "http-equiv"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]


@pytest.mark.promise("Every link of a report leads to a place of its page, to a file of the run, or to a paper.")
def test_every_link_leads_somewhere(reported: Run) -> None:
    read = Read(source(reported))
    targets = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(targets) == len(set(targets))
    links = read.all("a", "href")
    cited = {one.link for one in (references.SOFTWARE, *reported.study.references)}
    for link in links:
        if link.startswith("#"):
            assert link[1:] in targets, link
        elif link.startswith("https://arxiv.org/abs/"):
            assert link in cited, link
        elif not link.startswith("https://doi.org/"):
            assert (reported.path / "analysis" / link).exists(), link
    beside = {path.name for path in (reported.path / "analysis").iterdir()} - {"report.html"}
    assert beside | {"../study.toml", "../store.zarr"} <= set(links)


@pytest.mark.promise("No sentence of a report introduces a list, table or figure that is left out.")
def test_no_sentence_introduces_what_is_left_out(reported: Run) -> None:
    assert dangling(source(reported)) == []
    lead, items = "<p>What can make it flat:</p>", "<ul><li>one</li></ul>"
    assert dangling(f"{lead}{items}<p>It is so.</p>") == []
    assert dangling(f"{lead}<p>Mind:</p>{items}") == ["What can make it flat:"]
    assert dangling("<p>At <i>infinite</i> width,</p><p>It is so.</p>") == ["At infinite width,"]
    assert dangling('<h2 id="a">A</h2><h2 id="b">B</h2><p>It is so.</p>') == ["A"]
    assert led("Such as:", ["", "one"], alone="None.") == ["Such as:", ["one"]]
    assert led("Such as:", [""], alone="None.") == ["None."]
    assert led("Such as:", []) == []


def test_the_contents_name_every_heading_in_order(reported: Run) -> None:
    text = source(reported)
    headings = re.findall(r'<h2 id="(.*?)">(.*?)</h2>', text)
    [contents] = re.findall(r"<nav[^>]*>(.*?)</nav>", text)
    assert re.findall(r'<a href="#(.*?)">(.*?)</a>', contents) == headings
    assert [title for _, title in headings[-5:]] == [
        "Methods", "What the words mean", "Settings", "Where this comes from", "References"
    ]  # fmt: skip


def test_the_methods_are_those_of_the_study_with_what_was_found_and_the_software(reported: Run) -> None:
    text = Read(source(reported)).text
    for words in reported.study.methods():
        assert seen(words) in text
    versions = reported.manifest.versions
    for name in ("python", "jax", "numpy"):
        assert f"{name} {versions[name]}" in text
    assert reported.manifest.code[:12] in text
    rates = re.search(r"Learning rates are (\S+) to (\S+), over sizes", text)
    assert (rates is not None) == (reported.layout.kind.name == "ensemble")


def test_the_learning_rates_of_the_methods_are_those_that_were_used(finished: Run) -> None:
    stored = xarray.open_zarr(finished.store, chunks=None).learning_rate.values
    low, high = re.findall(r"Learning rates are (\S+) to (\S+), over", Read(source(finished)).text)[0]
    assert (float(low), float(high)) == pytest.approx((stored.min(), stored.max()), rel=0.01)


def test_the_settings_hold_every_field_of_the_study(reported: Run) -> None:
    rows = dict(closing.settings(reported.study)[1:])
    assert json.loads(rows["data.source"]) == "calorimeter"
    assert json.loads(rows["data.pool"]) == reported.study.data.pool

    def leaves(table: dict, place: str) -> list[str]:
        return [name for key, value in table.items() for name in
                (leaves(value, f"{place}{key}.") if isinstance(value, dict) else [f"{place}{key}"])]  # fmt: skip

    fields = leaves(msgspec.to_builtins(msgspec.structs.replace(reported.study, facts=None)), "")
    assert set(rows) == set(fields) - {"facts"}
    text = source(reported)
    for name, value in rows.items():
        assert f"<td>{name}</td>" in text
        assert f">{html.escape(value)}</td>" in text


def test_the_references_have_bibtex_that_can_be_copied(reported: Run) -> None:
    text = source(reported)
    [entries] = re.findall("<pre>(.*?)</pre>", text, re.DOTALL)
    cited = references.unique((references.SOFTWARE, *reported.study.references))
    assert html.unescape(entries) == "\n\n".join(one.bibtex() for one in cited)
    read = Read(text).text
    for one in cited:
        assert f"{one.cited()}" in read
    assert "user-select: all" in page.STYLE


def test_figures_are_svg_that_says_what_it_shows_and_refers_to_nothing_outside(reported: Run) -> None:
    read = Read(source(reported))
    alternatives = read.all("img", "alt")
    assert len(set(alternatives)) == len(alternatives)
    for words in alternatives:
        assert len(words) > 40
        assert "$" not in words
        assert "\\" not in words
    for one in read.all("img", "src"):
        svg = base64.b64decode(one.partition("base64,")[2]).decode()
        assert svg.lstrip().startswith("<?xml")
        targets = set(re.findall(r'\bid="([^"]+)"', svg))
        assert set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg)) <= targets
        assert not re.search(r'href="(?!#|data:image/png;base64,)', svg)
        assert "<dc:date>" not in svg
    assert len(source(reported)) < 1.5e6


@pytest.mark.promise("A report is readable on a phone: wide tables and figures scroll by themselves.")
def test_what_is_wide_scrolls_by_itself(reported: Run) -> None:
    text = source(reported)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    for tag in ("<table", "<img "):
        assert text.count(tag) == len(re.findall(rf'<div class="scroll"[^>]*>{tag}', text)) > 3
    assert ".scroll { overflow-x: auto" in page.STYLE
    assert "pre { padding: .6rem .8rem; overflow-x: auto" in page.STYLE


def test_a_figure_is_drawn_alike_twice_and_its_numbers_are_short() -> None:
    def drawn() -> Figure:
        with plotting.style():
            figure = Figure(figsize=(3, 2))
            figure.subplots().plot([1.23456789, 2.3456789], [0.1, 7.7], label="line")
        return figure

    first, second = plotting.svg(drawn()), plotting.svg(drawn())
    assert first == second
    paths = re.findall(rb'\bd="([^"]*)"', first)
    assert paths
    assert not [one for one in paths if re.search(rb"\.\d{3}", one)]


def test_the_words_for_a_figure_name_its_axes_and_what_is_drawn() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([1], [1], label="width 8")
    left.set_xlabel("training samples $N_D$")
    left.set_ylabel("relative spread $\\epsilon_L = \\sigma_L/\\mu_L$")
    right.set_title("order parameter $\\bar Q$")
    right.plot([1], [1], label="$\\epsilon_\\mathrm{pop}$")
    assert alternative("two_panels", figure) == (
        "two panels: relative spread eps_L = sigma_L/mu_L against training samples N_D. panels: order parameter Qb. "
        "shown: width 8; eps_pop"
    )
    assert alternative("empty", Figure()) == "empty"


def test_a_run_of_a_table_is_described_by_its_file_and_columns(tmp_path: Path) -> None:
    lines = ["pt,eta,energy", *(f"{i}.5,{(7 * i) % 13}.25,{3 + i % 17}" for i in range(80))]
    (tmp_path / "jets.csv").write_text("\n".join(lines) + "\n")
    text = tiny_text().replace(
        'source = "calorimeter"',
        'source = "file"\npath = "jets.csv"\nx = ["pt", "eta"]\ny = ["energy"]\ntarget = "log"\ntarget_unit = "GeV"',
    )
    target = run.create(tmp_path / "runs", facts.resolve(studies.loads(text), tmp_path))
    done = run_shards(target, ["data-0"])
    assert done.returncode == 0, done.stderr
    report.make(target, partial=True)
    text = Read(source(target)).text
    assert "the table jets.csv (80 rows" in text
    assert "pt and eta" in text
    assert "the logarithm of energy in GeV" in text
    assert "Grindhammer" not in text
