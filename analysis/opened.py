"""The store of a run as an xarray.Dataset whose values are compared with their receipts: reports read it here."""

import math
from collections.abc import Hashable, Sequence

import dask.array
import numpy as np
import xarray

from ntkhpc.engine import confirmed
from ntkhpc.engine.confirmed import Confirmations, Confirmed
from ntkhpc.engine.run import Run
from ntkhpc.studies import memory


def opened(run: Run) -> xarray.Dataset:
    """Every array with its dimensions, coordinates and units, lazily.

    A block is a shard's part, or several small ones of a cell.

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
    values = dask.array.from_array(array, chunks=_blocks(array, stored.dims), name=False, fancy=False, meta=nothing)
    return xarray.Variable(stored.dims, values, stored.attrs)


JOINED = ("member", "leap_member", "tile")
"""Dimensions that a cell has whole. Of blocks joined along others, each of several cells would read all."""


def _blocks(array: Confirmed, dims: Sequence[Hashable]) -> tuple[tuple[int, ...], ...]:
    """Lengths of blocks along each dimension: small parts are joined along members and their tiles.

    Dask takes longer over a block than it takes to read 100 kB.
    """
    lengths = list(array.chunks)
    for axis, name in enumerate(dims):
        if name in JOINED:
            others = lengths[:axis] + lengths[axis + 1 :]
            row = array.dtype.itemsize * math.prod(max(one, default=0) for one in others)
            lengths[axis] = _joined(lengths[axis], memory.BLOCK // max(1, row))
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
