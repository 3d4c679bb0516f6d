"""Mini-batches: an order of the samples for each epoch, cut into batches; what is left over waits for the next epoch.

Epoch e takes a permutation by the key `order_key` with e folded in: of the seed where all members share one order, of
the member's own key otherwise. The samples n_train mod batch at its end are not used in this epoch.
"""

from typing import TYPE_CHECKING

import numpy as np

from ntkhpc import seeds

if TYPE_CHECKING:  # plans are made without JAX
    from jax import Array


def epoch_order(key: "Array", epoch: "Array | int", n: int) -> "Array":
    """The order (n,) of the samples in one epoch; the same in every precision."""
    import jax
    import jax.numpy as jnp

    return jax.random.permutation(jax.random.fold_in(key, epoch), jnp.arange(n, dtype=jnp.int32))


def batches(key: "Array", n: int, batch: int, steps: int) -> np.ndarray:
    """The samples (steps, batch) of each step, on the host. Raises ValueError for more than there are in a batch."""
    import jax
    import jax.numpy as jnp

    if not 0 < batch <= n:
        raise ValueError(f"batch = {batch} is more than the {n} samples")
    each = n // batch
    epochs = jnp.arange(max(-(-steps // each), 1), dtype=jnp.uint32)
    orders = np.asarray(jax.vmap(lambda epoch: epoch_order(key, epoch, n))(epochs))
    return orders[:, : each * batch].reshape(-1, batch)[:steps]


def law_batches(seed: int, order: int | None, n: int, batch: int, steps: int) -> np.ndarray:
    """Those of the order that all members share (None), or of one of the orders that stand for the members' own.

    These are the orders of members of width 0, which no network has.
    """
    key = seeds.order_key(seed)
    if order is not None:
        key = seeds.order_key(seed, seeds.member_key(seed, 0, order))
    return batches(key, n, batch, steps)
