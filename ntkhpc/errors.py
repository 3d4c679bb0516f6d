"""Everything that can go wrong, in one hierarchy.

Each message has four parts: what happened, where, the likely cause, and what to do next. Each class says what the next
`make resume` does with a shard that failed by it. Nothing tries a failed shard again before a user resumes the run.
"""

import os
import sys
import traceback
from enum import StrEnum
from typing import Any, ClassVar


class Retry(StrEnum):
    """What the next `make resume` does with a failed shard. Records of failures keep these words: they never change."""

    BUG = "bug"
    """It leaves the shard, which would fail again, until the code is changed or a user asks for one more attempt."""

    MEMORY = "memory"
    """It runs the shard again and asks for more memory."""

    DEVICE = "device"
    """It runs the shard again, and not on a node where two array jobs failed in this way."""

    SURROUNDINGS = "surroundings"
    """It runs the shard again as it is: a user, or an administrator, had to mend something outside the code."""


class NtkhpcError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1
    retry: ClassVar[Retry] = Retry.SURROUNDINGS

    def __init__(self, what: str, *, where: object = None, cause: str | None = None, todo: str | None = None):
        self.what, self.where, self.cause, self.todo = what, where, cause, todo
        parts = [what]
        # A name may hold the end of a line, and then what looks like another line of this message.
        parts += ["  where: " + str(where).replace("\n", "\\n")] if where is not None else []
        parts += [f"  cause: {cause}"] if cause else []
        parts += [f"  do:    {todo}"] if todo else []
        super().__init__("\n".join(parts))


class StudyError(NtkhpcError):
    """The study file cannot be used as it is written."""

    exit_code = 2


class ProfileError(NtkhpcError):
    """The profile of a cluster cannot be used as it is written, or a study does not fit it."""

    exit_code = 2


class SchedulerError(NtkhpcError):
    """SLURM does not answer, or refuses."""


class DataError(NtkhpcError):
    """A data set has the wrong shape, a value that is not finite, or too few rows, or is not there.

    `at` is what is refused, where that is known: (name of the array, row or None for all, column). `rows` are the
    training inputs that make a kernel singular, or among which they are, by their numbers among those that were given.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, at: tuple[str, int | None, int] | None = None, rows: tuple[int, ...] = (), **more: Any
    ):
        super().__init__(what, **more)
        self.at, self.rows = at, rows


class RunError(NtkhpcError):
    """A run directory is missing, not ours, incomplete, or does not fit the request."""


class DivergedError(NtkhpcError):
    """A computation left the finite numbers or did not converge, and would do so again."""

    retry = Retry.BUG


class DamagedError(NtkhpcError):
    """Bytes on disk are not the bytes that were written."""


class ConflictError(NtkhpcError):
    """Two executions of one shard gave different bytes."""


class ClaimLostError(NtkhpcError):
    """Another job took over the shard this worker was computing."""


class SurroundingsError(NtkhpcError):
    """The environment refuses: full disk, quota, read-only directory, no network, threads not pinned."""


class MirrorError(SurroundingsError):
    """One server does not give a public file, or not the right one; another server may."""


class OutOfMemoryError(NtkhpcError):
    """A worker was refused memory, or killed for want of it."""

    retry = Retry.MEMORY


class DeviceError(SurroundingsError):
    """The device that was asked for is not there."""

    retry = Retry.DEVICE


TRACEBACK = "NTKHPC_TRACEBACK"
"""A variable: with any value, an error that ends a command shows the calls that led to it."""


def show_calls(error: BaseException) -> None:
    """Print the calls that led to an error, where its user asked for them."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error, file=sys.stderr)


def unexpected(error: BaseException) -> NtkhpcError:
    """A bug, or surroundings that nobody thought of, in a sentence."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return NtkhpcError(
        f"{type(error).__name__}: {error}",
        where=f"{last.filename}, line {last.lineno}, in {last.name}",
        cause="a bug, or something about this machine that the program does not know",
        todo=f"{TRACEBACK}=1 shows where it came from; report it with that",
    )
