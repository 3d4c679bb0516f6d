"""What the initialisation means where the target is no shower's energy: how far it moves a prediction."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray

from analysis import aggregate
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
    initialisation: float
    initialisation_stderr: float
    total: float
    infinite_width: float
    accuracy: float
    accuracy_stderr: float
    apart: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        exact = (
            f" ({self._size(self.infinite_width)} for infinitely wide networks after the same steps)"
            if np.isfinite(self.infinite_width)
            else ""
        )
        said = (
            f"For a network of width {self.width:,} trained on {self.n_train:,} {self.noun}, the random initialisation "
            f"moves a prediction by {self._size(self.initialisation, self.initialisation_stderr)}{exact}, root mean "
            "square over the test points; with the error of the mean network, added in quadrature, the whole error is "
            f"{self._size(self.total)}."
        )
        if np.isfinite(self.accuracy):
            said += (
                f" (Targets of right and wrong classes are {self.apart:g} apart.) The mean of all networks names the "
                f"class of {100 * self.accuracy:.1f} ± {100 * self.accuracy_stderr:.1f} % of the test points rightly."
            )
        return said

    def _size(self, value: float, stderr: float = float("nan")) -> str:
        percent = self.unit == "%"
        factor, digits = (100, 1) if percent else (1, 3)
        text = f"{factor * value:.{digits}f}" if percent else f"{value:.{digits}g}"
        if np.isfinite(stderr):
            text += f" ± {factor * stderr:.{digits}f}" if percent else f" ± {stderr:.1g}"
        return text + (f" {self.unit}" if self.unit else "")


def spread(store: xarray.Dataset, section: Source) -> Spread | None:
    """For the largest width and n_train and the first draw; None if they were not computed."""
    cell = {"width": -1, "n_train": -1, "draw": 0}
    # Outputs of different units have no common size but in units of their own spread.
    own = section.classification or store.sizes["output"] == 1
    scale = store.target_scale.values if own else np.ones(store.sizes["output"])
    points = aggregate.prediction_variance(store, scale=scale).isel(cell)
    variance, bias2 = float(points.variance), float(points.bias2)  # halves of squares, as in the loss
    if not np.isfinite(variance):
        return None
    unit = "%" if section.log_target and own else section.unit if own else "standard deviations of the targets"
    initialisation = np.sqrt(2 * variance)
    exact = np.mean(scale**2) * store.law_variance.isel(draw=0, n_train=-1).values.mean()  # the same for every output
    accuracy = _accuracy(store, section, cell) if section.classification else float("nan")
    count = store.sizes["test_point"]
    shrunk = (accuracy * count + 1) / (count + 2)  # so that all or none right has an error too
    return Spread(
        width=int(store.width[-1]),
        n_train=int(store.n_train[-1]),
        noun=section.noun,
        unit="" if unit == "1" else unit,
        initialisation=float(initialisation),
        initialisation_stderr=float(initialisation * float(points.variance_stderr) / (2 * variance)),
        total=float(np.sqrt(2 * (variance + bias2))),
        infinite_width=float(np.sqrt(exact)),
        accuracy=accuracy,
        accuracy_stderr=float(np.sqrt(shrunk * (1 - shrunk) / count)),
        apart=float(np.diff(sorted(section.class_targets or (0, 1))).min()) if section.classification else float("nan"),
    )


def _accuracy(store: xarray.Dataset, section: Source, cell: dict[str, int]) -> float:
    """The largest output is the class, or the target that the one output is nearest to."""
    predicted, y = aggregate.mean_prediction(store, cell), store.y_test.values
    if section.class_targets:
        targets = np.array(section.class_targets)
        named, right = (np.abs(one[:, :1] - targets).argmin(axis=1) for one in (predicted, y))
    else:
        named, right = predicted.argmax(axis=1), y.argmax(axis=1)
    return float((named == right).mean())
