"""Each training algorithm against a loop in plain NumPy, step by step; what an algorithm may be."""

import math
from collections.abc import Iterator

import jax
import numpy as np
import optax
import pytest

from ntkhpc import minibatches, optimisers, seeds, training
from ntkhpc.networks import MLP
from ntkhpc.optimisers import Algorithm
from ntkhpc.rises import sound_rises

RNG = np.random.default_rng(5)
N, WIDTH, STEPS, SEED, MEMBER = 8, 16, 12, 7, 3
X, Y = RNG.normal(size=(N, 4)), RNG.normal(size=(N, 1))
X_TEST, Y_TEST = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 1))
MLP_ = MLP(depth=1, activation="relu")
TRACE = tuple(range(STEPS + 1))

ALGORITHMS = [
    Algorithm("nesterov", 0.8, "cosine"),
    Algorithm(schedule="warmup-cosine"),
    Algorithm("sgd", batch=3),
    Algorithm("sgd", batch=2, order="own", schedule="cosine"),
    Algorithm("adam"),
    Algorithm("adam", schedule="warmup-cosine", batch=4, order="own"),
    Algorithm("adamw", weight_decay=0.3),
    Algorithm("adamw", weight_decay=0.3, decay_towards="start"),
    Algorithm("gd", weight_decay=0.05),
    Algorithm("momentum", 0.5, weight_decay=0.05, decay_towards="start"),
    Algorithm("sgd", batch=4, weight_decay=0.05),
]


def named(algorithm: Algorithm) -> str:
    return "-".join(str(one) for one in (algorithm.optimiser, algorithm.schedule, algorithm.batch, algorithm.order))


def rate_of(schedule: str, s: int) -> float:
    """eta_s over its peak, written out."""
    rising = STEPS // 10 if schedule == "warmup-cosine" else 0
    if schedule == "constant":
        return 1.0
    if s < rising:
        return (s + 1) / (rising + 1)
    return (1 + math.cos(math.pi * (s - rising) / (STEPS - rising))) / 2


def batches_of(algorithm: Algorithm) -> Iterator[np.ndarray]:
    """An order an epoch, cut from its beginning; the key of the member itself if orders are its own."""
    own = seeds.member_key(SEED, WIDTH, MEMBER) if algorithm.order == "own" else jax.random.key(SEED)
    for s in range(STEPS):
        if not algorithm.batch:
            yield np.arange(N)
            continue
        epoch, place = divmod(s, N // algorithm.batch)
        key = jax.random.fold_in(jax.random.fold_in(own, 12), epoch)
        order = np.asarray(jax.random.permutation(key, N))
        yield order[place * algorithm.batch : (place + 1) * algorithm.batch]


def by_hand(algorithm: Algorithm, peak: float, precision: type = np.float64) -> list[float]:
    """The training loss before each step and after the last, of a one-hidden-layer ReLU network; gradients by hand."""
    with jax.enable_x64(precision == np.float64):
        drawn = MLP_.init(seeds.member_key(SEED, WIDTH, MEMBER), X.shape[1], [WIDTH], precision)
    theta = [np.asarray(layer[0], np.float64) for layer in drawn]
    start, s1, s2 = [one.copy() for one in theta], math.sqrt(2 / X.shape[1]), math.sqrt(2 / WIDTH)
    v = [np.zeros_like(one) for one in theta]
    q = [np.zeros_like(one) for one in theta]
    losses = []

    def outputs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = s1 * x @ theta[0]
        return z, s2 * np.maximum(z, 0) @ theta[1]

    for s, chosen in enumerate(batches_of(algorithm)):
        losses.append(float(((outputs(X)[1] - Y) ** 2).mean() / 2))
        x, y = X[chosen], Y[chosen]
        z, f = outputs(x)
        residual = (f - y) / y.size
        gradient = [s1 * x.T @ (s2 * (residual @ theta[1].T) * (z > 0)), s2 * np.maximum(z, 0).T @ residual]
        eta = peak * rate_of(algorithm.schedule, s)
        if algorithm.optimiser.startswith("adam"):
            eta /= math.sqrt(WIDTH)
            v = [0.9 * m + 0.1 * g for m, g in zip(v, gradient, strict=True)]
            q = [0.999 * m + 0.001 * g**2 for m, g in zip(q, gradient, strict=True)]
            u = [
                (m / (1 - 0.9 ** (s + 1))) / (np.sqrt(r / (1 - 0.999 ** (s + 1))) + 1e-8)
                for m, r in zip(v, q, strict=True)
            ]
        else:
            beta = algorithm.momentum
            v = [g + beta * m for m, g in zip(v, gradient, strict=True)]
            u = v if algorithm.optimiser != "nesterov" else [g + beta * m for m, g in zip(v, gradient, strict=True)]
        fixed = start if algorithm.decay_towards == "start" else [0 * one for one in start]
        theta = [
            p - eta * (one + algorithm.weight_decay * (p - p0)) for p, one, p0 in zip(theta, u, fixed, strict=True)
        ]
    return [*losses, float(((outputs(X)[1] - Y) ** 2).mean() / 2)]


@pytest.mark.promise("Every training algorithm agrees step by step with a loop in plain NumPy, to 1e-5 and better.")
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=named)
def test_each_step_is_that_of_plain_numpy(algorithm: Algorithm) -> None:
    """In float64, at every step, to 1e-9 (1e-7 for schedules, which optax computes in float32); another one is far."""
    peak = 0.3
    program = training.Program(MLP_, WIDTH, TRACE, precision="float64", algorithm=algorithm)
    trained = training.train_tile(program, X, Y, X_TEST, Y_TEST, learning_rate=peak, seed=SEED, members=[MEMBER])
    digits = 1e-9 if algorithm.schedule == "constant" else 1e-7
    np.testing.assert_allclose(trained.train_loss[0], by_hand(algorithm, peak), rtol=digits)
    other = Algorithm("nesterov", 0.7)
    assert abs(by_hand(other, peak)[-1] / trained.train_loss[0, -1] - 1) > 1e-3


