"""Arrays of studies of kind `ensemble`."""

from ntkhpc.studies.schema.array import Array
from ntkhpc.studies.schema.dimensions import CELL

OK, DIVERGED, MISSING = 0, 1, -1
"""Values of `status`; the last, its fill value, means: not computed."""

CURVE = ("curve_draw", "time", "curve_n_train")

ARRAYS = (
    Array("width", "create", ("width",), "i8", "1", "hidden units per layer"),
    Array("n_train", "create", ("n_train",), "i8", "1", "training-set size N_D"),
    Array("draw", "create", ("draw",), "i8", "1", "number of the draw of the training set"),
    Array("member", "create", ("member",), "i8", "1", "number of the initialisation"),
    Array("n_steps", "create", ("n_train",), "i8", "1", "full-batch steps trained at each n_train"),
    Array("trace_step", "create", ("n_train", "trace_point"), "i8", "1", "steps at which losses are traced"),
    Array("test_size", "create", ("test_size",), "i8", "1", "test points in a block; the last is the whole test set"),
    Array("quantile", "create", ("quantile",), "f8", "1", "probability that L is below law_quantile"),
    Array("time", "create", ("time",), "i1", "1", "0 the study's rule of steps, 1 a fixed number of steps, 2 infinite"),
    Array("curve_draw", "create", ("curve_draw",), "i8", "1", "number of the draw of the training set"),
    Array("curve_n_train", "create", ("curve_n_train",), "i8", "1", "training-set size N_D at infinite width"),
    Array("curve_steps", "create", ("time", "curve_n_train"), "i8", "1", "steps at infinite width; -1 is the end"),
    Array("lambda_max", "data", ("draw", "n_train"), "f8", "1", "largest eigenvalue of the infinite-width NTK"),
    Array("learning_rate", "data", ("draw", "n_train"), "f8", "1", "step size eta of the cost per sample and output"),
    Array("test_point_loss", "ensemble", (*CELL, "member", "test_point"), "f4", "1",
          "sum over outputs of (f-y)^2 / (2 outputs) at each test point"),
    Array("test_loss", "ensemble", (*CELL, "member"), "f8", "1", "L: mean of test_point_loss over test points"),
    Array("train_loss", "ensemble", (*CELL, "member"), "f8", "1", "mean of the same loss over the training points"),
    Array("test_loss_trace", "ensemble", (*CELL, "member", "trace_point"), "f4", "1", "L during training"),
    Array("train_loss_trace", "ensemble", (*CELL, "member", "trace_point"), "f4", "1", "training loss during training"),
    Array("steps_done", "ensemble", (*CELL, "member"), "i4", "1", "steps after which the losses were last finite"),
    Array("status", "ensemble", (*CELL, "member"), "i1", "1", "0 trained, 1 diverged, -1 not computed"),
    Array("prediction_mean", "ensemble", (*CELL, "tile", "test_point", "output"), "f8", "1",
          "mean of f over the trained members of each tile"),
    Array("prediction_m2", "ensemble", (*CELL, "tile", "test_point", "output"), "f8", "1",
          "sum over a tile's trained members of (f - prediction_mean)^2"),
    Array("prediction", "ensemble", (*CELL, "member", "test_point", "output"), "f4", "1",
          "f of each member, if ensemble.predictions", only_if="predictions"),
    Array("bias2", "finalise", (*CELL, "test_point"), "f8", "1",
          "sum over outputs of (mean f - y)^2 / (2 outputs)"),
    Array("variance", "finalise", (*CELL, "test_point"), "f8", "1",
          "sum over outputs of the unbiased variance of f / (2 outputs)"),
    Array("members_used", "finalise", CELL, "i4", "1", "members that did not diverge"),
    Array("law_mean", "law", ("draw", "n_train", "test_point", "output"), "f8", "1",
          "infinite width, the ensemble's own steps: mean of f over initialisations"),
    Array("law_variance", "law", ("draw", "n_train", "test_point"), "f8", "1", "the same: variance of f, every output"),
    Array("law_cumulant", "law", ("draw", "n_train", "cumulant"), "f8", "1", "the same: cumulants 1 to 4 of L"),
    Array("law_population_variance", "law", ("draw", "n_train"), "f8", "1",
          "the same: sigma_pop^2, the part of Var L that an endless test set would leave"),
    Array("law_size_variance", "law", ("draw", "n_train", "test_size"), "f8", "1",
          "the same: Var L on a block of test_size points, mean over disjoint blocks"),
    Array("law_quantile", "law", ("draw", "n_train", "quantile"), "f8", "1", "the same: exact quantiles of L"),
    Array("curve_mu", "curve", CURVE, "f8", "1", "infinite width: mu_L, the mean of L over initialisations"),
    Array("curve_sigma2", "curve", CURVE, "f8", "1", "infinite width: sigma_L^2, the variance of L"),
    Array("curve_population_variance", "curve", CURVE, "f8", "1", "infinite width: sigma_pop^2"),
    Array("curve_bias2", "curve", CURVE, "f8", "1", "infinite width: mean over test points of bias^2 / 2"),
    Array("curve_variance", "curve", CURVE, "f8", "1", "infinite width: mean over test points of the variance / 2"),
    Array("curve_size_variance", "curve", (*CURVE, "test_size"), "f8", "1",
          "infinite width: Var L on a block of test_size points"),
    Array("curve_largest_share", "curve", CURVE, "f8", "1", "infinite width: the largest test point's share of mu_L"),
)  # fmt: skip
