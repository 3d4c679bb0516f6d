"""How far rounding lets a training loss fall: below that it goes up and down whatever the training is.

An output is a sum of m terms in each layer, each rounded to the relative precision eps. The errors of such sums are
about sqrt(m) eps [Higham and Mary 2019], and layers add theirs in quadrature. Outputs as large as before training, or
as the targets, are so wrong by about eps sqrt(m layers) of that, and the loss by the square. Where factors of products
are rounded to a coarser precision than sums are, eps is theirs and m is 1.
"""

import numpy as np

from analysis.ensemble.results import EnsembleResults
from ntkhpc import precisions
from ntkhpc.studies.ensemble.network import Network


def floors(results: EnsembleResults) -> np.ndarray:
    """Of each width (width,): the training loss over that before training, below which its rises are by rounding.

    m is the larger of width and features; networks of an architecture count as one hidden layer. What centred networks
    subtract from their outputs is rounded too; its size is taken as that of inputs and targets of variance 1.
    """
    training, network = results.study.training, results.study.network
    rounded, found = precisions.EPS[training.precision], []
    factors = precisions.of_products(training.precision, training.matmul_precision)
    for width in map(int, results.store.width.values):
        relative = max(rounded**2 * max(width, results.store.sizes["feature"]), factors**2)
        scale = network.output_scale(width)
        subtracted = _untrained(network) / scale.gamma**2 if scale.centred else 0.0
        found.append(relative * (network.depth + 1) * (1 + subtracted))
    return np.array(found)


def _untrained(network: Network) -> float:
    """The square of outputs before training: a ReLU passes on half of the square of its input, erf no more than one."""
    layers = network.depth if network.activation == "relu" and not network.architecture else 0
    return network.weight_variance * (network.weight_variance / 2) ** layers + network.bias_variance
