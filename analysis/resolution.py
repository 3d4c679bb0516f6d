"""What the initialisation means in physical units: its part of the relative energy resolution."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray

from analysis.aggregate import prediction_variance

WINDOW = 0.25
"""Half width in ln(E) of the test showers taken as being at one energy."""


@dataclass(frozen=True)
class Resolution:
    """Contributions to sigma_E/E at one energy for one ensemble: of the initialisation, and of everything together.

    A small error of f is a relative error of the energy, as f is a standardised ln E: dE/E = scale df.
    """

    energy: float
    unit: str
    showers: int
    width: int
    n_train: int
    initialisation: float
    initialisation_stderr: float
    total: float
    infinite_width: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        exact = (
            f" (exactly {100 * self.infinite_width:.1f} % for infinitely wide networks after the same steps)"
            if np.isfinite(self.infinite_width)
            else ""
        )
        return (
            f"For a network of width {self.width:,} trained on {self.n_train:,} showers, the random initialisation "
            f"contributes {100 * self.initialisation:.1f} ± {100 * self.initialisation_stderr:.1f} % to sigma_E/E at "
            f"{self.energy:.0f} {self.unit}{exact}; with the error of the mean network, added in quadrature, the whole "
            f"error is {100 * self.total:.1f} %."
        )


def resolution(store: xarray.Dataset) -> Resolution | None:
    """At the middle of the spectrum, for the largest width and n_train and the first draw; None if not computed."""
    target = store.target_test.values[:, 0]
    energy = float(np.exp((np.log(target.min()) + np.log(target.max())) / 2))
    energy = float(f"{energy:.1g}") if energy >= 10 else round(energy, 1)
    chosen = abs(np.log(target / energy)) < WINDOW
    if not chosen.any():  # few discrete energies
        energy = float(target[abs(np.log(target / energy)).argmin()])
        chosen = abs(np.log(target / energy)) < WINDOW
    cell = {"width": -1, "n_train": -1, "draw": 0}
    points = prediction_variance(store, chosen).isel(cell)
    scale = float(store.target_scale.values[0])
    # variance is that of f over 2, bias2 likewise: the loss carries a half.
    variance, stderr = float(points.variance), float(points.variance_stderr)
    if not np.isfinite(variance):
        return None
    initialisation = scale * np.sqrt(2 * variance)
    law = store.law_variance.isel(draw=0, n_train=-1).values[chosen].mean()
    return Resolution(
        energy=energy,
        unit=str(store.target_test.attrs.get("units", "GeV")),
        showers=int(chosen.sum()),
        width=int(store.width[-1]),
        n_train=int(store.n_train[-1]),
        initialisation=float(initialisation),
        initialisation_stderr=float(initialisation * stderr / (2 * variance)),
        total=float(scale * np.sqrt(2 * (variance + float(points.bias2)))),
        infinite_width=float(scale * np.sqrt(law)),
    )
