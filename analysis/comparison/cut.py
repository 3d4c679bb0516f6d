"""The part of a comparison's store that belongs to one variant, as if the variant had been run alone."""

import xarray

from analysis.ensemble.results import beside
from ntkhpc import studies
from ntkhpc.studies.comparison.lifted import VARIANT
from ntkhpc.studies.comparison.study import ComparisonStudy


def cut(store: xarray.Dataset, study: ComparisonStudy, number: int, *, named: bool = True) -> xarray.Dataset:
    """The arrays of the variant of this number, with the dimensions that they have in a run of the variant's own.

    If `named`, a law that is not the limit of its networks has the name of a reference, as reports have it.
    """
    ensemble, whole = study.ensembles[number], store.isel({VARIANT: number}, drop=True)
    own = {array.name: array for array in studies.layout(ensemble).arrays()}
    there = whole.drop_vars([name for name in whole.data_vars if name not in own])
    narrower = {
        str(name): array.isel({dim: 0 for dim in array.dims if dim not in own[str(name)].dims}, drop=True)
        for name, array in there.data_vars.items()
    }
    own_study = {"study_toml": studies.dumps(ensemble).decode(), "study_id": ensemble.id}
    found = there.assign(narrower).assign_attrs(own_study)
    return beside(found, ensemble) if named else found
