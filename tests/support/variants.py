"""Variants of one ensemble that were never trained: the same members, sampled from exact laws, in several versions."""

from typing import Any

import msgspec
import numpy as np
import xarray

from analysis import infinite
from analysis.calibration import __main__ as calibration
from analysis.calibration.__main__ import Scenario
from analysis.calibration.synthetic import Pool, make
from analysis.calibration.world import World
from analysis.comparison.results import ComparisonResults, VariantResults, of
from analysis.ensemble.results import EnsembleResults
from ntkhpc import studies
from ntkhpc.studies.ensemble.study import EnsembleStudy, InfiniteWidth
from ntkhpc.studies.ensemble.train import DIVERGED

SCENARIO = Scenario("variants", members=24, redraws=6)


def ensemble(test: int = 25) -> EnsembleResults:
    """A synthetic ensemble of 24 members, with its own exact law and further draws."""
    known = calibration.study(SCENARIO, test, 1024)
    known = msgspec.structs.replace(
        known, ensemble=msgspec.structs.replace(known.ensemble, n_train=(16, 24, 32, 48), tile=4)
    )
    world = World(known, known.data.load(known.known))
    return make(
        world, SCENARIO.losses, Pool.of(world, [0.0], np.random.default_rng(1)), np.random.default_rng(2)
    ).results


def changed(
    base: EnsembleResults,
    *,
    scale: float = 1.0,
    names: tuple[str, ...] = (),
    lost: tuple[int, ...] = (),
    training: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
) -> EnsembleResults:
    """The same networks with errors f - y of `scale` times the size, said to come from other settings.

    Members `lost` diverged. With `names` (infinite.REFERENCE or BESIDE) the law is no longer their own.
    """
    study = base.run.study.of_kind(EnsembleStudy)
    study = msgspec.structs.replace(
        study,
        training=msgspec.structs.replace(study.training, **(training or {})),
        network=msgspec.structs.replace(study.network, **(network or {})),
        infinite_width=InfiniteWidth() if names else study.infinite_width,
    )
    store = base.store.copy()
    for name in ("test_loss", "test_point_loss", "bias2", "variance", "prediction_m2"):
        store[name] = store[name] * scale**2
    store["prediction_mean"] = scale * (store.prediction_mean - store.y_test) + store.y_test
    for name, kept in (("status", DIVERGED), ("test_loss", np.nan), ("test_point_loss", np.nan)):
        gone = xarray.DataArray(np.isin(np.arange(store.sizes["member"]), lost), dims="member")
        store[name] = store[name].where(~gone, kept)
    store.attrs["study_toml"] = studies.dumps(study).decode()
    return EnsembleResults(base.run, infinite.as_reference(store, names) if names else store, "", study)


def algorithms(base: EnsembleResults) -> ComparisonResults:
    """Gradient descent, one that is nearly the same, and one without a law whose errors are a fifth smaller."""
    rng = np.random.default_rng(4)
    noise = xarray.DataArray(np.exp(0.02 * rng.standard_normal(base.store.sizes["member"])), dims="member")
    near = changed(base, training={"momentum": 0.5})
    for name in ("test_loss", "test_point_loss"):
        near.store[name] = near.store[name] * noise
    adam = changed(
        base, scale=0.8, names=infinite.REFERENCE, training={"optimiser": "adam", "learning_rate": 0.05}, lost=(3, 5)
    )
    return compared(base, {"gd": base, "momentum": near, "adam": adam})


def strengths(base: EnsembleResults) -> ComparisonResults:
    """The NTK parametrisation, two of the mu-parametrisation, and centred networks."""
    widths = base.store.width.values
    mup = base.store.copy()
    for name in infinite.LAW:
        mup[name] = mup[name].expand_dims(width=widths)
    by_width = EnsembleResults(base.run, mup, "")
    made = {"ntk": base}
    for name, gamma0, scale in (("weak", 0.25, 0.7), ("strong", 1.0, 0.4)):
        network = {"parametrisation": "mup", "gamma0": gamma0}
        made[name] = changed(by_width, scale=scale, names=infinite.BESIDE, network=network)
    made["centred"] = changed(base, scale=0.5, names=infinite.BESIDE, network={"centred": True})
    return compared(base, made)


def compared(base: EnsembleResults, made: dict[str, EnsembleResults]) -> ComparisonResults:
    return of(base.run, base.run.study, base.store, "", [VariantResults(name, one) for name, one in made.items()])
