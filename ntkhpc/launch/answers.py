"""What sbatch answers: the id of a job, or why there is none."""

import re
from typing import NamedTuple


class NoJob(NamedTuple):
    """Why sbatch gave no job id. Where it is not `clear`, the job may be in the queue all the same."""

    cause: str
    todo: str
    clear: bool = True


_IDS = (re.compile(r"Submitted batch job (\d+)\b"), re.compile(r"(\d+)(?:;\S+)?"))
"""A line that begins with the first, or is the second: of an sbatch that a site made terse."""

_MEND = "make plan PROFILE=... shows the script; then make resume"

_SILENT = NoJob(
    "SLURM did not answer clearly, and has no job of this name yet; it may still have taken it",
    "make resume: it looks for the job by its name before it submits again",
    clear=False,
)

_KNOWN = (
    (
        r"timed? ?out|unable to contact|connection (refused|reset)|communication (connection )?failure|zero bytes|"
        r"transport endpoint|try again|resource temporarily unavailable",
        _SILENT,
    ),
    (
        r"MaxSubmit|MaxJobs|too many jobs",
        NoJob(
            "a limit of the cluster on the jobs that you may have in the queue; each task of an array counts as one",
            "make resume when some of them have ended: it submits what is missing; limits.tasks = N in the profile "
            "makes fewer and longer tasks of each phase",
        ),
    ),
    (
        r"violates accounting",
        NoJob(
            "a limit of your account or QOS on the jobs in the queue, on their size or time; its words are above",
            "mend limits.tasks, memory_gb, cores and minutes in the profile, or make resume when jobs of yours have "
            f"ended; {_MEND}",
        ),
    ),
    (
        r"memory specification|node configuration is not available",
        NoJob(
            "no node of the partition has so much memory, or so many cores; or this cluster lets no job ask for memory",
            "mend memory_gb and cores of the partition in the profile; where jobs may not ask for memory, "
            f'memory = "none" there leaves --mem out; {_MEND}',
        ),
    ),
)


def job_id(text: str) -> str | None:
    """The job id in what sbatch printed: of the last line that has one, as sites print lines of their own around it."""
    lines = [line.strip() for line in text.splitlines()]
    for found in ([match[1] for line in lines if (match := _IDS[0].match(line))],
                  [match[1] for line in lines if (match := _IDS[1].fullmatch(line))]):  # fmt: skip
        if found:
            return found[-1]
    return None


def refusal(words: str) -> NoJob:
    """What the words of sbatch mean. Where it printed neither an error nor a job id, that is no clear answer."""
    for pattern, one in _KNOWN:
        if re.search(pattern, words, re.IGNORECASE):
            return one
    if not re.search(r"error|failed|denied|invalid|not found|no such", words, re.IGNORECASE):
        return _SILENT
    return NoJob("an account, partition or limit that this cluster does not have; its words are above",
                   f"mend the profile; {_MEND}")  # fmt: skip
