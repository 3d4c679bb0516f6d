"""`python -m ntkhpc.launch.probe STUDY` prints, as JSON, how fast this core or GPU does what costs most of a study.

STUDY is a file that `studies.dumps` wrote. It may have facts of the data, which no file of a user has.
The ratio of projected to measured time scales every projection.
"""

import json
import platform
import sys
from pathlib import Path

from ntkhpc import studies
from ntkhpc.errors import NtkhpcError
from ntkhpc.studies import frozen


def main() -> int:
    import jax

    path = Path(sys.argv[1])
    try:
        study = frozen.loads(path.read_text(encoding="utf-8"), path)
    except NtkhpcError as error:
        print(error.what, file=sys.stderr)  # in one line, which is what `make plan` repeats
        return error.exit_code
    found = {
        "speed": round(studies.kind_of(study).probe(study), 3),
        "platform": jax.devices()[0].platform,
        "device": jax.devices()[0].device_kind,
        "host": platform.node(),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
