"""What the initialisation means where the target is no shower's energy: how far it moves a prediction."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray

from analysis import predictions
from analysis.contrasts import ErrorSource
from analysis.ensemble import prediction
from analysis.ensemble.prediction import Prediction
from analysis.scaling import plain
from ntkhpc.data.source import Source


@dataclass(frozen=True)
class Spread:
    """Root mean squares over the test points and outputs, for one ensemble; relative ones where log(y) is learned.

    Several outputs that are no classes are each in units of its own standard deviation.

    accuracy: share of test points whose class the mean of all networks names; apart: least distance of the targets of
    two classes. Both are NaN where there are no classes.
    """

    width: int
    n_train: int
    noun: str
    unit: str
    found: Prediction
    accuracy: float
    accuracy_stderr: float
    apart: float

    def to_dict(self) -> dict[str, Any]:
        named = {one.name: plain(getattr(self, one.name)) for one in fields(self) if one.name != "found"}
        return named | self.found.to_dict()

    def sentence(self) -> str:
        one = self.found
        said = (
            f"For a network of width {self.width:,} trained on {self.n_train:,} {self.noun}, the random initialisation "
            f"moves a prediction by {self._estimate()}{one.beside_infinite_width(self._size)}, root mean square over "
            "the test points; with the error of the mean network, added in quadrature, the whole error is "
            f"{self._size(one.total)}."
        )
        if np.isfinite(self.accuracy):
            said += (
                f" (Targets of right and wrong classes are {self.apart:g} apart.) The mean of all networks names the "
                f"class of {100 * self.accuracy:.1f} ± {100 * self.accuracy_stderr:.1f} % of the test points rightly "
                "(error of the test points)."
            )
        return said

    def _estimate(self) -> str:
        one = self.found.initialisation
        if self.unit == "%":
            return f"{prediction.size(one.scaled(100), 1)} %"
        return prediction.significant(one) + (f" {self.unit}" if self.unit else "")

    def _size(self, value: float) -> str:
        text = f"{100 * value:.1f}" if self.unit == "%" else f"{value:.3g}"
        return text + (f" {self.unit}" if self.unit else "")


def spread(store: xarray.Dataset, section: Source, draw: ErrorSource | None = None) -> Spread | None:
    """For the largest width and n_train and the first draw; None if they were not computed.

    `draw` is as of `prediction.largest_cell`.
    """
    # Outputs of different units have no common size but in units of their own spread.
    own = section.classification or store.sizes["output"] == 1
    scale = store.target_scale.values if own else np.ones(store.sizes["output"])
    found = prediction.largest_cell(store, scale, None, draw)
    if found is None:
        return None
    unit = "%" if section.log_target and own else section.unit if own else "standard deviations of the targets"
    cell = {"width": -1, "n_train": -1, "draw": 0}
    accuracy = _accuracy(store, section, cell) if section.classification else float("nan")
    count = store.sizes["test_point"]
    shrunk = (accuracy * count + 1) / (count + 2)  # so that all or none right has an error too
    return Spread(
        width=int(store.width[-1]),
        n_train=int(store.n_train[-1]),
        noun=section.noun,
        unit="" if unit == "1" else unit,
        found=found,
        accuracy=accuracy,
        accuracy_stderr=float(np.sqrt(shrunk * (1 - shrunk) / count)),
        apart=float(np.diff(sorted(section.class_targets or (0, 1))).min()) if section.classification else float("nan"),
    )


def _accuracy(store: xarray.Dataset, section: Source, cell: dict[str, int]) -> float:
    """The largest output is the class, or the target that the one output is nearest to."""
    predicted, y = predictions.mean_prediction(store, cell), store.y_test.values
    if section.class_targets:
        targets = np.array(section.class_targets)
        named, right = (np.abs(one[:, :1] - targets).argmin(axis=1) for one in (predicted, y))
    else:
        named, right = predicted.argmax(axis=1), y.argmax(axis=1)
    return float((named == right).mean())
