"""`make bench`: what the parts cost against their bound and against the obvious alternative, as ratios in one process.

Nothing here passes or fails: machines differ and are noisy. Best of several interleaved repetitions.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bench_memory
import dask
import jax
import jax.numpy as jnp
import numpy as np
import zarr
from support.losses import make_drawn
from support.runs import make_run

from analysis import aggregate
from ntkhpc import infinite_width, kernels, lanes, leaps, seeds, tangents, training, twins
from ntkhpc.engine import plan, run, status
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
    """A tile, one member after another, against its matrix products alone, a Python loop over members, and vmap."""
    mlp, steps = MLP(depth=1, activation="relu"), 4 * n_train
    rng = np.random.default_rng(0)
    x, y, x_test, y_test = (
        rng.normal(size=s).astype(np.float32) for s in ((n_train, 25), (n_train, 1), (50, 25), (50, 1))
    )
    program = training.Program(mlp, width, (0, steps))

    def train(numbers: range) -> Any:
        return training.train_tile(
            program, x, y, x_test, y_test, learning_rate=0.1, seed=0, members=numbers, lanes=lanes.MAPPED
        ).predictions

    @jax.jit
    def products(x: jax.Array, weights: jax.Array) -> jax.Array:
        def step(_: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            weights, out = state
            out = x @ weights
            return weights + 1e-9 * (x.T @ out), out

        return jax.lax.fori_loop(0, steps * members, step, (weights, x @ weights))[0]

    held = training._held(program, jnp.asarray(x), jnp.asarray(x.T.copy()))
    drawn = training.initial_weights(program, x.shape[1])

    def alone(member: jax.Array) -> jax.Array:
        start, data = drawn._draw(jnp.uint32(0), member), map(jnp.asarray, (x, y, x_test, y_test))
        return training._train_member(program, held(start), jnp.uint32(0), member, jnp.float32(0.1), *data)[0]

    batched = jax.jit(jax.vmap(alone))
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


def lanes_of_tile(width: int, n_train: int, features: int, members: int = 10) -> None:
    """A tile in lanes as a CPU trains it, in the same lanes as a GPU does, and with the other form of the first layer,
    against one member after another."""
    mlp, steps = MLP(depth=1, activation="relu"), 40 * n_train
    rng = np.random.default_rng(0)
    sizes = ((n_train, features), (n_train, 1), (50, features), (50, 1))
    data = [rng.normal(size=size).astype(np.float32) for size in sizes]
    program = training.Program(mlp, width, (0, steps), watched=True)
    dual = n_train < lanes.DUAL_SHARE * features

    def train(chosen: lanes.Lanes) -> Any:
        given = {"learning_rate": 0.1, "seed": 0, "members": range(members), "lanes": chosen}
        return training.train_tile(program, *data, **given).predictions  # type: ignore[arg-type]  # of a dict

    of = lanes.Sizes(features, width, 1, 1, n_train, 50, 4)
    default = lanes.lanes_for(of, program.trained_by, members, None)
    chosen = [
        lanes.MAPPED,
        lanes.Lanes(members, dual),
        lanes.Lanes(members, not dual),
        lanes.Lanes(members, dual, True),
    ]
    mapped, here, other, static = best(*(partial(train, one) for one in chosen))
    print(
        f"{members} lanes, width {width:4}, n_train {n_train:4}, d {features:3}: {here / mapped:4.2f} of the time of "
        f"one after another ({'which' if default.count else 'not what'} a CPU takes), {other / mapped:4.2f} "
        f"{'without' if dual else 'with'} the dual form, as on a GPU {static / mapped:4.2f}"
    )


def leaps_of_tile(width: int, n_train: int, features: int, members: int = 10) -> None:
    """Members in leaps against the same members trained, on targets that networks of such sizes learn."""
    mlp, steps = MLP(depth=1, activation="relu"), 4 * n_train
    rng = np.random.default_rng(0)
    x, x_test = (rng.normal(size=(n, features)).astype(np.float32) for n in (n_train, 500))
    direction = rng.normal(size=(features, 1)) / np.sqrt(features)
    y, y_test = (np.sin(2 * one @ direction).astype(np.float32) for one in (x, x_test))
    rate = n_train / kernels.lambda_max(kernels.nngp_ntk(mlp, x)[1])
    program = training.Program(mlp, width, tuple(sorted({0, *np.geomspace(1, steps, 11).astype(int).tolist()})))
    given: dict[str, Any] = {"learning_rate": rate, "seed": 0, "members": range(members)}
    data = (x, y, x_test, y_test)
    found, truth = leaps.leap_tile(program, *data, **given), training.train_tile(program, *data, **given)
    trained, leapt, twin = best(
        lambda: training.train_tile(program, *data, **given).predictions,
        lambda: leaps.leap_tile(program, *data, **given).predictions,
        lambda: twins.twin_tile(program, *data, **given).predictions,
        repeats=3,
    )
    off = found.test_loss / truth.test_loss[:, -1] - 1
    print(
        f"{members} leapt, width {width:4}, n_train {n_train:4}, d {features:3}: training takes {trained / leapt:4.1f} "
        f"times as long, {trained / twin:4.1f} times as long as twins; {found.leaps.mean():4.1f} leaps, losses off by "
        f"{100 * np.sqrt(np.mean(off**2)):.1f} % rms, {100 * off.mean():+.1f} % on average"
    )


def kernel(n: int, features: int) -> None:
    """NNGP and NTK against one matrix product with elementwise passes over its result, and neural-tangents jitted.

    And with two threads against one.
    """
    x = np.random.default_rng(0).normal(size=(n, features))
    mlp, other = MLP(depth=3, activation="relu"), x.copy()
    theirs = jax.jit(lambda x: tuple(stax_kernel(3)(x, None, ("nngp", "ntk"))))

    def bound() -> Any:
        product = x @ other.T  # not x @ x.T, of which BLAS computes one half
        return product + 1.0, product * 2.0

    with jax.enable_x64(True):
        device = jnp.asarray(x)
        two = partial(kernels.nngp_ntk, mlp, x, threads=2)
        times = best(lambda: kernels.nngp_ntk(mlp, x), bound, lambda: theirs(device), two, repeats=3)
    print(
        f"kernels, depth 3, n {n}, d {features}, float64: {times[0]:.2f} s, {times[0] / times[1]:.1f} times GEMM and "
        f"writes; neural-tangents jitted takes {times[2] / times[0]:.1f} times as long, two threads "
        f"{times[3] / times[0]:.2f}"
    )


def stax_kernel(depth: int) -> Any:
    stax = tangents.load().stax
    hidden = [layer for _ in range(depth) for layer in (stax.Dense(1, W_std=2**0.5), stax.Relu())]
    return stax.serial(*hidden, stax.Dense(1, W_std=2**0.5))[2]


def learning_curve(n: int, points: int, sizes: int) -> None:
    """Laws of many nested sizes against the law of the largest alone, against each by itself, and neural-tangents'."""
    rng = np.random.default_rng(0)
    x, y, x_test = (rng.normal(size=s) for s in ((n, 25), (n, 1), (points, 25)))
    mlp = MLP(depth=1, activation="relu")
    ends = sorted({int(size) for size in np.geomspace(n / 64, n, sizes)})
    blocks = infinite_width.panels(mlp, x, x_test)

    def theirs() -> Any:
        predict = tangents.load().predict.gradient_descent_mse_ensemble
        return [predict(stax_kernel(1), x[:m], y[:m])(x_test=x_test, get="ntk", compute_cov=True) for m in ends]

    with jax.enable_x64(True):
        curve, one, each, tangent = best(
            lambda: [law[0] for law in infinite_width.nested_laws(blocks, y, ends)],
            lambda: [law[0] for law in infinite_width.nested_laws(blocks, y, [n])],
            lambda: [next(infinite_width.nested_laws(blocks.leading(m), y[:m], [m]))[0] for m in ends],
            theirs,
            repeats=2,
        )
    print(
        f"learning curve, {len(ends)} sizes to {n}, {points} test points: {curve:.2f} s, {curve / one:.2f} times the "
        f"largest alone; size by size takes {each / curve:.2f}, neural-tangents {tangent / curve:.1f} times as long"
    )


