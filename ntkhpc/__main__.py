"""The command `ntkhpc`: what would change this process is dropped before any library is loaded."""

import sys

from ntkhpc import surroundings


def main() -> int:
    surroundings.prepare()
    from ntkhpc import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
