"""Speed of the reference core, by which shards of all phases are projected.

The constants were fitted to timed shards of the default study on one 2.4 GHz x86-64 core (November 2026); they are
meant to be right within a factor of two elsewhere. Profiles with timed probes replace them on a cluster.
"""

FLOPS_PER_SECOND = 45e9
"""Operations a second of one reference core, training in float32."""

FLOPS_FLOAT64 = 30e9
"""Operations a second of the same core on dense matrices in float64."""

SECONDS_PER_SHARD = 1.8

NUMBERS_READ = 60e6
"""Numbers of a scratch array that are read and hashed in a second, half as fast as they come."""

NUMBERS_WRITTEN = 15e6
"""Numbers of one that are hashed, written, flushed, read back and compared in a second."""


def kernel_seconds(pairs: float, features: int, depth: int) -> float:
    """Both kernels, of so many pairs of inputs, an unordered pair once: its product, its two places, its layers.

    The last two are fitted to N = 2000 and 4000, 25 to 3072 features, 1 and 3 layers, on a core with AVX-512 that
    multiplies at 75e9; where every pair is ordered, as between training and test points, the two places are one.
    """
    return pairs * (features * 2 / FLOPS_FLOAT64 + 20e-9 + depth * 6e-9)
