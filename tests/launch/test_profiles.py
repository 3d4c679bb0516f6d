"""Cluster profiles: what they may say, and how one is found."""

from pathlib import Path

import pytest
from rich.console import Console
from support.runs import ROOT

from ntkhpc.errors import ProfileError, SchedulerError
from ntkhpc.launch import choose, profile, slurm

GOOD = """
[partitions.main]
partition = "main"
cores = 2
memory_gb = 4.0
minutes = 60
"""


def load(tmp_path: Path, text: str) -> profile.Profile:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return profile.load(path)


def test_the_users_own_settings_of_slurm_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SQUEUE_USERS", "SBATCH_JOB_NAME", "SLURM_CLUSTERS", "SLURM_MEM_PER_CPU", "SACCT_FORMAT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    found = {name for name in slurm.environment() if name.startswith(("SLURM", "SQUEUE", "SBATCH", "SACCT"))}
    assert found == {"SLURM_CONF", "SLURM_BITSTR_LEN", "SLURM_TIME_FORMAT"}


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "profiles").glob("*.toml")), ids=lambda path: path.stem)
def test_worked_examples_are_valid(path: Path) -> None:
    assert profile.load(path).name == path.stem


def test_the_commented_fields_of_the_example_show_their_defaults(tmp_path: Path) -> None:
    text = (ROOT / "jobs" / "profiles" / "cpu.toml").read_text()
    uncommented = [
        line.removeprefix("# ") if line.startswith("# ") and ("= " in line or line.startswith("# [")) else line
        for line in text.splitlines()
    ]
    found = load(tmp_path, "\n".join(uncommented))
    assert found == load(tmp_path, text)


@pytest.mark.promise("What must not reach a job script is refused with the name of its field in the profile.")
@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"main"', '"main\\n#SBATCH --wrap=id"', "partition"),
        ('"main"', '"main\\n"', "partition"),
        ('"main"', '"a b"', "partition"),
        ("minutes = 60", "minutes = 0", "minutes"),
        ("memory_gb = 4.0", "memory_gb = -1", "memory_gb"),
        ("cores = 2", "corse = 2", "corse"),
        ("cores = 2", 'directives = ["--wrap=id"]', "--wrap"),
        ("cores = 2", 'directives = ["--mail-type=END\\n"]', "directive"),
        ("cores = 2", 'directives = ["--output=/etc/passwd"]', "--output"),
        ("cores = 2", 'directives = ["; id"]', "directive"),
        ("cores = 2", 'directives = ["--clusters=other"]', "--clusters"),
        ("cores = 2", 'gpu = "gpu:1"', "gpu"),
        ("cores = 2", 'gpu = "--gres=gpu:1 --wrap=id"', "gpu"),
        ("[partitions.main]", 'modules = ["a; id"]\n[partitions.main]', "modules"),
        ("[partitions.main]", 'scratch = "$(id)"\n[partitions.main]', "scratch"),
        ("[partitions.main]", 'scratch = "/a b"\n[partitions.main]', "scratch"),
        ("[partitions.main]", 'umask = "077; id"\n[partitions.main]', "umask"),
        ("[partitions.main]", '[container]\nbinds = ["/a:/b"]\n[partitions.main]', "binds"),
        ("[partitions.main]", '[phases]\nlaw = "gpu"\n[partitions.main]', "law"),
        ("[partitions.main]", '[phases]\nlunch = "main"\n[partitions.main]', "lunch"),
    ],
)
def test_what_must_not_reach_a_script_is_refused_by_its_field(tmp_path: Path, old: str, new: str, field: str) -> None:
    with pytest.raises(ProfileError, match=field):
        load(tmp_path, GOOD.replace(old, new))


def test_phases_go_to_the_partition_that_is_named_for_them(tmp_path: Path) -> None:
    text = '[phases]\ndefault = "main"\nensemble = "gpu"\n' + GOOD + GOOD.replace("main", "gpu")
    found = load(tmp_path, text)
    assert found["ensemble"].partition == "gpu"
    assert found["law"].partition == "main"
    with pytest.raises(ProfileError, match="default"):
        load(tmp_path, GOOD + GOOD.replace("main", "gpu"))


def test_profiles_are_found_in_the_checkout_then_in_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "ntkhpc" / "profiles"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('cluster = "atlas"\n' + GOOD)
    assert profile.find("mine").cluster == "atlas"
    assert profile.find("cpu").partitions["cpu"].cores == 16
    with pytest.raises(ProfileError, match="there are: cpu, gpu, mine, testcluster"):
        profile.find("yours")
    for name in ("../mine", "a b", "$(id)"):
        with pytest.raises(ProfileError, match="no profile name"):
            profile.find(name)
    found = profile.of_cluster("atlas")
    assert found is not None
    assert found.name == "mine"


