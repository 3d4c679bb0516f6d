"""One worker of a run: `python -m ntkhpc.worker RUN SHARD...`.

Launchers of any later version start workers under this name in the code that a run has frozen: it stays.
"""

import sys

from ntkhpc.engine.worker import main, run_shards

__all__ = ["main", "run_shards"]

if __name__ == "__main__":
    sys.exit(main())
