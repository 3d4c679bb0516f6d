"""Networks trained side by side against the same networks one after another; what lanes may not depend on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkhpc import initial_weights, lane_training, lanes, optimisers, output_scale, studies, training
from ntkhpc.lane_training import Samples
from ntkhpc.lanes import MAPPED, Lanes, Sizes, lanes_for
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm
from ntkhpc.output_scale import OutputScale
from ntkhpc.studies.ensemble import train as ensemble

RNG = np.random.default_rng(0)
N, FEATURES, TEST = 30, 96, 11
X, Y = RNG.normal(size=(N, FEATURES)), RNG.normal(size=(N, 2))
X_TEST, Y_TEST = RNG.normal(size=(TEST, FEATURES)), RNG.normal(size=(TEST, 2))
TRACE = (0, 1, 5, 40)

ON_CPU, ON_GPU = Lanes(3), Lanes(3, static=True)
DUAL_ON_CPU, DUAL_ON_GPU = Lanes(3, dual=True), Lanes(3, dual=True, static=True)
CENTRED = OutputScale(2.0, centred=True)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def program(
    algorithm: Algorithm, precision: str = "float32", scale: OutputScale = output_scale.ONE, **given: Any
) -> training.Program:
    mlp = MLP(given.pop("depth", 1), "relu", bias_variance=0.1, outputs=2)
    options = {"drawn": "float32", "watched": algorithm.falls, "output_scale": scale, **given}
    return training.Program(mlp, 24, TRACE, precision=precision, algorithm=algorithm, **options)


def trained(made: training.Program, chosen: Lanes | None, members: list[int], rate: float = 0.1) -> training.Trained:
    return training.train_tile(made, X, Y, X_TEST, Y_TEST, learning_rate=rate, seed=1, members=members, lanes=chosen)


CASES = [
    (program(Algorithm(), depth=2), (ON_CPU, ON_GPU, DUAL_ON_CPU, DUAL_ON_GPU)),
    (program(Algorithm("nesterov", 0.8, "cosine"), "float64"), (ON_CPU, DUAL_ON_GPU)),
    (program(Algorithm("gd", weight_decay=0.02), "float64", CENTRED), (DUAL_ON_CPU, ON_GPU)),
    (program(Algorithm("momentum", 0.5, weight_decay=0.02, decay_towards="start"), scale=CENTRED), (DUAL_ON_GPU,)),
    (program(Algorithm("sgd", batch=7), "float64", depth=2), (ON_GPU,)),
    (program(Algorithm("sgd", batch=7, order="own"), scale=CENTRED), (ON_GPU,)),
    (program(Algorithm("adam"), layerwise=True), (ON_CPU, ON_GPU)),
    (program(Algorithm("adamw", weight_decay=0.02, batch=13, order="own"), "float64"), (ON_GPU,)),
]


def named(case: tuple[training.Program, Any]) -> str:
    algorithm = case[0].algorithm
    return f"{algorithm.optimiser}-{algorithm.schedule}-{algorithm.order}-{case[0].precision}"


@pytest.mark.promise(
    "Networks trained side by side agree with networks trained one after another: to 1e-5 in float32, 1e-12 in float64."
)
@pytest.mark.parametrize("case", CASES, ids=named)
def test_lanes_train_the_networks_that_a_map_trains(case: tuple[training.Program, tuple[Lanes, ...]]) -> None:
    """Five in two batches of three, of which the last one is filled up."""
    made, members = case[0], [0, 5, 7, 2, 9]
    expected, tolerance = trained(made, MAPPED, members), TOLERANCE[made.precision]
    for chosen in case[1]:
        found = trained(made, chosen, members)
        for one, other in (
            (found.predictions, expected.predictions),
            (found.train_loss, expected.train_loss),
            (found.test_loss, expected.test_loss),
        ):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * abs(other).max())
        np.testing.assert_array_equal(found.last_rise, expected.last_rise)
        np.testing.assert_allclose(found.train_loss[:, -1], expected.train_loss[:, -1], rtol=100 * tolerance)


@pytest.mark.promise("The bits of a network in a lane do not depend on the networks in the other lanes.")
@pytest.mark.parametrize("chosen", [Lanes(4, dual=True), Lanes(4, static=True)], ids=["cpu", "gpu"])
def test_a_lane_has_the_same_bits_whatever_the_others_hold(chosen: Lanes) -> None:
    made = program(Algorithm("momentum", 0.5))
    one, other = trained(made, chosen, [0, 1, 2, 3]), trained(made, chosen, [8, 1, 6, 3])
    for lane in (1, 3):
        for name in ("predictions", "train_loss", "test_loss", "last_rise"):
            np.testing.assert_array_equal(getattr(one, name)[lane], getattr(other, name)[lane])
    assert (one.predictions[0] != other.predictions[0]).any()


@pytest.mark.promise("A network that diverges in a lane leaves the bits of the other lanes.")
@pytest.mark.parametrize("chosen", [Lanes(4, dual=True), Lanes(4, static=True)], ids=["cpu", "gpu"])
def test_a_lane_that_diverges_leaves_the_others_their_bits(chosen: Lanes) -> None:
    """The third network begins with weights ten thousand times as large, and is lost within a few steps."""
    made, members = program(Algorithm("momentum", 0.5)), jnp.arange(4, dtype=jnp.uint32)
    data = Samples(*(jnp.asarray(one, jnp.float32) for one in (X, X.T.copy(), Y, X_TEST, Y_TEST)))
    drawn = jax.vmap(lambda one: training.initial_weights(made, FEATURES)._draw(jnp.uint32(1), one))(members)
    spoilt = jax.tree.map(lambda one: one.at[2].multiply(1e4), drawn)
    well, ill = (
        lane_training.train(made, chosen, start, jnp.uint32(1), members, jnp.float32(0.1), data)
        for start in (drawn, spoilt)
    )
    assert np.isfinite(well[0]).all()
    assert not np.isfinite(ill[0][2]).any()
    for one, other in zip(well, ill, strict=True):
        np.testing.assert_array_equal(np.delete(one, 2, axis=0), np.delete(other, 2, axis=0))


@dataclass(frozen=True)
class Part:
    """A program of the chain that trains on a GPU: its jaxpr, and what XLA compiled."""

    name: str
    jaxpr: Any
    compiled: Any


def parts(made: training.Program, chosen: Lanes, data: Samples, lengths: tuple[int, ...] = (1, 16)) -> Iterator[Part]:
    drawn = jax.vmap(lambda one: training.initial_weights(made, data.x.shape[1])._draw(jnp.uint32(1), one))(
        members := jnp.arange(chosen.count, dtype=jnp.uint32)
    )
    before = (made, chosen, drawn, jnp.uint32(1), members, jnp.float32(0.1), data)
    held, state = jax.eval_shape(lambda *given: lane_training._begin(made, chosen, *given), *before[2:])
    losses = jax.ShapeDtypeStruct((chosen.count,), data.x.dtype)
    calls = [
        ("begun", lane_training._made_at_first, before),
        *(
            (f"{length} steps", lane_training._advanced, (made, chosen, length, held, state, jnp.int32(0)))
            for length in lengths
        ),
        ("looked at", lane_training._looked_at, (made, chosen, held, state)),
        ("ended", lane_training._ended, (made, chosen, held, state, losses)),
    ]
    for name, function, given in calls:
        traced = function.trace(*given)
        yield Part(name, traced.jaxpr.jaxpr, traced.lower().compile())


def primitives(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda one: hasattr(one, "eqns") or hasattr(one, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def of_floats(*arrays: np.ndarray) -> Samples:
    return Samples(*(jnp.asarray(one, jnp.float32) for one in arrays))


@pytest.mark.promise("The program that trains on a GPU has no loop whose length is not known, nor a branch.")
@pytest.mark.parametrize(
    "algorithm", [Algorithm("momentum", 0.5), Algorithm("sgd", batch=7, order="own")], ids=lambda one: one.optimiser
)
def test_no_loop_of_a_gpu_has_a_length_that_is_not_known(algorithm: Algorithm) -> None:
    made, loops, seen = program(algorithm), 0, set[str]()
    data = of_floats(X, X.T.copy(), Y, X_TEST, Y_TEST)
    for part in parts(made, Lanes(4, dual=algorithm.is_linear, static=True), data):
        found = set(primitives(part.jaxpr))
        assert not found & {"while", "cond"}, part.name
        lines = [line for line in part.compiled.as_text().splitlines() if re.search(r"\bwhile\(", line)]
        assert all("known_trip_count" in line for line in lines), part.name
        loops += len(lines)
        seen |= found
    assert loops
    assert {"dot_general", "scan"} <= seen
    drawn = training.initial_weights(made, FEATURES)._compiled(4, True, False, initial_weights._settings())
    assert "conditional(" not in drawn.as_text()  # type: ignore[attr-defined]  # a compiled program


def test_the_search_for_loops_finds_one() -> None:
    def search(x: Any) -> Any:
        return jax.lax.map(lambda one: jax.lax.while_loop(lambda y: y < 7, lambda y: y + one, one), x)

    assert "while" in set(primitives(jax.make_jaxpr(search)(jnp.ones(3)).jaxpr))


MEMORY = [
    (program(Algorithm()), Lanes(8, static=True), 25),
    (program(Algorithm("momentum", 0.5), depth=2), Lanes(8, dual=True, static=True), 200),
    (program(Algorithm("adam", batch=20, order="own")), Lanes(4, static=True), 200),
    (program(Algorithm("gd", weight_decay=0.1, decay_towards="start"), scale=CENTRED), Lanes(4, static=True), 784),
]


@pytest.mark.promise("What lanes take of a GPU is within the projection by which their number is chosen.")
@pytest.mark.parametrize(("made", "chosen", "features"), MEMORY, ids=["plain", "dual", "adam", "centred"])
def test_programs_of_lanes_take_what_is_projected(made: training.Program, chosen: Lanes, features: int) -> None:
    """By the compiler's own account, on a CPU; and no more than five times less."""
    n, test = 150, 100
    rng, largest = np.random.default_rng(1), 0
    x, x_test = rng.normal(size=(n, features)), rng.normal(size=(test, features))
    data = of_floats(x, x.T.copy(), rng.normal(size=(n, 2)), x_test, rng.normal(size=(test, 2)))
    for part in parts(made, chosen, data, lengths=(16,)):
        found = part.compiled.memory_analysis()
        taken = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        largest = max(largest, taken + found.temp_size_in_bytes)
        if part.name.endswith("steps"):
            assert found.alias_size_in_bytes > 0, "the state is not given to the next program"
    sizes = Sizes(features, made.width, made.mlp.depth, 2, n, test, 4)
    projected = lanes.shared_bytes(sizes, chosen.dual)
    projected += chosen.count * lanes.lane_bytes(sizes, made.trained_by, chosen.dual)
    assert largest <= projected <= 5 * largest, f"{largest:,} bytes, projected {projected:,}"


