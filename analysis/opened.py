"""The store of a run as an xarray.Dataset whose values are compared with their receipts: reports read it here."""

import dask.array
import numpy as np
import xarray

from ntkhpc.engine import confirmed
from ntkhpc.engine.confirmed import Confirmations, Confirmed
from ntkhpc.engine.run import Run


def opened(run: Run) -> xarray.Dataset:
    """Every array with its dimensions, coordinates and units, lazily, a shard's part a block.

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
    values = dask.array.from_array(array, chunks=array.chunks, name=False, fancy=False, meta=nothing)
    return xarray.Variable(stored.dims, values, stored.attrs)
