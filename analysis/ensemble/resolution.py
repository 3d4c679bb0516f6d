"""What the initialisation means in physical units: its part of the relative energy resolution."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from analysis.contrasts import Estimate
from analysis.ensemble import prediction
from analysis.report.numbers import chance
from analysis.scaling import plain

WINDOW = 0.25
"""Half width in ln(E) of the test showers taken as being at one energy."""


@dataclass(frozen=True)
class Resolution:
    """Contributions to sigma_E/E at one energy for one ensemble: of the initialisation, and of everything together.

    A small error of f is a relative error of the energy, as f is a standardised ln E: dE/E = scale df, to first order.
    `infinite_width` is the exact one of the same steps and samples, `p_value` the probability of a difference from it
    like this one among the members; both NaN where the law is not there.
    """

    energy: float
    unit: str
    showers: int
    width: int
    n_train: int
    initialisation: Estimate
    total: float
    infinite_width: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        found = {name: plain(getattr(self, name)) for name in
                 ("energy", "unit", "showers", "width", "n_train", "total", "infinite_width", "p_value")}  # fmt: skip
        one = self.initialisation
        return found | {"initialisation": one.value, "initialisation_stderr": plain(one.parts.get("members")),
                        "initialisation_parts": {name: plain(part) for name, part in one.parts.items()}}  # fmt: skip

    def sentence(self) -> str:
        exact = ""
        if np.isfinite(self.infinite_width):
            verdict = "a difference" if self.p_value < prediction.LEVEL else "no difference seen"
            exact = (
                f" (infinitely wide networks after the same steps: {100 * self.infinite_width:.1f} %, {verdict}, "
                f"{chance(self.p_value)})"
            )
        return (
            f"For a network of width {self.width:,} trained on {self.n_train:,} showers, the random initialisation "
            f"contributes {prediction.size(self.initialisation.scaled(100), 1)} % to sigma_E/E at {self.energy:.0f} "
            f"{self.unit}, that is, to the spread of ln E{exact}; with the error of the mean network, added in "
            f"quadrature, the whole error is {100 * self.total:.1f} %."
        )


def resolution(store: xarray.Dataset, others: xarray.DataArray | None = None, pool: int = 0) -> Resolution | None:
    """At the middle of the spectrum, for the largest width and n_train and the first draw; None if not computed.

    `others` (draw, n_train) is the variance of further draws from a pool of that size.
    """
    target = store.target_test.values[:, 0]
    energy = float(np.exp((np.log(target.min()) + np.log(target.max())) / 2))
    energy = float(f"{energy:.1g}") if energy >= 10 else round(energy, 1)
    chosen = abs(np.log(target / energy)) < WINDOW
    if not chosen.any():  # few discrete energies
        energy = float(target[abs(np.log(target / energy)).argmin()])
        chosen = abs(np.log(target / energy)) < WINDOW
    scale = store.target_scale.values[:1]
    found = prediction.largest_cell(store, scale, chosen, others, pool)
    if found is None:
        return None
    return Resolution(
        energy=energy,
        unit=str(store.target_test.attrs.get("units", "GeV")),
        showers=int(chosen.sum()),
        width=int(store.width[-1]),
        n_train=int(store.n_train[-1]),
        initialisation=found.initialisation,
        total=found.total,
        infinite_width=found.infinite_width,
        p_value=found.p_value,
    )
