"""Sections of reports: what is left out, what is added, and that the page tells of every file."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.pages import dangling
from support.runs import ROOT, reseal

from analysis import ensemble, posterior, report
from analysis.ensemble.results import EnsembleResults
from analysis.posterior.results import PosteriorResults
from analysis.report.numbers import two_digits
from analysis.report.section import Section, Table
from analysis.report.symbols import markup
from ntkhpc.engine.run import Run


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run that a test may spoil, without its report."""
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    shutil.rmtree(copy.path / "analysis")
    return copy


def drop(target: Run, pattern: str) -> None:
    """Take arrays out of the store, as if it had never had them."""
    known = json.loads((target.store / "zarr.json").read_text())
    metadata = known["consolidated_metadata"]["metadata"]
    for name in [name for name in metadata if re.match(pattern, name)]:
        metadata.pop(name)
        shutil.rmtree(target.store / name)
    (target.store / "zarr.json").write_text(json.dumps(known))
    reseal(target)


def headings(target: Run) -> list[str]:
    return re.findall("<h2 id=.*?>(.*?)</h2>", (target.path / "analysis" / "report.html").read_text())


def of(target: Run, name: str) -> str:
    return (target.path / "analysis" / name).read_text()


def test_the_kinds_of_reports_know_nothing_of_one_another() -> None:
    """And the statistics nothing of reports."""
    folder = ROOT / "analysis"
    for path in sorted(folder.glob("*.py")):
        if path.name not in ("__main__.py", "phase.py", "showers.py"):
            assert not re.search(r"analysis(\.| import )(report|ensemble|posterior|comparison)", path.read_text()), path
    foreign = {"ensemble": "posterior|comparison", "posterior": "ensemble|comparison", "comparison": "posterior"}
    for own, others in foreign.items():  # variants of a comparison are ensembles
        for path in sorted((folder / own).glob("*.py")):
            assert not re.search(rf"analysis(\.| import )({others})", path.read_text()), path


def test_a_page_tells_of_every_file_and_of_no_other(finished: Run, posterior: Run) -> None:
    for target in (finished, posterior):
        folder, page = target.path / "analysis", of(target, "report.html")
        figures = set(re.findall(r'href="(\w+)\.png"', page))
        assert page.count("<img ") == len(figures) == page.count(">PNG</a>")
        named = set(re.findall(r"<code>([\w-]+\.(?:json|csv))</code>", page))
        drawn = {f"{name}.{ending}" for name in figures for ending in ("pdf", "png")}
        assert {path.name for path in folder.iterdir()} == named | drawn | {"report.html", "summary.txt"}


@pytest.mark.parametrize(
    ("arrays", "gone", "figures", "files"),
    [
        ("curve_", {"What can make eps_L flat"}, {"flattening"}, {"curve"}),
        (
            "law_",
            {"Does finite width differ from infinite width?", "Learning curves", "What can make eps_L flat",
             "The distribution of the loss", "Finite width"},
            {"learning_curves", "flattening", "distribution", "width_dependence"},
            {"curve"},
        ),
        ("(law|curve)_",
         {"Does finite width differ from infinite width?", "Learning curves", "What can make eps_L flat",
          "The distribution of the loss", "Finite width"},
         {"learning_curves", "flattening", "distribution", "width_dependence"}, {"curve"}),
    ],
)  # fmt: skip
def test_sections_of_an_ensemble_whose_arrays_are_not_in_the_store_are_left_out(
    finished: Run, copied: Run, arrays: str, gone: set[str], figures: set[str], files: set[str]
) -> None:
    drop(copied, arrays)
    report.make(copied)
    assert headings(copied) == [title for title in headings(finished) if title not in set(map(markup, gone))]
    assert dangling(of(copied, "report.html")) == []
    lacking = {path.name for path in (finished.path / "analysis").iterdir()}
    lacking -= {path.name for path in (copied.path / "analysis").iterdir()}
    assert lacking == {f"{name}.{end}" for name in figures for end in ("pdf", "png")} | {
        f"{name}.csv" for name in files
    }
    whole, found = (json.loads(of(target, "fits.json")) for target in (finished, copied))
    assert whole.keys() == found.keys()
    own = "mu_L" if "law" in arrays else "law_mu_L"
    moments, known = (pd.read_csv(target.path / "analysis" / "moments.csv") for target in (copied, finished))
    assert np.array_equal(moments[own], known[own])
    assert ("infinite width" in of(copied, "summary.txt")) == ("law" not in arrays)
    assert "nan" not in of(copied, "summary.txt").lower()


