"""One worker of a run: `python -m ntkhpc.worker RUN SHARD...`.

Launchers of any later version start workers under this name in the code that a run has frozen: it stays. Submitit names
a function by the module that defines it, so `run_shards` is defined here.
"""

import sys
from collections.abc import Sequence

from ntkhpc.engine import worker


def run_shards(run_directory: str, shard_ids: list[str], *, keep_going: bool = False) -> dict[str, str]:
    """Run shards of a run, as `ntkhpc.engine.worker.run_shards` says; shard id -> what became of it."""
    return worker.run_shards(run_directory, shard_ids, keep_going=keep_going)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a worker process."""
    return worker.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
