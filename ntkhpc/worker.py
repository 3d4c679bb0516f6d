"""One worker of a run: `python -m ntkhpc.worker RUN SHARD...`.

Launchers of any later version start workers under this name in the code that a run has frozen: it stays. Submitit names
a function by the module that defines it, so `run_shards` is defined here.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ntkhpc import files, terminal
from ntkhpc.engine import exits, worker
from ntkhpc.engine.run import Run
from ntkhpc.errors import NtkhpcError
from ntkhpc.studies import analysis


def run_shards(run_directory: str, shard_ids: list[str], *, keep_going: bool = False) -> dict[str, str]:
    """Run each shard that has no receipt and no live claim, in the order given; shard id -> what became of it."""
    terminal.guard()
    return worker.run_shards(run_directory, shard_ids, {analysis.NAME: _report}, keep_going=keep_going)


def _report(run: Run) -> None:
    from analysis import phase  # pandas, xarray, lmfit and matplotlib: for this phase alone

    phase.compute(run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 75 if it was told to stop."""
    run_directory, *shard_ids = sys.argv[1:] if arguments is None else arguments
    try:
        run_shards(run_directory, shard_ids, keep_going=True)
    except NtkhpcError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:  # what is no shard's own: its log shall say it in a sentence
        print(f"error: {files.said(error, Path(run_directory))}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("told to stop; finished tiles are kept", flush=True)
        return exits.STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
