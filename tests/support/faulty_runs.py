"""`python -m support.faulty_runs FOLDER PHASES SEED...`: a tiny run under faults of its file system, then without.

For each seed one run, of which the phases are computed that are named, by commas. "undisturbed" is a seed too.

It is started with tests/support/faults.c preloaded. What is imported once is shared by processes that are forked off
it, one a run and attempt: JAX starts in each of them anew. It prints a line of JSON for each seed.
"""

import errno
import io
import json
import os
import random
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import jax
from support.runs import tiny_text

from ntkhpc import files, filesystem, studies, worker
from ntkhpc.data import sources
from ntkhpc.engine import run, verify
from ntkhpc.engine import worker as shards
from ntkhpc.errors import NtkhpcError

ERRORS = (
    "EPERM", "EOPNOTSUPP", "ENOSYS", "EXDEV", "EMLINK", "EEXIST", "ESTALE", "EIO", "ENOSPC", "EDQUOT",
)  # fmt: skip
EVERY = {"link": (1, 2, 5), "rename": (2, 5, 20), "fsync": (3, 10, 40), "open": (30, 100, 400)}
"""One call in so many fails: from hardly any progress to a fault in one shard."""

STUDY = tiny_text(members=4, tile=2, shard_members=4, redraws=0).replace("[8, 12]", "[8]")

LATEST = {"link": 10, "rename": 60, "fsync": 80, "open": 1200}
"""So many calls of each kind a run makes, and more: faults begin at any of them."""


def settings(seed: int, root: Path) -> dict[str, str]:
    """The faults of a seed: which calls, which errors, how often."""
    draw = random.Random(seed)
    error = ERRORS[seed % len(ERRORS)]
    chosen = ERRORS if seed % 4 == 3 else (error,)
    calls = draw.choice([*EVERY, ",".join(EVERY)])
    return {
        "FAULTS_ROOT": str(root),
        "FAULTS_SEED": str(seed),
        "FAULTS_ERRORS": ",".join(str(getattr(errno, name)) for name in chosen),
        "FAULTS_CALLS": calls,
        "FAULTS_AFTER": str(draw.choice((0, draw.randrange(LATEST.get(calls, 600))))),
        "FAULTS_EVERY": str(draw.choice(EVERY.get(calls, (20, 80, 300)))),
        "FAULTS_LOG": str(root.with_suffix(".faults")),
    }


def attempt(root: Path, phases: list[str]) -> int:
    """Make the run, unless it is there, and run what is missing, as submit and its worker do; the exit status."""
    try:
        with files.explain_refusals(root):
            root.mkdir(exist_ok=True)
            filesystem.require(root)
            target = run.create(root, studies.loads(STUDY))
            names = [shard.id for phase in phases for shard in target.missing(phase)]
    except NtkhpcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return worker.main([str(target.path), *names])


def forked(root: Path, phases: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """The exit status of an attempt in a process of its own, and what it said."""
    said = root.with_suffix(".said")
    child = os.fork()
    if not child:
        os.environ.update(environment)
        code, text = 70, io.StringIO()
        with redirect_stdout(text), redirect_stderr(text):
            try:
                code = attempt(root, phases)
            except Exception:  # noqa: BLE001  what a user would see as a traceback, the test sees too
                traceback.print_exc()
        os.environ.pop("FAULTS_ROOT", None)
        said.write_text(text.getvalue())
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text()


def main() -> None:
    folder, chosen, *seeds = sys.argv[1:]
    phases = chosen.split(",")
    shards._require_intact_code = lambda _: None  # it is this code that runs, for the sake of time
    _ = jax, sources, verify  # imported before the first fork
    for seed in seeds:
        root = Path(folder) / seed
        faults = settings(int(seed), root) if seed != "undisturbed" else {}
        first, said = forked(root, phases, faults)
        log = root.with_suffix(".faults")
        count = len(log.read_text().splitlines()) if log.exists() else 0
        second, after = forked(root, phases, {})
        line = {"seed": seed, "faults": count, "first": first, "said": said, "second": second, "after": after}
        print(json.dumps(line | {name.lower(): value for name, value in faults.items()}), flush=True)


if __name__ == "__main__":
    main()
