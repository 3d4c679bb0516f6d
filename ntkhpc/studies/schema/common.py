"""Arrays of every study: the data."""

from ntkhpc.studies.schema.array import TARGET_UNIT, Array

ARRAYS = (
    Array("x_train", "data", ("pool", "feature"), "f8", "1", "standardised inputs of the training pool"),
    Array("y_train", "data", ("pool", "output"), "f8", "1", "standardised targets of the training pool"),
    Array("x_test", "data", ("test_point", "feature"), "f8", "1", "test inputs, standardised as the pool"),
    Array("y_test", "data", ("test_point", "output"), "f8", "1", "test targets, standardised as the pool"),
    Array("target_train", "data", ("pool", "output"), "f8", TARGET_UNIT, "targets of the pool as measured"),
    Array("target_test", "data", ("test_point", "output"), "f8", TARGET_UNIT, "targets of the test points as measured"),
    Array("feature_mean", "data", ("feature",), "f8", "1", "mean of each raw input over the pool, subtracted"),
    Array("feature_scale", "data", ("feature",), "f8", "1", "divides the centred raw inputs"),
    Array("target_mean", "data", ("output",), "f8", "1", "subtracted from the targets, or from their logarithms"),
    Array("target_scale", "data", ("output",), "f8", "1", "divides the centred targets, or logarithms"),
    Array("permutation", "data", ("order", "pool"), "i8", "1", "order d of the pool: draw d trains on its first rows"),
)  # fmt: skip
