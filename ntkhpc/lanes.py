"""How many networks are trained at once, in the lanes of one program.

On a GPU one network leaves most of the device idle: as many are trained side by side as its memory holds. On a CPU
networks are trained one after another, which is faster and keeps each in the caches, but for the smallest ones, of
which a step takes less time than it takes to begin its operations. With depth 1, 25 features and 10 lanes a step of a
network takes .33 of the time that it takes alone at width = n_train = 32, .5 to .65 at 64 and 32 or 32 and 64; at 64
and 64 little is saved. With 784 features it is .5 at 32 and .7 at 64 and 32, with 3072 nothing, and nothing is lost.

The number of lanes decides the last bits. It is a rule of the sizes alone on a CPU, and on a GPU of the sizes and of
the bytes that `device_bytes` says, which the fingerprint of a run has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ntkhpc.optimisers import Algorithm

SHARE = 0.6
"""Of the memory that JAX may use of a GPU, which the lanes may take."""

ROUNDED = 2**28
"""To whose multiples the bytes of lanes are rounded down: two GPUs of one model differ by less."""

UNKNOWN = 2**32
"""Bytes of lanes on a device that does not say what it has."""

SMALL, MOST_ON_CPU = 2048, 16
"""On a CPU networks of so many activations at the training inputs, or fewer, are trained in so many lanes at most."""

DUAL_SHARE = 2.0
"""There the first layer has the dual form below so many times as many samples as features."""

RADIX, MOST_LEVELS = 16, 4
"""A program of static length takes RADIX^k steps, k < MOST_LEVELS."""


@dataclass(frozen=True)
class Lanes:
    """`count` networks are trained side by side; 0: one after another, without lanes.

    `dual` says that the first layer is trained in the dual form (first_layer.py), `static` that every loop has a length
    that the compiler knows: of a GPU, which would otherwise ask its host before each step whether there is one more.
    """

    count: int = 0
    dual: bool = False
    static: bool = False


MAPPED = Lanes()
"""One network after another."""


@dataclass(frozen=True)
class Sizes:
    """Of a fully connected network and its data, and the bytes of a number."""

    features: int
    width: int
    depth: int
    outputs: int
    n_train: int
    n_test: int
    itemsize: int

    @property
    def parameters(self) -> int:
        """Numbers of one network, biases included."""
        layers = pairwise([self.features, *[self.width] * self.depth, self.outputs])
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in layers)


def lanes_for(sizes: Sizes, algorithm: Algorithm, members: int, device_bytes: int | None) -> Lanes:
    """The lanes in which a tile of so many members is trained; `device_bytes` is None on a CPU."""
    return (
        _on_cpu(sizes, algorithm, members) if device_bytes is None else _on_gpu(sizes, algorithm, members, device_bytes)
    )


def _on_cpu(sizes: Sizes, algorithm: Algorithm, members: int) -> Lanes:
    if algorithm.batch or members < 2 or sizes.depth * sizes.width * sizes.n_train > SMALL:
        return MAPPED
    dual = algorithm.is_linear and sizes.n_train < DUAL_SHARE * sizes.features
    return Lanes(_even(members, MOST_ON_CPU), dual)


def _on_gpu(sizes: Sizes, algorithm: Algorithm, members: int, device_bytes: int) -> Lanes:
    """As many lanes as fit, a power of two: so that a little more memory makes no other program."""
    dual = algorithm.is_dual(sizes.features, sizes.n_train)
    fitting = (device_bytes - shared_bytes(sizes, dual)) // lane_bytes(sizes, algorithm, dual)
    return Lanes(even_power(members, fitting), dual, static=True)


def even_power(members: int, fitting: int) -> int:
    """Lanes for so many members where so many fit: as many as the largest power of two, and all batches of one size."""
    return _even(members, 1 << max(fitting, 1).bit_length() - 1)


def _even(members: int, most: int) -> int:
    """Members of each of the fewest batches of at most so many, all of one size: the last is filled up."""
    batches = -(-members // most)
    return -(-members // batches)


def lane_bytes(sizes: Sizes, algorithm: Algorithm, dual: bool) -> int:
    """What one lane takes of the device: four times its activations at the training and the test inputs and its
    parameters, for values, gradients, updates and copies; what its optimiser keeps; and in the dual form coefficients
    and the product X W_0."""
    activations = sizes.depth * sizes.width * (sizes.n_train + sizes.n_test)
    states = algorithm.entry.states + (1 if algorithm.weight_decay and algorithm.decay_towards == "start" else 0)
    held = (2 + states) * sizes.n_train * sizes.width if dual else 0
    targets = 4 * sizes.outputs * (sizes.n_train + sizes.n_test)
    return sizes.itemsize * (4 * activations + (4 + states) * sizes.parameters + held + targets)


def shared_bytes(sizes: Sizes, dual: bool) -> int:
    """What all lanes share: the inputs, those of training twice, the targets, and G in the dual form."""
    inputs = (2 * sizes.n_train + sizes.n_test) * (sizes.features + sizes.outputs)
    return sizes.itemsize * (inputs + (sizes.n_train**2 if dual else 0))


def device_bytes() -> int | None:
    """The bytes that lanes may take of the device of JAX; None for a CPU."""
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        return None
    usable = (device.memory_stats() or {}).get("bytes_limit")
    return UNKNOWN if usable is None else max(int(SHARE * usable) // ROUNDED * ROUNDED, ROUNDED)


def pieces(steps: int, longest: int) -> Iterator[int]:
    """Lengths of the programs that take `steps` steps one after another, none of more than `longest` if that is > 1."""
    for length in (RADIX**level for level in reversed(range(MOST_LEVELS))):
        if length <= max(longest, 1):
            yield from [length] * (steps // length)
            steps %= length
