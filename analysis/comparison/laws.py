"""The law at infinite width that stands beside a variant at each width, where there is one for its algorithm."""

import xarray

from analysis import infinite
from analysis.contrasts import Curve, Estimate
from analysis.ensemble.results import EnsembleResults


def beside(results: EnsembleResults, width: int) -> xarray.Dataset | None:
    """Its moments over n_train, averaged over draws: the networks' own limit, or the law at the gamma of this width.

    None of an algorithm without a law: full-batch descent beside it is another algorithm.
    """
    if results.has_law:
        return results.law_mean
    if not all(name in results.store for name in infinite.BESIDE):
        return None
    found = results.reference.drop_dims(["quantile"]).mean("draw", skipna=False)
    return found.sel(width=width) if "width" in found.dims else found


def exponent(results: EnsembleResults, name: str, width: int) -> Estimate | None:
    """Of the law, exact for these samples; None where it has none, as eps_L of centred networks."""
    law = beside(results, width)
    if law is None:
        return None
    value = law[name].values
    if len(value) < 2 or not (value > 0).all():
        return None
    return Curve(law.n_train.values.astype(float), value).slope()
