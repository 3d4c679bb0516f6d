"""A training pool and test points, standardised, with what is needed to undo it."""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from ntkhpc.errors import DataError

LARGEST = 1e15
"""Of standardised values: squares of larger ones, summed over inputs, leave float32."""

LEAST = 1e-150
"""Of standard deviations: squares of smaller ones leave float64."""

Scaling = Literal["global", "feature"]

SCALED: dict[Scaling, str] = {
    "global": "centred one by one on the pool and divided by one scale for all, so that their mean square is 1",
    "feature": "standardised one by one over the pool",
}
"""What becomes of the inputs, in words."""


@dataclass(frozen=True)
class Split:
    """x_* (n, features) and y_* (n, outputs) standardised; target_* (n, outputs) as measured, in the source's unit.

    x = (raw - feature_mean) / feature_scale and y = (g(target) - target_mean) / target_scale, g as the source says.
    Everything is float64. Raises DataError for a shape that does not fit, a value that is not finite, fewer than two
    rows, or a constant target.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    target_train: np.ndarray
    target_test: np.ndarray
    feature_mean: np.ndarray
    feature_scale: np.ndarray
    target_mean: np.ndarray
    target_scale: np.ndarray

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))
        features, outputs = self.x_train.shape[1], self.y_train.shape[1]
        expected = {"x_test": features, "y_test": outputs, "target_train": outputs, "target_test": outputs}
        for name, columns in expected.items():
            rows = len(self.x_train if name.endswith("train") else self.y_test if name == "x_test" else self.x_test)
            if getattr(self, name).shape != (rows, columns):
                raise DataError(f"{name} has shape {getattr(self, name).shape}, the split needs ({rows}, {columns})")
        if len(self.y_train) != len(self.x_train):
            raise DataError(f"x_train has {len(self.x_train)} rows and y_train {len(self.y_train)}")
        if len(self.x_train) < 2 or not np.ptp(self.y_train, axis=0).all():
            raise DataError(
                f"the training pool of {len(self.x_train)} rows has a constant target",
                cause="nothing can be learned from it, and its standard deviation is zero",
                todo="take a larger pool, or another target",
            )


def _check(name: str, values: np.ndarray) -> None:
    columns = 1 if name.startswith(("feature", "target_mean", "target_scale")) else 2
    if values.ndim != columns or values.dtype != np.float64 or not values.size:
        raise DataError(
            f"{name} is {values.dtype}{values.shape}; it must be float64 with {columns} dimensions, not empty"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{name}{list(first)} = {values[first]} is not a finite number ({int(bad.sum())} such values)",
            cause="a missing measurement, a division by zero, or the logarithm of something not positive in the source",
            todo="remove or mend these rows in the data; nothing was written",
        )
    if name in ("x_train", "x_test", "y_train", "y_test") and (far := np.abs(values)).max() > LARGEST:
        row, column = np.unravel_index(far.argmax(), far.shape)
        raise DataError(
            f"{name}[{row}, {column}] is {values[row, column]:.3g} when it is standardised, of which the square is "
            "beyond single precision",
            at=(name, int(row), int(column)),
            cause="a value far outside of what the training pool has: another unit, or a mark of a missing value",
            todo="mend or take out this row, or take the logarithm of this column",
        )


def regression(
    raw: np.ndarray,
    target: np.ndarray,
    pool: int,
    *,
    log_target: bool = False,
    scaling: Scaling = "global",
    keep_constant: bool = False,
) -> Split:
    """The split of inputs (n, features) and targets (n, outputs), of which the first `pool` rows are for training.

    Targets, or the logarithms of positive ones, are standardised one by one. Raises DataError where they are constant.
    """
    x, feature_mean, feature_scale = standardise(raw, raw[:pool], scaling, keep_constant=keep_constant)
    measured = np.log(target) if log_target else target
    mean, deviation, extent = _moments(measured[:pool], "target")
    if not (extent > 0).all():
        raise DataError(
            "the training pool has a constant target",
            cause="nothing can be learned from it",
            todo="take a larger pool, or another target",
        )
    y = (measured - mean) / deviation
    return Split(
        x_train=x[:pool],
        y_train=y[:pool],
        x_test=x[pool:],
        y_test=y[pool:],
        target_train=target[:pool],
        target_test=target[pool:],
        feature_mean=feature_mean,
        feature_scale=feature_scale,
        target_mean=mean,
        target_scale=deviation,
    )


def standardise(
    raw: np.ndarray, pool: np.ndarray, scaling: Scaling = "global", *, keep_constant: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(raw - mean) / scale with the mean of each feature over `pool`, and one scale for all features or one for each.

    Either makes the mean over the pool of |x|^2 / d equal to one. One scale is the default, because dividing sparse
    features by their own standard deviations lets single rows dominate; features in different units need their own.
    A feature that is constant in the pool is refused if it needs its own, or with `keep_constant` only centred: as one
    is whose standard deviation vanishes in double precision, such as a cell that hardly any shower reaches.
    """
    mean, deviation, extent = _moments(pool, "input", may_vanish=keep_constant)
    constant = ~(extent > 0)  # rounding gives a constant a deviation
    if keep_constant:
        constant |= ~(deviation > LEAST)
    if constant.all():
        raise DataError(
            "every input of the training pool is the same",
            cause="all features are constant"
            + (", or vary so little, as with a huge data.threshold, that squares vanish" if keep_constant else ""),
            todo="take other inputs, or a larger pool",
        )
    if scaling == "global":
        scale = np.full(pool.shape[1], np.sqrt(np.mean((pool - mean) ** 2)))
    elif constant.any() and not keep_constant:
        raise DataError(
            f"{constant.sum():,} inputs are constant in the training pool, the first is number {constant.argmax()}",
            at=("x", None, int(constant.argmax())),
            cause="a constant cannot be divided by its standard deviation",
            todo='leave it out, take a larger pool, or use scaling = "global"',
        )
    else:
        scale = np.where(constant, 1.0, deviation)
    return (raw - mean) / scale, mean, scale


def _moments(pool: np.ndarray, what: str, *, may_vanish: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and range of each column.

    Raises DataError where a column varies and its standard deviation overflows, or vanishes and may not.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation, extent = pool.mean(axis=0), pool.std(axis=0), np.ptp(pool, axis=0)
    # A thousand columns, squared and added, must stay finite too.
    bad = ~(deviation < 1e150) | ((extent > 0) & ~(deviation > LEAST) & ~np.bool_(may_vanish))
    if bad.any() and np.isfinite(pool).all():
        first = int(bad.argmax())
        how = "vanishes" if deviation[first] < 1 else "overflows"
        raise DataError(
            f"the variance of {what} number {first} (from 0) {how} in double precision "
            f"({int(bad.sum()):,} such columns)",
            at=("x" if what == "input" else "y", None, first),
            cause=f"its values span {extent[first]:.3g}, and double precision ends at 1e308 and 1e-308",
            todo="write the column in a unit in which it is of the order of one, or its logarithm",
        )
    return mean, deviation, extent
