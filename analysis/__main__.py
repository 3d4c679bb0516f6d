"""`python -m analysis RUN [--partial]`: analyse a run again, with this code."""

import argparse
import sys
from pathlib import Path

from analysis import report
from analysis.report.publication import SUMMARY
from ntkhpc import files, terminal
from ntkhpc.engine import run
from ntkhpc.errors import NtkhpcError, show_calls


def main() -> int:
    parser = argparse.ArgumentParser(prog="analysis", description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("--partial", action="store_true", help="use what is there of an incomplete run, and say so")
    terminal.guard()
    options = parser.parse_args()
    try:
        path = report.make(run.load(options.run), partial=options.partial)
    except NtkhpcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        show_calls(error)
        print(f"error: {files.said(error, options.run)}", file=sys.stderr)
        return 1
    print((path.parent / SUMMARY).read_text(encoding="utf-8"), end="")
    print(f"report: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