def ten_thousand_shards() -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = make_run(Path(folder), members=30_000, predictions="false")
        planning, looking = best(lambda: plan.make(target.study), lambda: status.phases(run.Run(target.path)))
        count = len(target.plan.shards)
    print(f"{count:,} shards: plan {planning:.2f} s, status {looking:.2f} s")


def aggregation(members: int, points: int) -> None:
    """Moments of an ensemble against Zarr's read, chunk by chunk, of what they are made from; and by two threads."""
    with tempfile.TemporaryDirectory() as folder:
        target = make_drawn(Path(folder), members, points)
        names = ("test_point_loss", "prediction_mean", "prediction_m2")
        stored = [zarr.open_array(target.store / name, mode="r") for name in names]

        def read() -> None:
            for array in stored:
                for first in range(0, array.shape[3], array.chunks[3]):
                    array[:, :, :, first : first + array.chunks[3]]

        def moments(threads: int) -> None:
            with dask.config.set(num_workers=threads):
                aggregate.moments(target)

        reading, one, two = best(read, partial(moments, 1), partial(moments, 2))
        size = sum(array.nbytes for array in stored) / 1e6
    print(
        f"moments of {members:,} members at {points:,} test points: {one:.2f} s, {one / reading:.1f} times Zarr's read "
        f"of their {size:,.0f} MB; two threads take {two / one:.2f} of it"
    )


if __name__ == "__main__":
    bench_memory.main(sys.argv[1:])
    ten_thousand_shards()
    aggregation(20_000, 1000)
    for width in (32, 128, 512):
        for n_train in (32, 256):
            ensemble_tile(width, n_train)
    for width, n_train, features in (
        (32, 32, 25),
        (32, 32, 784),
        (64, 32, 25),
        (32, 64, 25),
        (64, 64, 25),
        (512, 256, 25),
    ):
        lanes_of_tile(width, n_train, features)
    for width, n_train, features in ((32, 32, 25), (128, 128, 25), (512, 256, 25), (512, 256, 784)):
        leaps_of_tile(width, n_train, features, 4)
    kernel(2000, 784)
    kernel(4000, 784)
    learning_curve(2048, 500, 16)
    learning_curve(2048, 2000, 16)
