"""What each figure of the report of a posterior shows."""

_LOSS = "Test loss: mean over test points of (f - y)^2, without a factor 1/2."

CAPTIONS = {
    "loss": (
        f"{_LOSS} For each number P of training samples: what theory says at the saddle point of the order parameter "
        "(line), with the order parameter integrated over (thin), at infinite width (dashes), with a kernel that "
        "changes its shape (diamonds, with the error of the mean over populations of neurons; where it was computed), "
        "and networks sampled from the posterior (points, with the Monte Carlo error of the mean over chains). Below: "
        "points and diamonds over the line; without samples, infinite width over it (dashes)."
    ),
    "order_parameter": (
        "Left: the order parameter Qb, by which finite width multiplies the kernel, from theory (lines) and from the "
        "read-outs of sampled networks (points); 1 is infinite width. Right: s of the sign rule. Below 1 it says that "
        "Qb < 1 and finite width helps, above 1 that infinite width is best."
    ),
    "scans": (
        f"{_LOSS} Theory at other temperatures, and at other precisions of the read-out's prior, at the largest P; "
        "rings mark the study's own. Below: the order parameter there. Black is infinite width."
    ),
    "distribution": (
        f"{_LOSS} Above: the losses of single networks sampled from the posterior (steps), what theory says of that "
        "width (smooth line of the same colour, f Gaussian at the saddle point), and infinite width (black). Below: "
        "the share of sampled networks inside the central credible intervals of finite-width theory (filled) and of "
        "infinite width (open), against what the intervals promise (dotted). Curves are of the first draw of the "
        "training set, shares the mean over draws."
    ),
    "scaling": (
        f"{_LOSS} Mean, standard deviation and relative spread of the loss L of single networks against N_D = P, over "
        "the posterior (theory: lines; sampled: points) and over initialisations of infinitely wide networks with this "
        "prior that were trained to the end by gradient descent (NTK parametrisation, grey dashes). Bands, at infinite "
        "width: spread over draws of the training set, where there are several."
    ),
    "chains": (
        f"{_LOSS} The chains of the cell whose R-hat is largest: expected loss (left) and order parameter (right) of "
        "each kept sample, one colour a chain. Chains that have converged wander about the same value."
    ),
}