def test_where_to_run_is_detected_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    console = Console(record=True, width=200)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert choose.choose("local", console) is None
    monkeypatch.setattr(slurm, "present", lambda: False)
    assert choose.choose("", console) is None
    monkeypatch.setattr(slurm, "present", lambda: True)
    monkeypatch.setattr(slurm, "cluster", lambda: "lab")
    found = choose.choose("", console)
    assert found is not None
    assert "SLURM cluster lab: profile testcluster" in console.export_text()
    monkeypatch.setattr(slurm, "cluster", lambda: "elsewhere")
    with pytest.raises(ProfileError, match="elsewhere"):
        choose.choose("", console)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert choose.choose("", console) is None


@pytest.mark.promise("Ids of array elements are read as single ones, ranges, lists, steps and with a throttle.")
@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("123_4", [4]),
        ("123_[5-9]", [5, 6, 7, 8, 9]),
        ("123_[1,3-7:2%4]", [1, 3, 5, 7]),
        ("123_[0%1]", [0]),
        ("123_[0,2-3%8]", [0, 2, 3]),
    ],
)
def test_array_ids_of_every_form_are_read(identity: str, expected: list[int]) -> None:
    assert slurm.elements(identity) == [("123", index) for index in expected]


@pytest.mark.promise("Ids that squeue cut short are an error, not an answer.")
@pytest.mark.parametrize("identity", ["123_[1,3-...]", "123", "x_1", "123_[]", "123_[1-2", "123_[1;2]", "", "N/A"])
def test_array_ids_that_cannot_be_read_are_no_answer(identity: str) -> None:
    with pytest.raises(SchedulerError, match="cannot be read"):
        slurm.elements(identity)


def answers(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(slurm, "ask", lambda command: text)


def test_the_queue_holds_what_waits_or_runs_and_nothing_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(
        monkeypatch,
        "7_[1-2]|PENDING|mine|Dependency\n7_0|RUNNING|mine|None\n6_3|COMPLETED|mine|None\n7_9|POWER_UP_NODE|mine|x\n",
    )
    found = slurm.queue(["mine"])
    assert [(one.task, one.running) for one in found] == [
        (1, False),
        (2, False),
        (0, True),
        (9, True),  # a state that is not known to be an end is none
    ]
    assert slurm.queue([]) == []
    for nonsense in ("nonsense", "slurm_load_jobs error: timeout", "7_[1-...]|PENDING|mine|x"):
        answers(monkeypatch, nonsense)
        with pytest.raises(SchedulerError):
            slurm.queue(["mine"])


@pytest.mark.promise("Accounting may be missing, late or garbage: what it does not say is unknown, not an error.")
def test_accounting_may_be_missing_late_or_confused(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("9_0|FAILED|n1", "9_0.batch|FAILED|n1", "9_1|COMPLETED|n1", "9_2|RUNNING|n2", "9_2.0|OUT_OF_MEMORY|n2")
    answers(monkeypatch, "\n".join((*lines, "9_3|CANCELLED by 5|None assigned")))
    assert slurm.states(["9"]) == {
        ("9", 0): ("FAILED", "n1"),
        ("9", 1): ("COMPLETED", "n1"),
        ("9", 2): ("OUT_OF_MEMORY", "n2"),
        ("9", 3): ("CANCELLED", "None assigned"),
    }
    answers(monkeypatch, "Slurm accounting storage is disabled\n\x00\n9_x|y\n")
    assert slurm.states(["9"]) == {}

    def fail(command: list[str]) -> str:
        raise SchedulerError("sacct is not on PATH")

    monkeypatch.setattr(slurm, "ask", fail)
    assert slurm.states(["9"]) == {}


@pytest.mark.promise("A squeue that is missing or does not answer is an error, never an empty queue.")
def test_a_missing_command_is_said_not_taken_for_an_empty_queue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match="squeue is not on PATH"):
        slurm.queue(["mine"])
    stub = tmp_path / "squeue"
    stub.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    stub.chmod(0o755)
    monkeypatch.setattr(slurm, "SECONDS", 0.3)
    with pytest.raises(SchedulerError, match="did not answer"):
        slurm.queue(["mine"])


NO_SOURCE = """\
scontrol: error: _establish_config_source: failed to fetch config
scontrol: fatal: Could not establish a configuration source"""
"""The last lines of scontrol 22.05 where it has no slurm.conf and got none."""

NO_CONTROLLER = f"""\
scontrol: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
scontrol: error: fetch_config: DNS SRV lookup failed
{NO_SOURCE}"""


@pytest.mark.parametrize(
    ("said", "here"),
    [
        (NO_CONTROLLER, True),
        (NO_SOURCE, False),  # a controller is known, and did not answer
        ("slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)", False),
    ],
)
def test_slurm_without_a_cluster_is_none_and_one_that_is_down_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, here: bool
) -> None:
    """A package that was merely installed is no cluster; a controller that is down is one."""
    for name, text in (("sbatch", "exit 1"), ("scontrol", f"echo '{said}' >&2; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    console = Console(record=True, width=200)
    if here:
        assert choose.choose("", console) is None
        assert "configured for no cluster" in console.export_text()
    else:
        with pytest.raises(ProfileError, match="no profile is made for it"):
            choose.choose("", console)
