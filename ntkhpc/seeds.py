"""Random keys: chains of fixed integers, so that a member is the same network in every shard, size and draw."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # plans are made without JAX
    from jax import Array

# Fixed for ever: changing one changes every stored value.
ENSEMBLE, PERMUTATION, SHOWERS, ENERGIES, ROWS, PARTICLES, CHAIN, POPULATION = 1, 2, 3, 4, 5, 6, 7, 8
PROBES, PIVOTS, DIRECTION, ORDER = 9, 10, 11, 12


def member_key(seed: "Array | int", width: "Array | int", member: "Array | int") -> "Array":
    """Key of one member's initial weights; the same at every n_train and draw."""
    import jax

    key = jax.random.fold_in(jax.random.key(seed), ENSEMBLE)
    return jax.random.fold_in(jax.random.fold_in(key, width), member)


def order_key(seed: "Array | int", member: "Array | None" = None) -> "Array":
    """Key of the orders of mini-batches: one for all members, or that of a member, given its `member_key`."""
    import jax

    return jax.random.fold_in(jax.random.key(seed) if member is None else member, ORDER)


def chain_key(seed: "Array | int", chain: "Array | int") -> "Array":
    """Key of one Markov chain; the same whatever chains it is run beside."""
    import jax

    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), CHAIN), chain)


def population_key(seed: "Array | int", population: "Array | int") -> "Array":
    """Key of one population of neurons; the same whatever others there are."""
    import jax

    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), POPULATION), population)


def cell_seed(seed: int, *cell: int) -> int:
    """A seed of its own for each cell of a study: the same key gives arrays of two shapes the same first numbers."""
    return int(np.random.SeedSequence([seed, *cell]).generate_state(1)[0])


def generator(seed: int, tag: int, number: int = 0) -> np.random.Generator:
    """NumPy generator of one stream: Philox keyed by (seed, tag and number), so streams need no common start."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, (tag << 48) + number], np.uint64)))
