"""Variables NTKHPC_* stand for options that were not given."""

from pathlib import Path

import pytest

from ntkhpc.options import SWITCHES, VERBS, parse, variable


@pytest.fixture(autouse=True)
def _nothing_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in ("task", "runs", "run", "cores", "profile", "error", "quantity", "out", *SWITCHES):
        monkeypatch.delenv(variable(option), raising=False)


def exported(monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    for option, value in options.items():
        monkeypatch.setenv(variable(option), value)


def test_without_either_there_are_defaults() -> None:
    options = parse(["resume"])
    assert (options.task, options.run, options.runs, options.cores) == ("", "", Path("runs"), None)
    assert not options.retry
    assert not options.profile


def test_a_variable_stands_for_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, task="mnist; --help", runs="r", cores="3", profile="p", retry="1", accept_change="YES")
    options = parse(["submit"])
    assert (options.task, options.runs, options.cores, options.profile) == ("mnist; --help", Path("r"), 3, "p")
    assert (options.retry, options.accept_change, options.take_over) == (True, True, False)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, task="", runs="", cores="", run="", retry="")
    assert vars(parse(["resume"])) == vars(parse(["resume", "--task=", "--no-retry"]))


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, task="a", runs="a", cores="1", profile="a", retry="1", take_over="0")
    options = parse(["submit", "--task=b", "--runs=b", "--cores=2", "--profile=b", "--no-retry", "--take-over"])
    assert (options.task, options.runs, options.cores, options.profile) == ("b", Path("b"), 2, "b")
    assert not options.retry
    assert options.take_over


def test_an_exported_run_hides_no_task_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, run="runs/old", task="older")
    assert parse(["status"]).run == "runs/old"
    assert parse(["status", "--task=new"]).run == ""
    assert parse(["status", "--run=runs/new"]).run == "runs/new"


@pytest.mark.parametrize("word", ["2%", " 2 % ", "0.02", "2e-2"])
def test_errors_to_reach_are_shares(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, error=word, quantity="mu_L", out="a.toml")
    options = parse(["design"])
    assert (options.error, options.quantity, options.out) == (pytest.approx(0.02), "mu_L", Path("a.toml"))


@pytest.mark.parametrize("word", ["0", "no", "False", "off", ""])
def test_words_that_switch_off(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(monkeypatch, partial=word)
    assert not parse(["report"]).partial


def test_nonsense_is_refused_where_it_would_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(monkeypatch, set_aside="flase", cores="many")
    with pytest.raises(SystemExit, match="2"):
        parse(["verify"])
    assert "NTKHPC_SET_ASIDE: 'flase' is neither on" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        parse(["submit"])
    assert "'many' is not a positive whole number" in capsys.readouterr().err
    assert parse(["status"]).verb == "status"


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_option_names_its_variable(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse([verb, "--help"])
    said = capsys.readouterr().out
    options = {word.strip("[]") for word in said.split() if word.startswith(("--", "[--")) and "--no-" not in word}
    for option in options - {"--help", "--set-aside,", "--runs,"}:
        name = variable(option.strip("-,").replace("-", "_"))
        assert f"[{name}]" in said or f"[{name}=1]" in said, option
