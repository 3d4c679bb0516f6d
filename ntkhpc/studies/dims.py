"""Dimensions and arrays that the stores of all kinds of studies have."""

from ntkhpc.phase.array import TARGET_UNIT, Array
from ntkhpc.phase.dimension import Dim

CELL = ("width", "n_train", "draw")
"""What networks are compared within: those of one cell differ by their initialisation alone."""

PROBABILITIES = tuple(i / 200 for i in range(1, 200))
"""Probabilities at which the distribution of the loss is tabulated."""

COMMON = (
    Dim("pool", size=lambda study: study.data.pool),
    Dim("test_point", size=lambda study: study.data.test),
    Dim("feature", size=lambda study: study.features),
    Dim("output", size=lambda study: study.outputs),
    Dim("order", size=lambda study: study.orders),
    Dim("test_size", lambda study: study.test_sizes, "test points in a block; the last is the whole test set"),
)


def quantile(of: str) -> Dim:
    return Dim("quantile", lambda study: PROBABILITIES, f"probability that L is below {of}", "f8")


SPLIT = (
    Array("x_train", ("pool", "feature"), "f8", "1", "standardised inputs of the training pool"),
    Array("y_train", ("pool", "output"), "f8", "1", "standardised targets of the training pool"),
    Array("x_test", ("test_point", "feature"), "f8", "1", "test inputs, standardised as the pool"),
    Array("y_test", ("test_point", "output"), "f8", "1", "test targets, standardised as the pool"),
    Array("target_train", ("pool", "output"), "f8", TARGET_UNIT, "targets of the pool as measured"),
    Array("target_test", ("test_point", "output"), "f8", TARGET_UNIT, "targets of the test points as measured"),
    Array("feature_mean", ("feature",), "f8", "1", "mean of each raw input over the pool, subtracted"),
    Array("feature_scale", ("feature",), "f8", "1", "divides the centred raw inputs"),
    Array("target_mean", ("output",), "f8", "1", "subtracted from the targets, or from their logarithms"),
    Array("target_scale", ("output",), "f8", "1", "divides the centred targets, or logarithms"),
    Array("permutation", ("order", "pool"), "i8", "1", "order d of the pool: draw d (no redraw) has its first rows"),
)
"""What every phase `data` writes."""
