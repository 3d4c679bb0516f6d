"""How fast this core, or this GPU, trains the networks of a study: `python -m ntkhpc.launch.probe STUDY` prints JSON.

The most expensive cell of an ensemble is trained for about a second of projected time; the ratio of projected to
measured time scales every projection.
"""

import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import scipy.linalg

from ntkhpc import studies, training
from ntkhpc.studies import cost
from ntkhpc.studies.base import AnyStudy
from ntkhpc.studies.ensemble.network import mlp
from ntkhpc.studies.ensemble.study import Study

SECONDS = 1.0


def speed(wanted: AnyStudy) -> float:
    """Projected over measured time of what costs most: training, or for a posterior the factorisations in float64."""
    return _training(wanted) if isinstance(wanted, Study) else _factorisation()


def _factorisation(n: int = 800) -> float:
    matrix = np.random.default_rng(0).normal(size=(n, n))
    symmetric = matrix @ matrix.T
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        scipy.linalg.eigh(symmetric, driver="evd", check_finite=False)
        taken.append(time.perf_counter() - started)
    return 30 * n**3 / cost.FLOPS_FLOAT64 / min(taken)


def _training(wanted: Study) -> float:
    """One tile of the largest width and n_train."""
    width, n = wanted.network.widths[-1], wanted.ensemble.n_train[-1]
    tile, features = wanted.ensemble.tile, wanted.features
    per_step = (3 * cost.forward_flops(wanted, width, n) - 2.0 * n * features * width) / cost.FLOPS_PER_SECOND
    per_step += cost.SECONDS_PER_STEP
    steps = max(1, int(SECONDS / (per_step * tile)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, features)), rng.normal(size=(n, wanted.outputs))
    program = training.Program(
        mlp=mlp(wanted),
        width=width,
        trace_steps=(0, steps),
        momentum=wanted.training.momentum,
        precision=wanted.training.precision,
        matmul_precision=wanted.training.matmul_precision,
    )
    taken = []
    for _ in range(3):  # the first one compiles
        started = time.perf_counter()
        training.train_tile(program, x, y, x[:8], y[:8], learning_rate=1e-9, seed=0, members=range(tile))
        taken.append(time.perf_counter() - started)
    slower = 2.0 if wanted.training.precision == "float64" else 1.0
    return per_step * slower * steps * tile / min(taken[1:])


def main() -> int:
    import jax

    found = {
        "speed": round(speed(studies.load(Path(sys.argv[1]))), 3),
        "platform": jax.devices()[0].platform,
        "device": jax.devices()[0].device_kind,
        "host": platform.node(),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
