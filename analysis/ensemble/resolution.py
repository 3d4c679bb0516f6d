"""What the initialisation means in physical units: its part of the relative energy resolution."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from analysis.contrasts import ErrorSource
from analysis.ensemble import prediction
from analysis.ensemble.prediction import Prediction

WINDOW = 0.25
"""Half width in ln(E) of the test showers taken as being at one energy."""


@dataclass(frozen=True)
class Resolution:
    """Contributions to sigma_E/E at one energy for one ensemble: of the initialisation, and of everything together.

    A small error of f is a relative error of the energy, as f is a standardised ln E: dE/E = scale df, to first order.
    """

    energy: float
    unit: str
    showers: int
    width: int
    n_train: int
    found: Prediction

    def to_dict(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("energy", "unit", "showers", "width", "n_train")}
        return named | self.found.to_dict()

    def sentence(self) -> str:
        one = self.found
        return (
            f"For a network of width {self.width:,} trained on {self.n_train:,} showers, the random initialisation "
            f"contributes {prediction.size(one.initialisation.scaled(100), 1)} % to sigma_E/E at {self.energy:.0f} "
            f"{self.unit}, that is, to the spread of ln E{one.beside_infinite_width(_percent)}; with the error of the "
            f"mean network, added in quadrature, the whole error is {_percent(one.total)}."
        )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def resolution(store: xarray.Dataset, draw: ErrorSource | None = None) -> Resolution | None:
    """At the middle of the spectrum, for the largest width and n_train and the first draw; None if not computed.

    `draw` is as of `prediction.largest_cell`.
    """
    target = store.target_test.values[:, 0]
    energy = float(np.exp((np.log(target.min()) + np.log(target.max())) / 2))
    energy = float(f"{energy:.1g}") if energy >= 10 else round(energy, 1)
    chosen = abs(np.log(target / energy)) < WINDOW
    if not chosen.any():  # few discrete energies
        energy = float(target[abs(np.log(target / energy)).argmin()])
        chosen = abs(np.log(target / energy)) < WINDOW
    scale = store.target_scale.values[:1]
    found = prediction.largest_cell(store, scale, chosen, draw)
    if found is None:
        return None
    return Resolution(
        energy=energy,
        unit=str(store.target_test.attrs.get("units", "GeV")),
        showers=int(chosen.sum()),
        width=int(store.width[-1]),
        n_train=int(store.n_train[-1]),
        found=found,
    )
