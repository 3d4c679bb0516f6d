"""`make bench`: what the parts cost against their bound and against the obvious alternative, as ratios in one process.

Nothing here passes or fails: machines differ and are noisy. Best of several interleaved repetitions.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from conftest import make_run

from ntkhpc import kernels, plan, run, seeds, status, training
from ntkhpc.networks import MLP


def best(*jobs: Callable[[], Any], repeats: int = 5) -> list[float]:
    """Shortest time of each job in seconds; the jobs take turns, after one turn that is not counted."""
    times = [[float("inf")] for _ in jobs]
    for repeat in range(repeats + 1):
        for row, job in zip(times, jobs, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(job())
            if repeat:
                row.append(time.perf_counter() - start)
    return [min(row) for row in times]


def ensemble_tile(width: int, n_train: int, members: int = 10) -> None:
    """A tile against its matrix products alone, a Python loop over members, and vmap."""
    mlp, steps = MLP(depth=1, activation="relu"), 4 * n_train
    rng = np.random.default_rng(0)
    x, y, x_test, y_test = (
        rng.normal(size=s).astype(np.float32) for s in ((n_train, 25), (n_train, 1), (50, 25), (50, 1))
    )
    program = training.Program(mlp, width, (0, steps))

    def train(numbers: range) -> Any:
        return training.train_tile(
            program, x, y, x_test, y_test, learning_rate=0.1, seed=0, members=numbers
        ).predictions

    @jax.jit
    def products(x: jax.Array, weights: jax.Array) -> jax.Array:
        def step(_: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            weights, out = state
            out = x @ weights
            return weights + 1e-9 * (x.T @ out), out

        return jax.lax.fori_loop(0, steps * members, step, (weights, x @ weights))[0]

    batched = jax.jit(
        jax.vmap(lambda m: training._train_member(program, m, jnp.uint32(0), jnp.float32(0.1), x, y, x_test, y_test)[0])
    )
    numbers = jnp.arange(members, dtype=jnp.uint32)
    weights = jax.random.normal(seeds.member_key(0, width, 0), (25, width))
    tile, bound, loop, vmap = best(
        lambda: train(range(members)),
        lambda: products(x, weights),
        lambda: [train(range(i, i + 1)) for i in range(members)],
        lambda: batched(numbers),
    )
    print(
        f"tile of {members}, width {width:4}, n_train {n_train:4}: {members * steps / tile:9,.0f} member steps/s; "
        f"GEMMs alone {bound / tile:4.2f}, loop {loop / tile:4.2f}, vmap {vmap / tile:4.2f} of its time"
    )


def kernel(n: int, features: int) -> None:
    """NNGP and NTK against one matrix product and two writes of the result."""
    x = np.random.default_rng(0).normal(size=(n, features))
    mlp = MLP(depth=3, activation="relu")
    ours, bound = best(lambda: kernels.nngp_ntk(mlp, x), lambda: ((x @ x.T) + 1, (x @ x.T).copy()))
    print(f"kernels, depth 3, n {n}, d {features}, float64: {ours:.2f} s, {ours / bound:.1f} times GEMM and writes")


def ten_thousand_shards() -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = make_run(Path(folder), members=30_000, predictions="false")
        planning, looking = best(lambda: plan.make(target.study), lambda: status.phases(run.Run(target.path)))
        count = len(target.plan.shards)
    print(f"{count:,} shards: plan {planning:.2f} s, status {looking:.2f} s")


if __name__ == "__main__":
    ten_thousand_shards()
    for width in (32, 128, 512):
        for n_train in (32, 256):
            ensemble_tile(width, n_train)
    kernel(2000, 784)
