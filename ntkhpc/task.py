"""One task of a job array: `python -m ntkhpc.task RUN SUBMISSION ARRAY`.

Launchers of any later version start tasks under this name in the code that a run has frozen: it stays.
"""

import sys

from ntkhpc.launch.task import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
