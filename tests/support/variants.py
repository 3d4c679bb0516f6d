"""Variants of one ensemble that were never trained: the same members, sampled from exact laws, in several versions."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import xarray

from analysis import infinite
from analysis.calibration import __main__ as calibration
from analysis.calibration.__main__ import Scenario
from analysis.calibration.synthetic import Pool, make
from analysis.calibration.world import World
from analysis.comparison.results import ComparisonResults, Variant, of
from analysis.ensemble.results import EnsembleResults
from ntkhpc import studies
from ntkhpc.studies.ensemble.study import EnsembleStudy, InfiniteWidth
from ntkhpc.studies.ensemble.train import DIVERGED

SCENARIO = Scenario("variants", members=60, redraws=6)

SIZES = (16, 24, 32, 48)


def ensemble(folder: Path, test: int = 25) -> EnsembleResults:
    """A synthetic ensemble of 60 members, with its own exact law and further draws; its run is in an empty folder."""
    known = calibration.study(SCENARIO, test, 1024)
    cells = msgspec.structs.replace(known.ensemble, n_train=SIZES, tile=10)
    known = msgspec.structs.replace(known, ensemble=cells)
    world = World(known, known.data.load(known.known))
    pool = Pool.of(world, [0.0], np.random.default_rng(1))
    found = make(world, SCENARIO.losses, pool, np.random.default_rng(2)).results
    plan = SimpleNamespace(run_name="made-0", shards=())
    store = found.store.assign(learning_rate=(("draw", "n_train"), np.ones((1, len(SIZES)))))
    run: Any = SimpleNamespace(study=known, plan=plan, path=folder)
    return EnsembleResults(run, store, "")


def changed(
    base: EnsembleResults,
    scale: float,
    *,
    tilt: float = 0.0,
    noise: float = 0.02,
    lost: tuple[int, ...] = (),
    names: tuple[str, ...] = (),
    training: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
) -> EnsembleResults:
    """The same networks with `scale` times the loss at the smallest size, and an exponent larger by `tilt`.

    Each member has a factor of its own too, of the relative spread `noise`. Members `lost` diverged. The study has
    other settings of training or network. With `names` (infinite.REFERENCE or BESIDE) the law is no longer their own.
    """
    study = base.study
    study = msgspec.structs.replace(
        study,
        training=msgspec.structs.replace(study.training, **(training or {})),
        network=msgspec.structs.replace(study.network, **(network or {})),
        infinite_width=InfiniteWidth() if names else study.infinite_width,
    )
    store, rng = base.store.copy(), np.random.default_rng(4)
    factor = scale * (store.n_train / store.n_train[0]) ** tilt
    own = xarray.DataArray(np.exp(noise * rng.standard_normal(store.sizes["member"])), dims="member")
    for name in ("test_loss", "test_point_loss"):
        store[name] = store[name] * factor * own
    for name in ("bias2", "variance", "prediction_m2"):
        store[name] = store[name] * factor
    store["prediction_mean"] = (store.prediction_mean - store.y_test) * np.sqrt(factor) + store.y_test
    gone = xarray.DataArray(np.isin(np.arange(store.sizes["member"]), lost), dims="member")
    for name, value in (("status", DIVERGED), ("test_loss", np.nan), ("test_point_loss", np.nan)):
        store[name] = store[name].where(~gone, value)
    store = store.transpose(*base.store.dims).assign_attrs(study_toml=studies.dumps(study).decode())
    store = store.assign({str(name): store[name].transpose(*base.store[name].dims) for name in store.data_vars})
    return EnsembleResults(base.run, infinite.as_reference(store, names) if names else store, "", study)


def algorithms(base: EnsembleResults) -> ComparisonResults:
    """Descent; nearly the same; one without a law, of other losses and exponents, of which two members diverged."""
    adam = {"optimiser": "adam", "learning_rate": 0.05}
    return compared(
        base,
        near=changed(base, 1.0, training={"momentum": 0.5}),
        adam=changed(base, 0.6, tilt=0.3, names=infinite.REFERENCE, training=adam, lost=(3, 5)),
    )


def strengths(base: EnsembleResults) -> ComparisonResults:
    """The NTK parametrisation, two of the mu-parametrisation, and centred networks of a quarter of the loss."""
    lazy = base.store.copy()
    for name in infinite.LAW:
        lazy[name] = lazy[name].expand_dims(width=base.store.width.values)
    by_width = EnsembleResults(base.run, lazy, "")
    beside = infinite.BESIDE
    return compared(
        base,
        weak=changed(by_width, 0.5, names=beside, network={"parametrisation": "mup", "gamma0": 0.25}),
        strong=changed(by_width, 0.2, tilt=0.2, names=beside, network={"parametrisation": "mup", "gamma0": 1.0}),
        centred=changed(base, 0.25, names=beside, network={"centred": True}),
    )


def compared(base: EnsembleResults, **others: EnsembleResults) -> ComparisonResults:
    """With the ensemble itself as the reference."""
    made = {"gd": base, **others}
    study: EnsembleStudy = base.study
    return of(base.run, study, base.store, "", [Variant(name, one) for name, one in made.items()])