@pytest.mark.parametrize("scale", [output_scale.ONE, CENTRED], ids=["plain", "centred"])
def test_on_a_cpu_test_points_are_those_of_one_network_at_a_time(scale: OutputScale) -> None:
    """Beside what is returned and subtracted a program takes activations of 20,000 test points of one lane, not 8."""
    count, test = 8, 20_000
    made = program(Algorithm(), scale=scale, depth=2)
    zeros = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in
             ((N, FEATURES), (FEATURES, N), (N, 2), (test, FEATURES), (test, 2))]  # fmt: skip
    drawn = jax.eval_shape(lambda: jax.vmap(lambda key: made.mlp.of_width(made.width).init(
        key, FEATURES, jnp.dtype("float32")))(jax.random.split(jax.random.key(0), count)))  # fmt: skip
    of_lanes = jax.ShapeDtypeStruct((count,), jnp.uint32)
    compiled = lane_training._in_one.lower(
        made, Lanes(count), drawn, jnp.uint32(0), of_lanes, jnp.float32(0.1), Samples(*zeros)
    ).compile()
    one, values = 4 * test * made.width, 4 * count * test * 2
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * one + 5 * values < count * one + 3 * values


SIZES = Sizes(features=25, width=32, depth=1, outputs=1, n_train=32, n_test=100, itemsize=4)


