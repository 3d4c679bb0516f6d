"""The store of a run as an xarray.Dataset whose values are compared with their receipts: reports read it here."""

import math

import dask.array
import numpy as np
import xarray

from ntkhpc.engine import confirmed
from ntkhpc.engine.confirmed import Confirmations, Confirmed
from ntkhpc.engine.run import Run
from ntkhpc.studies import memory


def opened(run: Run) -> xarray.Dataset:
    """Every array with its dimensions, coordinates and units, lazily: a block is a shard's part, or several small ones.

    Values without a receipt, half written or set aside, read as missing: NaN, -1 of integers. Raises DamagedError for
    metadata that are not as they were made; and when values are read, for those that are not what their receipt says.
    """
    confirmed.require_metadata(run)
    store = xarray.open_zarr(run.store, chunks=None)
    known = Confirmations(run)
    written = known.writers.keys() & set(map(str, store.variables))
    return store.assign({name: _variable(store[name], known.array(name)) for name in sorted(written)})


def _variable(stored: xarray.DataArray, array: Confirmed) -> xarray.Variable:
    nothing = np.empty((0,) * array.ndim, array.dtype)
    values = dask.array.from_array(array, chunks=_blocks(array), name=False, fancy=False, meta=nothing)
    return xarray.Variable(stored.dims, values, stored.attrs)


def _blocks(array: Confirmed) -> tuple[tuple[int, ...], ...]:
    """Lengths of blocks along each dimension: parts along the last one that is cut are joined.

    Dask takes longer over a block than it takes to read 100 kB.
    """
    lengths = list(array.chunks)
    cut = [axis for axis, one in enumerate(lengths) if len(one) > 1]
    if cut:
        row = array.dtype.itemsize * math.prod(
            max(one, default=0) for one in lengths[: cut[-1]] + lengths[cut[-1] + 1 :]
        )
        lengths[cut[-1]] = _joined(lengths[cut[-1]], memory.BLOCK // max(1, row))
    return tuple(lengths)


def _joined(lengths: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Neighbours added up, while they are not longer than `most` together."""
    found: list[int] = []
    for one in lengths:
        if found and found[-1] + one <= most:
            found[-1] += one
        else:
            found.append(one)
    return tuple(found)