@pytest.mark.parametrize(
    ("arrays", "gone", "key", "empty"),
    [
        ("adaptive_", set(), "adaptive_kernel", []),
        ("sample_|chain_", {"Chains"}, "sampled", {}),
        ("(temperature|readout)_(bias|variance|q_bar)", {"Temperature and read-out precision"}, "missing", ""),
    ],
)
def test_sections_of_a_posterior_whose_arrays_are_not_in_the_store_are_left_out(
    posterior: Run, posterior_copy: Run, arrays: str, gone: set[str], key: str, empty: object
) -> None:
    shutil.rmtree(posterior_copy.path / "analysis")
    drop(posterior_copy, arrays)
    report.make(posterior_copy)
    assert headings(posterior_copy) == [title for title in headings(posterior) if title not in gone]
    assert json.loads(of(posterior_copy, "fits.json"))[key] == empty
    assert json.loads(of(posterior_copy, "fits.json")).keys() == json.loads(of(posterior, "fits.json")).keys()
    assert dangling(of(posterior_copy, "report.html")) == []
    page = re.sub("<[^>]*>", " ", of(posterior_copy, "report.html"))
    assert " nan" not in page.lower()
    assert ("adaptive kernel" in page) == (arrays != "adaptive_")
    assert ("no networks were sampled (their arrays are not in the store)" in page) == ("Chains" in gone)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "by an older version"])
def test_a_second_report_leaves_no_figure_or_table_of_the_first_and_all_files_of_the_user(
    finished: Run, tmp_path: Path, listed: bool
) -> None:
    target = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    folder = target.path / "analysis"
    made_from = json.loads(of(target, "provenance.json"))
    assert made_from["files"].keys() == {path.name for path in folder.iterdir()} - {"provenance.json"}
    if not listed:
        del made_from["files"], made_from["sha256"], made_from["results"]
        (folder / "provenance.json").write_text(json.dumps(made_from))
    own = {"mine.csv", "my_curve.pdf", "talk.png", "notes.txt"}
    for name in own:
        (folder / name).write_text("mine")
    before = {path.name for path in folder.iterdir()}
    drop(target, "curve_")
    report.make(target)
    assert before - {path.name for path in folder.iterdir()} == {"curve.csv", "flattening.pdf", "flattening.png"}
    assert {name for name in own if of(target, name) == "mine"} == own


def test_files_that_an_earlier_report_lists_elsewhere_are_left_alone(finished: Run, tmp_path: Path) -> None:
    target = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    elsewhere = tmp_path / "results.csv"
    elsewhere.touch()
    listed = {"files": [str(elsewhere), "../../results.csv", "../study.toml", "gone.csv"]}
    (target.path / "analysis" / "provenance.json").write_text(json.dumps(listed))
    report.make(target)
    assert elsewhere.exists()
    assert (target.path / "study.toml").exists()


def scratch(results: EnsembleResults | PosteriorResults) -> Figure:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(results.store.y_test.values.ravel())
    return figure


SCRATCH: Section = Section(
    title="A scratch section",
    needs=("y_test",),
    claim=lambda results: "A scratch claim.",
    figure=scratch,
    caption="What was scratched.",
    tables=lambda results: [Table([("scratched", "how often"), ("y", "3 & 4")], "A scratch note.")],
    sentences=lambda results: ["It says:", ["one <thing>", "another"]],
    cautions=lambda results: ["scratches are shallow"],
    summary=lambda results: ["scratched 7 times"],
    fits=lambda results: {"scratch": 7},
    files=lambda results: {"scratches": pd.DataFrame({"depth": [0.1]})},
)


@pytest.mark.parametrize("kind", [ensemble, posterior], ids=["ensemble", "posterior"])
def test_a_section_is_in_every_part_of_the_report_once_it_is_in_the_list(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: object
) -> None:
    original = request.getfixturevalue("finished" if kind is ensemble else "posterior")
    target = Run(shutil.copytree(original.path, tmp_path / "copy"))
    impossible = dataclasses.replace(SCRATCH, title="Impossible", needs=("no_such_array",))
    monkeypatch.setattr(kind, "SECTIONS", [*kind.SECTIONS, SCRATCH, impossible])
    report.make(target)
    page, known = of(target, "report.html"), headings(original)
    last = known.index("Methods")
    assert headings(target) == [*known[:last], "A scratch section", *known[last:]]
    for part in (
        '<p class="claim">A scratch claim.</p>', '<img alt="scratch"', "<figcaption>What was scratched. (",
        "<td>3 &amp; 4</td>", '<p class="small">A scratch note.</p>', "<p>It says:</p>", "<li>one &lt;thing&gt;</li>",
        "<li>scratches are shallow</li>", "<code>scratches.csv</code>",
    ):  # fmt: skip
        assert page.count(part) == 1, part
    assert page.index("scratches are shallow") < page.index(f">{known[1]}</h2>")
    assert "scratched 7 times\n\nA scratch claim.\n\nmind: " in of(target, "summary.txt")
    assert of(target, "summary.txt").endswith("mind: scratches are shallow\n")
    assert json.loads(of(target, "fits.json"))["scratch"] == 7
    assert of(target, "scratches.csv") == "depth\n0.1\n"
    assert (target.path / "analysis" / "scratch.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "0.012"),
        (1.64, "1.6"),
        (9.96, "10"),
        (64.2, "64"),
        (164.0, "160"),
        (1.66e6, "1,700,000"),
        (-164.0, "-160"),
    ],
)
def test_two_digits_are_never_a_power_of_ten(value: float, text: str) -> None:
    assert two_digits(value) == text
