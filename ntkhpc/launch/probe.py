"""`python -m ntkhpc.launch.probe STUDY` prints, as JSON, how fast this core or GPU does what costs most of a study.

The ratio of projected to measured time scales every projection.
"""

import json
import platform
import sys
from pathlib import Path

from ntkhpc import studies


def main() -> int:
    import jax

    study = studies.load(Path(sys.argv[1]))
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