@pytest.mark.parametrize("algorithm", [Algorithm("adam", batch=3, order="own"), Algorithm("nesterov", 0.8, "cosine")])
def test_single_precision_agrees_to_five_digits(algorithm: Algorithm) -> None:
    program = training.Program(MLP_, WIDTH, (0, 1, 5, STEPS), algorithm=algorithm)
    trained = training.train_tile(program, X, Y, X_TEST, Y_TEST, learning_rate=0.3, seed=SEED, members=[MEMBER])
    expected = np.array(by_hand(algorithm, 0.3, np.float32))[[0, 1, 5, STEPS]]
    np.testing.assert_allclose(trained.train_loss[0], expected, rtol=1e-5)


def test_members_with_orders_of_their_own_do_not_depend_on_their_tile_and_differ_from_a_shared_order() -> None:
    def train(members: list[int], order: str) -> np.ndarray:
        program = training.Program(MLP_, WIDTH, (0, STEPS), algorithm=Algorithm("sgd", batch=3, order=order))
        data = (X, Y, X_TEST, Y_TEST)
        return training.train_tile(program, *data, learning_rate=0.3, seed=SEED, members=members).predictions

    one, other = train([0, 1, 2], "own"), train([2, 5, 0], "own")
    np.testing.assert_array_equal(one[0], other[2])
    np.testing.assert_array_equal(one[2], other[0])
    assert (train([0, 1, 2], "shared")[0] != one[0]).any()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup-cosine"])
@pytest.mark.parametrize("steps", [1, 2, 9, 10, 57])
def test_schedules_of_the_law_are_those_of_the_networks(schedule: str, steps: int) -> None:
    found = optimisers.multipliers(schedule, steps)
    assert found.shape == (steps,)
    assert found.min() > 0
    assert found.max() <= 1
    if schedule != "constant":
        unit = optimisers._schedule(schedule, steps)
        np.testing.assert_allclose(found, [float(unit(s)) for s in range(steps)], atol=1e-6)


def test_an_epoch_uses_no_sample_twice_and_every_one_where_batches_fill_it() -> None:
    found = minibatches.batches(seeds.order_key(3), 12, 4, 9)
    for epoch in range(3):
        assert sorted(found[3 * epoch : 3 * epoch + 3].ravel()) == list(range(12))
    left = minibatches.batches(seeds.order_key(3), 11, 4, 9)
    assert left.shape == (9, 4)
    assert all(len(set(left[2 * epoch : 2 * epoch + 2].ravel())) == 8 for epoch in range(4))
    assert {int(one) for one in left.ravel()} == set(range(11))  # what one epoch leaves out comes in another
    with pytest.raises(ValueError, match="batch = 13 is more than the 12 samples"):
        minibatches.batches(seeds.order_key(3), 12, 13, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimiser": "lion"}, "lion"),
        ({"optimiser": "momentum"}, "needs momentum"),
        ({"optimiser": "nesterov"}, "needs momentum"),
        ({"optimiser": "sgd"}, "needs batch"),
        ({"optimiser": "adamw"}, "needs weight_decay"),
        ({"optimiser": "adam", "momentum": 0.9}, "momentum = 0.9 is not for adam"),
        ({"optimiser": "adam", "weight_decay": 0.9}, "is not for adam, but for gd, momentum, nesterov, sgd, adamw"),
        ({"optimiser": "gd", "batch": 4}, "batch = 4 is not for gd, but for sgd, adam, adamw"),
        ({"optimiser": "adam", "order": "own"}, "give batch"),
        ({"schedule": "linear"}, "linear"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"optimiser": "momentum", "momentum": 1.0}, "momentum"),
    ],
)
def test_what_an_optimiser_cannot_use_or_lacks_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Algorithm(**given)  # type: ignore[arg-type]  # of a dict


