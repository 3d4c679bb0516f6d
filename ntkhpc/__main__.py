import sys

from ntkhpc.cli import main

if __name__ == "__main__":
    sys.exit(main())
