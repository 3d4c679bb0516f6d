"""The initial weights of an ensemble's members, drawn by a program of their own, some members at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkhpc import pinned, seeds
from ntkhpc.networks import MLP

_DRAWN_BYTES = 2**23
"""Of initial weights that wait for their training."""


@dataclass(frozen=True)
class InitialWeights:
    """What initial weights are drawn from beside seed and member: a program of its own, which is compiled once a width
    and kept when those of a training-set size are let go.

    `mlp` is an MLP, or another network of which `of_width` gives a FiniteNetwork. Weights are drawn in the precision
    `drawn` and rounded to `precision`.
    """

    mlp: MLP | Any
    width: int
    features: int
    drawn: str
    precision: str

    def parts(
        self, seed: int, members: np.ndarray, count: int, together: bool, doubles: bool
    ) -> Iterator[tuple[Array, Any]]:
        """Numbers and weights of `count` members at a time, or of as many as memory may hold where that is 0.

        The last part is filled up with the first members: one program for all. `together`: drawn side by side, not one
        after another. `doubles` says whether JAX has float64.
        """
        parts = -(-len(members) // (count or self._at_once()))
        at_once = count or -(-len(members) // parts)
        for some in jnp.asarray(np.resize(members, (parts, at_once))):
            yield some, self._compiled(at_once, together, doubles, _settings())(jnp.uint32(seed), some)

    @lru_cache(maxsize=16)  # noqa: B019  (of small frozen values)
    def _at_once(self) -> int:
        """Members whose weights are drawn before they are trained, one after the other: of the sizes alone."""
        shapes = jax.eval_shape(self._draw, jnp.uint32(0), jnp.uint32(0))
        taken = sum(one.size * one.dtype.itemsize for one in jax.tree.leaves(shapes))
        return max(1, _DRAWN_BYTES // max(taken, 1))

    def _draw(self, seed: Array, member: Array) -> Any:
        key = seeds.member_key(seed, self.width, member)
        drawn = self.mlp.of_width(self.width).init(key, self.features, jnp.dtype(self.drawn))
        return jax.tree.map(lambda one: one.astype(self.precision), drawn)

    @lru_cache(maxsize=4)  # noqa: B019  (of small frozen values)
    def _compiled(
        self, members: int, together: bool, doubles: bool, settings: tuple[str, ...]
    ) -> Callable[[Array, Array], Any]:
        """(seed, members (m,)) -> the weights of each, along a first axis: drawn `together`, or one after another.

        `doubles` and the `settings` of JAX decide the program too, and are there to tell one from another.
        """
        each = jax.vmap if together else lambda one: partial(jax.lax.map, one)
        draw = compiler(isinstance(self.mlp, MLP))(lambda seed, some: each(lambda one: self._draw(seed, one))(some))
        return draw.lower(jnp.uint32(0), jnp.zeros(members, jnp.uint32)).compile()


def compiler(fully_connected: bool) -> Callable[..., Any]:
    """jax.jit for an MLP, or for another network."""
    if fully_connected:
        return jax.jit
    from ntkhpc import tangents  # seconds to import, and only for other networks

    return tangents.compiled


def _settings() -> tuple[str, ...]:
    """What a process has set of JAX that decides values."""
    return tuple(str(jax.config.values.get(name)) for name in pinned.JAX)
