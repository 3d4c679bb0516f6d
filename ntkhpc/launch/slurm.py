"""This asks squeue, sacct and scontrol. There is an answer or a SchedulerError: silence never means "nothing there"."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from msgspec import Struct

from ntkhpc.errors import SchedulerError

SECONDS = 30
"""A query that takes longer counts as unanswered."""

MAX_ARRAY_SIZE = 1001
"""SLURM's default is assumed where SLURM does not say."""

ENDED = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"]
)
"""Nothing follows after these states. PREEMPTED is none of them, as a requeue may follow."""

WAITING = frozenset(["PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"])
_ELEMENTS = re.compile(r"(\d+)_(?:(\d+)|\[([0-9,:-]+)(?:%\d+)?\])")


class Element(Struct, frozen=True):
    """One array element in the queue."""

    job: str
    task: int
    state: str
    name: str
    reason: str

    @property
    def running(self) -> bool:
        return self.state not in WAITING


def present() -> bool:
    return shutil.which("sbatch") is not None


def queue(names: Sequence[str], *, ended: bool = False) -> list[Element]:
    """Return the elements in the queue of the arrays of these names, whoever submitted them.

    With `ended` it returns also elements that ended some minutes ago and that SLURM remembers.

    Raises SchedulerError if squeue is missing, fails, is late or answers what cannot be read.
    """
    if not names:
        return []
    text = ask(["squeue", "--all", "--noheader", f"--name={','.join(names)}", "--format=%i|%T|%j|%r", "--states=all"])
    return [one for line in text.splitlines() if line.strip() for one in _elements(line, ended)]


def _elements(line: str, ended: bool) -> Iterator[Element]:
    try:
        identity, state, name, reason = line.strip().split("|", 3)
    except ValueError:
        raise SchedulerError(f"squeue answered a line that cannot be read: {line!r}") from None
    if state in ENDED and not ended:
        return
    for job, task in elements(identity):
        yield Element(job, task, state, name, reason)


def elements(identity: str) -> list[tuple[str, int]]:
    """Return (array job, index) of every element of an array id: `123_4`, `123_[5-9]`, `123_[1,3-7:2%4]`.

    Raises SchedulerError for any other form; a shortened list ("...") is one.
    """
    match = _ELEMENTS.fullmatch(identity)
    if match is None:
        raise SchedulerError(f"squeue answered an array id that cannot be read: {identity!r}")
    job, single, several = match.groups()
    if single is not None:
        return [(job, int(single))]
    found = []
    for part in several.split(","):
        numbers = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if numbers is None:
            raise SchedulerError(f"squeue answered an array id that cannot be read: {identity!r}")
        first, last, step = numbers.groups()
        found += [(job, index) for index in range(int(first), int(last or first) + 1, int(step or 1))]
    return found


def states(jobs: Sequence[str]) -> dict[tuple[str, int], tuple[str, str]]:
    """Ask accounting for the last state and node of every element: (job, task) -> ("TIMEOUT", "node7").

    There is nothing where there is no accounting, or where it does not know yet: nothing may depend on it. An
    out-of-memory kill is recorded on a step, so steps are read too.
    """
    if not jobs:
        return {}
    command = ["sacct", "--noheader", "--parsable2", "--format=JobID,State,NodeList", f"--jobs={','.join(jobs)}"]
    try:
        text = ask(command)
    except SchedulerError:
        return {}
    found: dict[tuple[str, int], tuple[str, str]] = {}
    for line in text.splitlines():
        identity, _, rest = line.partition("|")
        state, _, node = rest.partition("|")
        element, _, _ = identity.partition(".")
        match = re.fullmatch(r"(\d+)_(\d+)", element)
        if match is None or not state:
            continue
        key, word = (match[1], int(match[2])), state.split()[0]
        if word == "OUT_OF_MEMORY" or key not in found:
            found[key] = word, node
    return found


def configuration() -> dict[str, str]:
    """Return what `scontrol show config` prints, as a table."""
    lines = (line.partition("=") for line in ask(["scontrol", "show", "config"]).splitlines())
    return {name.strip(): value.strip() for name, separator, value in lines if separator}


def cluster() -> str | None:
    """Return the name of this cluster, "" if nobody says it, or None where no cluster is configured.

    No cluster is configured where the commands find neither a slurm.conf nor the name of a controller. A controller
    that is known and does not answer is a cluster.
    """
    try:
        return configuration().get("ClusterName", "")
    except SchedulerError as error:
        return None if "DNS SRV lookup failed" in str(error) else ""


def max_array_size() -> int:
    """Return MaxArraySize, one more than the largest index that an array may have.

    Raises SchedulerError where it is 0: then there are no arrays.
    """
    try:
        found = int(configuration()["MaxArraySize"])
    except (SchedulerError, KeyError, ValueError):
        return MAX_ARRAY_SIZE
    if found < 1:
        raise SchedulerError(
            f"this cluster has job arrays switched off: MaxArraySize is {found}",
            where="scontrol show config",
            cause="its administrators set that in slurm.conf; runs are submitted as job arrays",
            todo="ask them for a MaxArraySize of 1,001, SLURM's default; or run inside one job: PROFILE=local",
        )
    return found


def cancel_waiting(job: str) -> None:
    """Take the waiting elements of a job out of the queue. Those that run stay."""
    ask(["scancel", "--state=PENDING", job])


def environment() -> dict[str, str]:
    """Return this environment without what would change the meaning of SLURM's commands: SQUEUE_USERS, SBATCH_JOB_NAME,
    and the SLURM_ variables of a job in which this process may run."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_"))
    }
    # Without SLURM_BITSTR_LEN=0 squeue shortens "[1,3,5-900]" to 64 characters.
    return {**kept, "SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}


def ask(command: list[str]) -> str:
    """Return what a command of SLURM prints. Raises SchedulerError if it is missing, late or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, env=environment(), check=False
        )
    except FileNotFoundError:
        raise SchedulerError(f"{command[0]} is not on PATH", todo="do this on a login node of the cluster") from None
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"{command[0]} did not answer in {SECONDS} s", todo="try again later") from None
    if done.returncode != 0:
        raise SchedulerError(f"{command[0]} failed: {done.stderr.strip() or done.returncode}", todo="try again later")
    return done.stdout
