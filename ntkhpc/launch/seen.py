"""Which packages this Python sees: `python .../seen.py NAME...` prints the version of each as JSON, null for none.

It imports nothing but the standard library, as it also runs where packages are missing.
"""

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Sequence


def versions(names: Sequence[str]) -> dict[str, str | None]:
    """Return the version of each package, nothing for one of unknown version, None for one that is not there.

    No package is imported.
    """
    return {name: _version(name) if importlib.util.find_spec(name) else None for name in names}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    print(json.dumps(versions(sys.argv[1:])))
