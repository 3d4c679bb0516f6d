"""The documentation: its generated pages hold what they are generated from, and each promise has a test that runs."""

import ast
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from support.runs import ROOT

from ntkhpc.engine.run import Run

HOOKS = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
PROMISES = HOOKS["promises"]()


def page(name: str) -> str:
    """A page as mkdocs gets it, its generated parts filled in."""
    return HOOKS["on_page_markdown"]((ROOT / "docs" / name).read_text())


def test_every_promise_is_made_once_and_is_on_the_page() -> None:
    said = [promise.text for promise in PROMISES]
    assert len(said) == len(set(said)) > 100
    written = page("promises.md").replace("\\", "")
    for promise in PROMISES:
        assert f"- {promise.text}" in written
        assert f"`{promise.path}::{promise.test}`" in written
    assert "(Generated:" not in written


def test_every_mark_of_a_promise_is_found() -> None:
    """Also where a test is a method or where the mark is written in a way that `promises` does not read."""
    written = sum(path.read_text().count("@pytest.mark.promise") for path in (ROOT / "tests").rglob("test_*.py"))
    own = (ROOT / "tests" / "test_docs.py").read_text().count("@pytest.mark.promise")
    assert len(PROMISES) == written - own


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.test)
def test_what_keeps_a_promise_has_no_mark_and_no_statement_that_skip_it_everywhere(promise) -> None:
    """A mark `skip` or `xfail` on the test or its module, or a call of them as a statement of either, is refused.

    What depends on the machine is not seen: `skipif`, and a `pytest.skip` inside an `if` or in a fixture.
    """
    tree = ast.parse((ROOT / promise.path).read_text())
    (test,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == promise.test]
    marks = [ast.unparse(one) for one in (*test.decorator_list, *tree.body) if not isinstance(one, ast.FunctionDef)]
    assert not [one for one in marks if re.search(r"mark\.(skip\b|xfail)", one)]
    assert not [one for one in (*test.body, *tree.body) if re.match(r"pytest\.(skip|xfail)\(", ast.unparse(one))]


@pytest.mark.parametrize("kind", ["finished", "posterior"])
def test_the_page_of_the_store_has_every_array_of_a_real_store(kind: str, request: pytest.FixtureRequest) -> None:
    """With the dimensions and the type that its metadata say."""
    run: Run = request.getfixturevalue(kind)
    written = page("store.md")
    arrays = {path.parent.name: json.loads(path.read_text()) for path in run.store.glob("*/zarr.json")}
    assert len(arrays) > 20
    for name, metadata in arrays.items():
        rows = re.findall(rf"^\| `{name}` \| ([^|]*) \| (\w+) \|", written, re.MULTILINE)
        stored = (metadata["dimension_names"], metadata["data_type"])
        assert stored in [(dims.split(", "), np.dtype(dtype).name) for dims, dtype in rows], name


def test_rows_of_the_page_of_the_store_have_six_cells() -> None:
    rows = [line for line in page("store.md").splitlines() if line.startswith("| `")]
    assert {len(re.split(r"(?<!\\)\|", row)) - 2 for row in rows} == {6}


def test_every_page_is_in_the_menu_and_every_link_of_the_readme_leads_somewhere() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert f": {path.name}" in menu, path
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_files_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = {name for name in re.findall(r"`([\w./<>]+)`", text) if "/" in name and name.endswith((".py", ".toml"))}
    assert len(named) > 10
    for name in named:
        choices = [name.replace("<kind>", kind) for kind in ("ensemble", "posterior")]
        assert any((top / one).exists() for top in (ROOT, ROOT / "ntkhpc") for one in choices), name


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_of_the_library_runs(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "my-run").symlink_to(finished.path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("docs/library.md"):
        exec(compile(block, "docs/library.md", "exec"), names)
    assert names["curve"].sizes == {"n_train": 3}
    assert names["showers"].shape == (2, 12, 12, 12)
    assert np.isfinite(names["fit"].exponent)
