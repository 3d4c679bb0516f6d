"""Training algorithms in words, for methods sections and reports."""

from typing import TYPE_CHECKING

from ntkhpc.optimisers import WARM_UP, Algorithm
from ntkhpc.references import ADAM, ADAMW, Reference

if TYPE_CHECKING:
    from ntkhpc.studies.ensemble.network import Network
    from ntkhpc.studies.ensemble.train import TrainingSettings

BOUNDS = {"gd": "2", "sgd": "2", "momentum": "2 (1 + {0:g})", "nesterov": "2 (1 + {0:g})/(1 + 2 {0:g})"}
"""F of the stability bound F c/lambda_max, from the momentum."""

_MOMENTA = {"momentum": "heavy-ball momentum", "nesterov": "Nesterov momentum"}


_ADAPTIVE = {"adam": ("Adam", ADAM), "adamw": ("AdamW", ADAMW)}
"""Optimisers without a stability bound: what they are called, and the paper."""


def references(algorithm: Algorithm) -> tuple[Reference, ...]:
    """The paper that `name` cites, if it cites one."""
    return (_ADAPTIVE[algorithm.optimiser][1],) if algorithm.entry.bound is None else ()


def name(algorithm: Algorithm) -> str:
    """ "full-batch gradient descent with heavy-ball momentum 0.9"."""
    batch = f"mini-batches of {algorithm.batch:,} samples" if algorithm.batch else ""
    if algorithm.optimiser == "sgd":
        return f"stochastic gradient descent in {batch}"
    if algorithm.entry.bound is None:
        called, paper = _ADAPTIVE[algorithm.optimiser]
        title = f"{called} (arXiv:{paper.arxiv})"
        return f"{title} in {batch}" if batch else f"full-batch {title}"
    momentum = _MOMENTA.get(algorithm.optimiser)
    return "full-batch gradient descent" + (f" with {momentum} {algorithm.momentum:g}" if momentum else "")


def details(algorithm: Algorithm) -> str:
    """What else there is, in sentences that begin with a space; none for plain descent."""
    said = []
    if algorithm.batch:
        whose = "all networks share it" if algorithm.order == "shared" else "each network has its own"
        said.append(
            f"A step is one batch. Batches are cut from a new order of the training set in each epoch ({whose}); what "
            "is left of it is not used in that epoch."
        )
    if algorithm.weight_decay:
        target = "zero" if algorithm.decay_towards == "zero" else "its initial value"
        said.append(
            f"Decoupled weight decay moves each weight towards {target} by {algorithm.weight_decay:g} times the "
            "learning rate at every step."
        )
    if algorithm.entry.bound is None:
        said.append("Decay rates of the moments are 0.9 and 0.999, and eps is 1e-8.")
    return "".join(f" {one}" for one in said)


def rate(training: "TrainingSettings", network: "Network") -> str:
    """How the learning rate of the weights of such networks is chosen, in sentences."""
    algorithm = training.algorithm
    peak = "The learning rate" if algorithm.schedule == "constant" else "The largest learning rate"
    if algorithm.entry.bound is None:
        found = f"{peak} is {training.learning_rate:g}/sqrt(width)."
        if network.parametrisation == "mup":
            found = (
                f"{peak} is {training.learning_rate:g}, and that over sqrt(width) of weights between hidden layers "
                "(arXiv:2203.03466)."
            )
    else:
        factor, decay = BOUNDS[algorithm.optimiser].format(algorithm.momentum), ""
        if algorithm.weight_decay:
            share = "" if algorithm.decay_towards == "zero" else "/2"
            decay = f", with F = {factor}, weight decay w and lambda_max raised by F w{share} N_D K"
        found = (
            f"{peak} is {'gamma^2 times ' if network.is_scaled else ''}{training.learning_rate_fraction:g} "
            f"times the stability bound {factor} N_D K/lambda_max, with K outputs and lambda_max the largest "
            f"eigenvalue of the infinite-width NTK of the training set{decay}."
        )
        if algorithm.batch:
            found += (
                " N_D stands for the samples of a batch here, and lambda_max for a bound of every batch: that of the "
                "training set, or the sum of as many of the largest entries on the kernel's diagonal if that is less."
            )
        if network.rate_factor != 1:
            found += (
                f" At gamma0 > 1 features that move lower the bound (arXiv:2410.04642), so it is multiplied by "
                f"{network.rate_factor:.3g}."
            )
    return found + _schedule(algorithm)


def _schedule(algorithm: Algorithm) -> str:
    if algorithm.schedule == "constant":
        return ""
    rising = (
        f" after a linear rise in the first {100 * WARM_UP:g} % of the steps" if "warm" in algorithm.schedule else ""
    )
    return f" It falls to zero as half a period of a cosine over all steps{rising}."


NO_LAW = "no exact law for {}: ensemble only"

REFERENCE = "full-batch gradient descent of the same number of steps, at the same fraction of its own stability bound"


def without_law(algorithm: Algorithm) -> str:
    """ "no exact law for adam: ensemble only"."""
    decayed = " with weight decay to zero" if algorithm.entry.bound is not None else ""
    return NO_LAW.format(f"{algorithm.optimiser}{decayed}")