def of(members: int = 10, usable: int | None = None, algorithm: Algorithm = optimisers.PLAIN, **sizes: int) -> Lanes:
    return lanes_for(replace(SIZES, **sizes), algorithm, members, usable)


def test_a_cpu_has_lanes_for_the_smallest_networks_by_their_sizes() -> None:
    assert of() == Lanes(10, dual=True)
    assert of(n_train=64) == Lanes(10, dual=False)  # more than twice as many samples as features
    assert of(width=64) == Lanes(10, dual=True)
    assert of(n_train=64, width=64) == of(width=65) == of(depth=3) == MAPPED
    assert of(members=1) == of(algorithm=Algorithm("sgd", batch=4)) == MAPPED
    assert of(algorithm=Algorithm("adam")) == Lanes(10, dual=False)
    assert [of(members=members).count for members in (2, 16, 17, 20, 100)] == [2, 16, 9, 10, 15]


def test_a_gpu_has_as_many_lanes_as_fit_a_power_of_two() -> None:
    """Of 0.6 of the memory the lanes of the formula with which the program was designed, or at most half as many."""
    for width, n, test, features in ((32, 32, 2000, 25), (512, 1000, 2000, 784), (1024, 2048, 2000, 25)):
        sizes = {"width": width, "n_train": n, "n_test": test, "features": features}
        most = 0.6 * 80e9 / (4 * (4 * n * width + 4 * test * width + 4 * features * width))
        count = of(10**7, int(0.6 * 80e9), **sizes).count
        assert most / 4 < count <= most
        batches = -(-(10**7) // count)
        assert count * batches - 10**7 < batches  # the last batch is filled up by less than one lane a batch
    few = of(10, 2**30, n_train=4000, width=4096)
    assert few == Lanes(few.count, static=True)
    assert few.count < 10
    assert of(100, 2**20, n_train=10**6) == Lanes(1, static=True)
    assert of(100, 2**30) == Lanes(100, static=True)
    assert of(100, 2**30, features=100).dual
    assert not of(100, 2**30, features=100, algorithm=Algorithm("adam")).dual


@pytest.mark.parametrize("steps", [0, 1, 15, 16, 100, 4095, 4096, 123456])
def test_programs_of_few_lengths_take_all_steps(steps: int) -> None:
    for longest in (1, 16, 4096):
        found = list(lanes.pieces(steps, longest))
        assert sum(found) == steps
        assert set(found) <= {1, 16, 256, 4096}
        assert max(found, default=0) <= longest


def test_a_study_trains_in_the_lanes_that_are_the_default_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        'name = "t"\n[data]\nsource = "calorimeter"\ntest = 100\n[network]\nwidths = [16, 512]\ndepth = 2\n'
        "[ensemble]\nn_train = [8, 300]\nmembers = 20\ntile = 5\n[training]\nmomentum = 0.5\nprecision = 'float64'"
    )
    wanted = studies.loads(text)
    for usable in (None, 2**22):
        monkeypatch.setattr(training, "device_bytes", lambda usable=usable: usable)
        for width, n in ((16, 8), (512, 300)):
            made = ensemble.program(wanted, width, wanted.trace_steps(n))
            assert ensemble.lanes(wanted, width, n, usable) == training._lanes(made, wanted.features, n, 100, 5)
    assert ensemble.lanes(wanted, 16, 8, None).count == 5
    assert ensemble.lanes(wanted, 512, 300, None) == MAPPED
