"""Study files that mean harm, or come out of the wrong editor: one sentence each, whatever is in them."""

import contextlib
import os
import struct
from pathlib import Path

import pytest
import tomli_w
from support import fields
from support.runs import ntkhpc, tiny_text

from ntkhpc import files, studies
from ntkhpc.engine import plan
from ntkhpc.errors import DamagedError, DataError, NtkhpcError, ProfileError, StudyError
from ntkhpc.launch import profile
from ntkhpc.studies import checked, facts

TEXT = tiny_text()

HOSTILE = {
    "an integer of 10,000 digits": TEXT.replace("seed = 5", f"seed = {'9' * 10_000}"),
    "a hexadecimal one of 20,000": TEXT.replace("seed = 5", f"seed = 0x{'f' * 20_000}"),
    "an integer of 65 bits": TEXT.replace("seed = 5", f"seed = {2**64}"),
    "a list 10,000 deep": TEXT.replace("seed = 5", f"seed = {'[' * 10_000}{']' * 10_000}"),
    "a table 10,000 deep": TEXT.replace("seed = 5", f"seed = {'{a=' * 10_000}1{'}' * 10_000}"),
    "a dotted key 10,000 deep": TEXT + "[x]\n" + ".".join("a" * 10_000) + " = 1\n",
    "a quoted key 10,000 deep": TEXT + "[x]\n" + ".".join(['"a"'] * 10_000) + " = 1\n",
    "a header 10,000 deep": TEXT + "[" + ".".join("a" * 10_000) + "]\n",
    "a list 40 deep": TEXT.replace("seed = 5", f"seed = {'[' * 40}{']' * 40}"),
    "a factor of 1e308": TEXT.replace("factor = 1.0", "factor = 1e308"),
    "a power of 1e308": TEXT.replace("factor = 1.0", "power = 1e308"),
    "a factor and a power that overflow together": TEXT.replace("factor = 1.0", "factor = 1e300\npower = 200.0"),
    "weights whose squares vanish": TEXT.replace("widths = [4]", "widths = [4]\nweight_variance = 1e-300"),
    "weights whose law overflows": TEXT.replace("widths = [4]", "widths = [4]\nweight_variance = 1e31"),
    "layers in which everything vanishes": TEXT.replace(
        "widths = [4]", "widths = [4]\ndepth = 1000\nweight_variance = 1.7"
    ),
    "layers in which everything overflows": TEXT.replace(
        "widths = [4]", "widths = [4]\ndepth = 1000\nweight_variance = 2.4"
    ),
    "biases beside which nothing is left of the inputs": TEXT.replace(
        "widths = [4]", "widths = [4]\nbias_variance = 1e40"
    ),
    "an infinite factor": TEXT.replace("factor = 1.0", "factor = inf"),
    "a factor that is no number": TEXT.replace("factor = 1.0", "factor = nan"),
    "a factor beyond all numbers": TEXT.replace("factor = 1.0", "factor = 1e400"),
    "a text of 900,000 letters": TEXT.replace('"tiny"', f'"{"x" * 900_000}"'),
    "a key of 900,000 letters": TEXT + f"{'k' * 900_000} = 1\n",
    "a zero byte": TEXT.replace("tiny", "ti\0ny"),
    "a zero byte as an escape": TEXT.replace("tiny", "ti\\u0000ny"),
    "a date that is none": TEXT.replace("seed = 5", "seed = 2026-13-45"),
    "nothing": "",
    "JSON": '{"name": "tiny"}',
}


