"""What is printed: nothing of it commands a terminal, and nothing that refuses it ends a computation."""

import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.table import Table
from support.runs import ROOT, make_run, ntkhpc, tiny_text

from ntkhpc import cli, errors, terminal
from ntkhpc.engine import claims, failures
from ntkhpc.engine.run import Run
from ntkhpc.errors import DataError, RunError
from ntkhpc.launch import local, slurm
from ntkhpc.launch.console import console

HOSTILE = {
    "clear screen": "\x1b[2J",
    "title": "\x1b]0;owned\x07",
    "colour": "\x1b[31m",
    "link": "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\",
    "C1": "\x9b31m\x90\x9d0;t\x9c",
    "carriage return": "done\rfailed",
    "backspace": "ab\b\bcd",
    "delete": "a\x7fb",
    "right to left": "gpj.\u202eexe.txt",
    "isolates": "\u2066a\u2069\u2067b",
    "mark": "\u200f\u061c",
    "invisible": "a\u200bb\ufeffc\U000e0041",
    "line separator": "a\u2028b\u2029c",
    "not UTF-8": "a\udcff\udc9bb",
    "null": "a\0b",
    "form feed": "a\x0cb\x0bc",
}


def commands(text: str) -> set[str]:
    """Characters that command a terminal or turn the order of others, by Unicode's own table."""
    return {one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - set("\n\t")


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_commands_a_terminal_is_shown_instead(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"begin {HOSTILE[kind]} end"
    assert commands(text)
    shown = terminal.plain(text)
    assert not commands(shown)
    assert shown.startswith("begin ")
    assert shown.endswith(" end")
    before = sys.stdout, sys.stderr
    try:
        terminal.guard()
        print(text)
        print(text, file=sys.stderr)
        made = console()
        made.print(text, markup=False)
        table = Table("name")
        table.add_row(text)
        made.print(table)
        made.rule(text)
    finally:
        sys.stdout, sys.stderr = before
    said = capsys.readouterr()
    assert not commands(said.out + said.err)
    assert shown in said.out
    assert shown in said.err


def test_what_is_no_command_is_left_as_it_is() -> None:
    text = "σ_E/E = 17 ± 2 %\tgrün, 日本語, नमस्ते, می\u200cخواهم, 👩\u200d🔬 \\x1b\n"
    assert terminal.plain(text) == text
    assert all(terminal.plain(chr(code)) != chr(code) for code in (0x1B, 0x9B, 0x202E, 0x0D, 0xDC9B))


def test_every_character_of_unicode_that_commands_is_known() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert commands(terminal.plain(every)) == {"\u200c", "\u200d"}


def test_the_consoles_own_colours_reach_a_terminal() -> None:
    made = console()
    made.file = io.StringIO()
    made._force_terminal, made._color_system = True, made._detect_color_system() or made._color_system
    made.print("[bold]a\x1b[2Jb[/bold]")
    assert "a\\x1b[2Jb" in made.file.getvalue()


@pytest.mark.promise(
    "Escape sequences in names of files and studies, in messages and in SLURM's answers are shown, not sent."
)
@pytest.mark.parametrize("kind", ["clear screen", "title", "C1", "right to left", "carriage return", "not UTF-8"])
def test_names_of_files_and_words_of_the_command_line_reach_no_terminal(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = HOSTILE[kind].replace("/", "-")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "t.toml").write_text(tiny_text().replace('"calorimeter"', '"file"\npath = "no\\u001b[2J.csv"'))
    for words in (
        ["plan", f"--task={folder}/t.toml"], ["plan", f"--task={folder}/none.toml"], ["status", f"--run={folder}"],
        ["plan", f"--{name}"], [name], ["plan", f"--task={name}"], ["submit", "--task=x", f"--profile={name}"],
        ["submit", f"--task={name}", f"--cores={name}"],
    ):  # fmt: skip
        with contextlib.suppress(SystemExit):  # argparse ends the process itself
            assert cli.main(words) in (1, 2)
        said = capsys.readouterr()
        assert said.out + said.err
        assert not commands(said.out + said.err), words


def test_records_of_failures_owners_and_the_queue_reach_no_terminal(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_run(runs)
    owner = claims.Owner(attempt="a", host="no\x1b[2Jde", boot="", pid=1, started="", job=None)
    shard = target.plan.of_phase("data")[0]
    failures.record(target, shard, owner, DataError("a\x1b]0;t\x07b", where="c\n  cause: forged", cause="\u202eabc"))
    claims.take(target, target.plan.of_phase("law")[0], owner, lambda one: False)
    assert cli.main(["status", f"--run={target.path}"]) == 1
    said = capsys.readouterr()
    assert "a\\x1b]0;t" in said.out  # rich leaves the bell out
    assert "no\\x1b[2Jde" in said.out
    assert not commands(said.out + said.err)
    monkeypatch.setattr(slurm.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "no\x1b[2J\r"))
    (target.path / "submissions").mkdir()
    cli.main(["doctor", f"--runs={runs}", "--profile=cpu"])
    said = capsys.readouterr()
    assert not commands(said.out + said.err)


def test_the_place_of_an_error_is_one_line() -> None:
    assert str(RunError("a", where="b\n  do:    rm -rf")) == "a\n  where: b\\n  do:    rm -rf"


def status(target: Run, redirected: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    words = redirected.replace("VERB", f'"{sys.executable}" -m ntkhpc status --run="$RUN"')
    return subprocess.run(
        ["bash", "-c", words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RUN": str(target.path), **environment},
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has all receipts; nobody reads what is in them."""
    target = make_run(tmp_path_factory.mktemp("runs"))
    for shard in target.plan.shards:
        target.receipt(shard).touch()
    return target


@pytest.mark.promise("A closed output, a reader that goes away and a full disk under the output end no verb early.")
@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("VERB >&-", 0, b""),
        ("VERB >&- 2>&-", 0, b""),
        ("VERB <&- >&- 2>&-", 0, b""),
        ("VERB > /dev/full", 1, b"error: not all could be printed: No space left on device"),
        ("VERB > /dev/full 2>&1", 1, b""),
        ("set -o pipefail; VERB | true", 0, b""),
        ("set -o pipefail; VERB 2>&1 | head -c 10", 0, b""),
        ("set -o pipefail; VERB | { exec <&-; sleep 3; }", 0, b""),
    ],
)
def test_an_output_that_cannot_be_written_changes_no_verdict(
    redirected: str, code: int, said: bytes, complete: Run
) -> None:
    done = status(complete, redirected)
    assert done.returncode == code, done
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX"},
        {"LANG": "no_SUCH.locale"},
        {"PYTHONIOENCODING": "cp437", "TERM": "dumb"},
    ],
)
def test_a_terminal_of_few_characters_gets_what_it_can_show(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "grün − ±日"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    done = subprocess.run(
        [sys.executable, "-m", "ntkhpc", "plan", f"--task={folder}/none.toml"],
        env={**kept, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"No such file" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_report_is_printed_on_a_terminal_of_few_characters(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    said = ntkhpc("report", f"--run={copy.path}", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert said.returncode == 0, said.stderr
    assert said.stdout.isascii()
    assert " +- " in said.stdout
    assert " ± " in (copy.path / "analysis" / "summary.txt").read_text(encoding="utf-8")


def test_an_error_that_nobody_thought_of_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> int:
        raise KeyError("x\x1b[2J")

    monkeypatch.setitem(cli._VERBS, "schema", fail)
    assert cli.main(["schema"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: KeyError: ")
    assert "test_output.py, line " in said.err
    assert "Traceback" not in said.err
    assert not commands(said.err)
    monkeypatch.setenv(errors.TRACEBACK, "1")
    assert cli.main(["schema"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "/typo"), IsADirectoryError(21, "Is", "/x"),
    OSError("no number")], ids=repr)  # fmt: skip
def test_an_error_of_files_that_is_a_bug_is_not_said_to_be_the_file_systems(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setitem(cli._VERBS, "schema", fail)
    assert cli.main(["schema"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {type(error).__name__}: ")
    assert "cannot read or write" not in said
    assert "Traceback" not in said


def test_a_refusal_names_the_run_and_shows_its_calls_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setitem(cli._VERBS, "status", fail)
    monkeypatch.setenv(errors.TRACEBACK, "1")
    assert cli.main(["status", f"--run={tmp_path}", f"--runs={tmp_path / 'runs'}"]) == 1
    said = capsys.readouterr().err
    assert "the file system is full" in said
    assert f"where: {tmp_path}\n" in said
    assert "Traceback" in said


def test_the_streams_are_as_they_were_after_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    cli.main(["schema"])
    assert (sys.stdout, sys.stderr) == before


def test_a_stream_that_fails_later_drops_the_rest(tmp_path: Path) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        stream = terminal.Stream(full)
        for number in range(3):
            stream.write(f"{number}\n")
        stream.flush()
    assert stream.lost is not None


def test_what_workers_say_as_they_are_stopped_goes_to_a_file_also_where_nobody_has_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has no sys.stderr where its caller closed it."""
    monkeypatch.setattr(sys, "stderr", None)
    with local._stderr_to(tmp_path / "log"):
        os.write(2, b"stopped")
    assert (tmp_path / "log").read_bytes() == b"stopped"


def test_the_last_words_of_a_worker_are_the_whole_message() -> None:
    message = ["ntkhpc.errors.SurroundingsError: a file is in the way", "  where: /runs/claims", "  do:    mend that"]
    log = ["law: started", "Traceback (most recent call last):", '  File "worker.py", line 1, in take', *message, ""]
    assert local._last_words(log) == message
    assert local._last_words([*log[:3], "KeyError: 'law'"]) == ["KeyError: 'law'"]


def test_a_log_that_breaks_off_within_an_error_shows_no_traceback_but_what_is_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_text('law: started\nTraceback (most recent call last):\n  File "worker.py", line 1, in take\n  Fi')
    local._show_end(SimpleNamespace(paths=SimpleNamespace(stdout=log)), console())  # type: ignore[arg-type]  # a stand-in
    said = capsys.readouterr().out
    assert "Traceback" not in said
    assert "it breaks off within an error; " in said
    assert "MiB and" in said