@pytest.mark.parametrize("name", ["gd", "momentum", "nesterov", "sgd", "adam", "adamw"])
def test_the_states_of_an_entry_are_what_optax_keeps(name: str) -> None:
    """Numbers a parameter, which the memory of a study is projected by; counters are not among them."""
    needs = {"momentum": 0.9, "batch": 4, "weight_decay": 0.1}
    algorithm = Algorithm(name, **{field: needs[field] for field in optimisers.OPTIMISERS[name].needs})  # type: ignore[arg-type]  # of a dict
    parameters = {"w": np.zeros((30, 4), np.float32)}
    state = optimisers.transformation(algorithm, 0.1, 10, parameters).init(parameters)
    kept = sum(one.size for one in jax.tree.leaves(state) if one.ndim)
    assert kept == algorithm.entry.states * 120


@pytest.mark.parametrize(
    ("algorithm", "towards"),
    [(Algorithm(), 0.0), (Algorithm("momentum", 0.7), 0.0), (Algorithm("nesterov", 0.7), 0.0),
     (Algorithm(weight_decay=0.4, decay_towards="start"), 0.4),
     (Algorithm("momentum", 0.7, weight_decay=0.4, decay_towards="start"), 0.4),
     (Algorithm("nesterov", 0.7, weight_decay=0.4, decay_towards="start"), 0.4)],
)  # fmt: skip
def test_the_stability_bound_is_where_a_mode_stops_contracting(algorithm: Algorithm, towards: float) -> None:
    """A mode of curvature 3 by the rules of the optimiser, as optax applies them, below and above the bound."""
    curvature, c = 3.0, 1.0
    bound = float(optimisers.stability_bound(algorithm, curvature, 1, c))

    def size(rate: float) -> float:
        theta = start = np.array([1.0])  # decay towards `start` of a cost with its minimum at 0
        theta = theta + 1.0
        maker = optimisers.transformation(algorithm, rate, 400, start)
        fixed = towards / (curvature / (1 - algorithm.momentum) + towards)
        with jax.enable_x64(True):
            state = maker.init(theta)
            update = jax.jit(maker.update)
            for _ in range(400):
                moved, state = update(curvature * theta, state, theta)
                theta = optax.apply_updates(theta, moved)
        return abs(float(theta[0]) - fixed)

    assert size(0.98 * bound) < 1e-2
    assert size(1.02 * bound) > 10


def test_mini_batches_are_bounded_by_every_batch() -> None:
    """No batch has a larger eigenvalue than is reckoned with, and it is not that of all samples."""
    root = RNG.normal(size=(N, 3))
    kernel = root @ root.T + 0.1 * np.eye(N)
    whole = float(np.linalg.eigvalsh(kernel)[-1])
    bound = float(optimisers.stability_bound(Algorithm("sgd", batch=2), whole, N, 1, np.diag(kernel)))
    blocks = [kernel[np.ix_([i, j], [i, j])] for i in range(N) for j in range(i)]
    largest = max(float(np.linalg.eigvalsh(block)[-1]) for block in blocks)
    assert 2 * 2 / whole <= bound <= 2 * 2 / largest


@pytest.mark.parametrize("algorithm", [Algorithm("nesterov", 0.9), Algorithm("momentum", 0.9, "warmup-cosine")])
def test_no_stable_linear_model_rises_by_more_than_is_sound_with_other_momenta_and_rates(algorithm: Algorithm) -> None:
    steps, bound = 120, optimisers.stability_bound(algorithm, 1.0, 1, 1)
    curvature = bound * np.random.default_rng(2).uniform(0.001, 0.999, 300)
    theta, velocity, losses = np.ones(300), np.zeros(300), []
    for part in [*optimisers.multipliers(algorithm.schedule, steps), 0.0]:
        losses.append(theta**2)
        velocity = curvature * theta + 0.9 * velocity
        used = curvature * theta + 0.9 * velocity if algorithm.optimiser == "nesterov" else velocity
        theta = theta - part * used
    allowed = np.full(steps, 1e-9)
    sound = sound_rises(0.0, steps, algorithm)
    allowed[: len(sound)] = sound
    rises = np.diff(losses, axis=0)
    assert (rises <= 1.2 * allowed[:, None] + 1e-9).all()  # late maxima are narrower than the grid
    assert (rises.max(axis=1) > 0.5 * allowed).any()


@pytest.mark.parametrize("algorithm", [Algorithm("adam"), Algorithm("sgd", batch=2), Algorithm(weight_decay=0.1)])
def test_what_is_not_known_to_fall_is_not_watched(algorithm: Algorithm) -> None:
    with pytest.raises(ValueError, match="do not watch"):
        training.Program(MLP_, WIDTH, (0, 5), watched=True, algorithm=algorithm)