@pytest.mark.promise("A study file that means harm is refused in a sentence of moderate length.")
@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_study_files_are_refused_in_a_sentence(tmp_path: Path, how: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(HOSTILE[how])
    with pytest.raises(StudyError) as caught:
        plan.make(studies.load(path))
    assert len(str(caught.value)) < 2500
    assert str(path) in str(caught.value)


BYTES = {
    "Latin-1": TEXT.encode() + "# Müller\n".encode("latin-1"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 without its mark": TEXT.encode("utf-16-le"),
    "random bytes": bytes(range(256)) * 20,
    "two megabytes": TEXT.encode() + b"#" * 2**21,
}


@pytest.mark.parametrize("how", BYTES)
def test_files_that_are_no_text_are_refused(tmp_path: Path, how: str) -> None:
    (tmp_path / "s.toml").write_bytes(BYTES[how])
    with pytest.raises(StudyError, match=r"UTF-8|bytes|TOML"):
        studies.load(tmp_path / "s.toml")
    with pytest.raises(ProfileError, match="cannot be used"):
        profile.load(tmp_path / "s.toml")


def test_pipes_and_names_that_are_none_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.toml")
    for path in (tmp_path / "s.toml", Path("/dev/zero"), Path("a\0b.toml"), tmp_path, Path("x" * 5000 + ".toml")):
        with pytest.raises(StudyError):
            studies.load(path)


def test_the_mark_of_utf_8_changes_no_study(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert studies.load(tmp_path / "s.toml") == studies.loads(TEXT)


def test_no_number_in_any_field_ends_in_a_traceback() -> None:
    """Every field of every kind of study, with numbers that overflow whatever they are multiplied with."""
    tried = 0
    for kind in ("ensemble", "bayes"):
        for path, _ in fields.places(kind):
            for value in (1e308, 5e-324, 2**62, 10**9, -1, [1e308], [10**6, 2**50]):
                raw = fields.raw(kind)
                fields.put(raw, path, value)
                tried += 1
                with contextlib.suppress(NtkhpcError):
                    wanted = facts.resolve(studies.loads(tomli_w.dumps(raw)), Path("/"))
                    plan.make(wanted)
                    checked.look(wanted)
    assert tried > 400


RECORDS = [
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"sha256": ' + b"9" * 10_000 + b"}",
    b'{"sha256": "x", "a": 1e999}',
    b'{"sha256": "x", "a": NaN}',
    b'\xff\xfe{"sha256": "x"}',
    b"\0" * 100,
    b"[]",
    b'{"sha256": "x", "a": "\\ud800"}',
    b'{"sha256": "x", "a": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("record", RECORDS)
def test_hostile_records_are_damaged_records(record: bytes) -> None:
    with pytest.raises(DamagedError):
        files.unseal(record, "here")


def table(folder: Path, values: str = "") -> Path:
    rows = "".join(f"{i**1.5!r},{i % 7 + i / 50!r},{i}\n" for i in range(60))
    (folder / "t.csv").write_text("pt,eta,e\n" + rows + values)
    (folder / "s.toml").write_text(
        'name = "t"\n[data]\nsource = "file"\npath = "t.csv"\nx = ["pt", "eta"]\ny = ["e"]\npool = 30\ntest = 10\n'
        "[network]\nwidths = [4]\n[ensemble]\nn_train = [8]\nmembers = 4\ntile = 2\nshard_members = 4\n"
    )
    return folder / "s.toml"


@pytest.mark.promise("plan refuses the values that submit refuses.")
@pytest.mark.parametrize(
    ("values", "said"),
    [("1,,3\n", "nan"), ("1,-999,3\n2,-999,4\n", "-999 in 2 of 62 rows"), ("0.0,0.0,3\n", "equal an earlier row")],
)
def test_plan_refuses_what_submit_refuses(tmp_path: Path, values: str, said: str) -> None:
    path = table(tmp_path, values)
    for verb in ("plan", "submit"):
        done = ntkhpc(verb, f"--task={path}", f"--runs={tmp_path / 'runs'}", XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())
    assert not any((tmp_path / "cache").rglob("*.json"))  # what is refused is looked at again


CALORIMETERS = {
    "plates too thick": ("absorber_mm = [100.0, 100.0, 100.0]", "cannot make electrons in this calorimeter"),
    "energies that are not finite": ("threshold = 1e-323", "not finite"),
    "a threshold of which all inputs vanish": ("threshold = 1e300", "squares vanish"),
    "nothing but sampling fluctuations": ("stochastic_term = 1e100", "sigma_E/E is"),
    "nothing but noise": ("noise = 1e160", "cause: data.noise = 1e+160"),
    "noise twice the highest energy": ("noise = 1000.0", "sigma_E/E is 2 at 500 GeV"),
    "a constant term in percent": ("constant_term = 30.0", "cause: data.constant_term = 30"),
    "plates in another unit": ("absorber_mm = [2.4e-9, 2.4e-9]", "leave in the inputs what another one leaves"),
    "sampling too fine to be drawn": ("stochastic_term = 1e-200", "cannot be drawn"),
    "layers thicker than a house": (
        'geometry = "nai"\nstochastic_term = 0.0\nconstant_term = 0.0\nlayer_mm = 1e300',
        "radiation lengths deep",
    ),
    "one energy": ("energy_min = 499.99999999999994", "constant target"),
}


@pytest.mark.promise("plan and submit refuse a calorimeter of which no showers can be made.")
@pytest.mark.parametrize("how", CALORIMETERS)
def test_plan_and_submit_refuse_a_calorimeter_without_showers(tmp_path: Path, how: str) -> None:
    fields, said = CALORIMETERS[how]
    path = tmp_path / "s.toml"
    path.write_text(tiny_text().replace('source = "calorimeter"', f'source = "calorimeter"\n{fields}'))
    for verb in ("plan", "submit"):
        done = ntkhpc(verb, f"--task={path}", f"--runs={tmp_path / 'runs'}", XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_plan_does_not_make_showers_that_this_machine_cannot_hold(tmp_path: Path) -> None:
    """A shower of 22,500,000,000 cells; the study has 55 of them."""
    path = tmp_path / "s.toml"
    path.write_text(tiny_text().replace("pool = 40", 'pool = 40\ninputs = "cells"\ncells = 30000'))
    done = ntkhpc("plan", f"--task={path}", f"--runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    assert "the data were not looked at: a worker of phase data needs about" in " ".join(done.stdout.split())


def resolved(path: Path) -> studies.kinds.Study:
    return facts.resolve(studies.load(path), path.parent)


@pytest.mark.promise("plan looks at the values of a table once for each content of it.")
def test_values_are_looked_at_once_for_each_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from ntkhpc.data.user_table import TableFile

    looked = []
    real = TableFile.check
    monkeypatch.setattr(TableFile, "check", lambda self, known: looked.append(known.sha256) or real(self, known))
    path = table(tmp_path)
    first = checked.look(resolved(path))
    assert checked.look(resolved(path)) == first
    assert len(looked) == 1
    # Another file of the same size and times under the same name has another checksum.
    before = (tmp_path / "t.csv").stat()
    changed = (tmp_path / "t.csv").read_text().replace(",59\n", ",58\n")
    (tmp_path / "t.csv").write_text(changed)
    os.utime(tmp_path / "t.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    checked.look(resolved(path))
    assert len(looked) == 2
    # Another section of the same file is looked at, too.
    path.write_text(path.read_text().replace("pool = 30", "pool = 31"))
    checked.look(resolved(path))
    assert len(looked) == 3


@pytest.mark.parametrize("x", ['["pt", "eta"]', '["*"]'])
def test_each_plan_parses_a_csv_once_and_looks_for_zero_bytes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from ntkhpc.data.formats import frames

    parsed = []
    real = frames.pd.read_csv
    monkeypatch.setattr(frames.pd, "read_csv", lambda *a, **how: parsed.append(how.get("nrows")) or real(*a, **how))
    path = table(tmp_path)
    path.write_text(path.read_text().replace('["pt", "eta"]', x))
    scanned = frames._require_text.cache_info().misses
    for time in (1, 2):  # the second time by what is remembered
        checked.look(resolved(path))
        assert parsed == [1, None] * time
        assert frames._require_text.cache_info().misses == scanned + 1
    # What was kept is not taken for a file that changed meanwhile, even with its old time.
    known = resolved(path)
    before = (tmp_path / "t.csv").stat()
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace(",59\n", ",58\n"))
    os.utime(tmp_path / "t.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = frames.read(tmp_path / "t.csv", ("pt", "eta") if x != '["*"]' else ("*",), ("e",))
    assert changed[1][0][-1, 0] == 58
    with pytest.raises(DataError, match="not the one the study was submitted with"):
        known.data.load(known.known)


def test_columns_that_are_large_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ntkhpc.data.formats import frames

    table(tmp_path)
    for most, kept in ((60 * 3 * 8, 1), (60 * 3 * 8 - 1, 0)):
        monkeypatch.setattr(frames, "KEPT_BYTES", most)
        assert frames.describe(tmp_path / "t.csv", ("*",), ("e",)) == (60, 2, 1)
        assert len(frames._kept) == kept
    frames.describe(tmp_path / "t.csv", ("pt",), ("e",))
    frames.read(tmp_path / "t.csv", ("pt",), ("e",))
    assert not frames._kept


@pytest.mark.parametrize("damage", ["a directory", "no record", "another record", "read only", "no home"])
def test_a_cache_that_cannot_be_used_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = table(tmp_path)
    expected = checked.look(resolved(path))
    (note,) = (tmp_path / "cache").rglob("*.json")
    if damage == "a directory":
        note.unlink()
        note.mkdir()
    elif damage == "no record":
        note.write_bytes(struct.pack("d", 1.5))
    elif damage == "another record":
        note.write_bytes(files.seal({"lines": 5}))
    elif damage == "read only":
        note.unlink()
        note.parent.rmdir()
        (note.parent.parent / "checked").write_text("a file is in the way")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        monkeypatch.setenv("HOME", "")
        monkeypatch.chdir(tmp_path)
    assert checked.look(resolved(path)) == expected
    assert not (tmp_path / "~").exists()
