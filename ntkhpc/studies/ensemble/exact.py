"""The law at infinite width that goes with the training of a study, or the one that stands beside it as a reference.

Of algorithms that leave outputs Gaussian it is their own law. Members with orders of their own for mini-batches are a
mixture of the laws of single orders: of ORDERS of them, which are not the members' own. Where no law is known, it is
that of full-batch gradient descent, and a reference only.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ntkhpc.optimisers import Algorithm, homogeneity
from ntkhpc.studies import cost

if TYPE_CHECKING:
    from ntkhpc.infinite_width import Law, Panels, Training
    from ntkhpc.loss_law import Statistics
    from ntkhpc.studies.ensemble.study import EnsembleStudy

ORDERS = 16
"""Orders of mini-batches that stand for those of the members."""

SECONDS_PER_UPDATE = 40e-6
"""Of a law by a mini-batch, beside its product."""

LARGEST_BATCHED = 8192
"""Training points of laws of mini-batches, which multiply whole matrices at every step."""


def has_law(study: "EnsembleStudy") -> bool:
    """Whether the law of the study's own algorithm is known."""
    own = study.training.algorithm
    shrinks = bool(own.weight_decay) and own.decay_towards == "zero"
    return own.has_law(_degree(study)) and not (shrinks and study.network.centred)


def has_curves(study: "EnsembleStudy") -> bool:
    """Whether there are curves and further draws at infinite width: where one law with a spread stands for all widths.

    With gamma = gamma0 sqrt(width) each width has a law of its own, and centred networks have none with a spread.
    """
    return study.network.parametrisation == "ntk" and not study.network.centred


def scaled(study: "EnsembleStudy", law: "Law") -> "Law":
    """The law of the outputs of a study that has curves, from that of the networks before they are divided by gamma."""
    return study.network.output_scale(1).law(*law)


def _degree(study: "EnsembleStudy") -> int | None:
    """Of networks that are homogeneous in their weights; of a text of layers nobody says."""
    return None if study.network.architecture else homogeneity(study.network)


def algorithm(study: "EnsembleStudy") -> Algorithm:
    """Of the law: the study's own, or that of the reference."""
    return study.training.algorithm if has_law(study) else Algorithm()


def orders(study: "EnsembleStudy") -> tuple[int | None, ...]:
    """The orders of mini-batches whose laws are mixed; one, shared, for all else."""
    return tuple(range(ORDERS)) if algorithm(study).order == "own" else (None,)


def training(
    study: "EnsembleStudy", steps: int, order: int | None = None, learning_rate: float | None = None
) -> "Training":
    """As the study trains, for `steps`, at its fraction of the stability bound of the kernel or at `learning_rate`."""
    from ntkhpc.infinite_width import Training

    own = algorithm(study)
    return Training(
        time=steps,
        learning_rate=learning_rate if has_law(study) else None,
        learning_rate_fraction=study.training.learning_rate_fraction * study.network.rate_factor,
        momentum=own.momentum,
        algorithm=own,
        seed=study.seed,
        order=order,
        degree=_degree(study),
    )


def laws(
    study: "EnsembleStudy", blocks: "Panels", y_train: np.ndarray, steps: int, learning_rate: float | None = None
) -> "Iterator[Law]":
    """After `steps`, one for each of `orders`; of networks before their outputs are divided by gamma or centred."""
    from ntkhpc import infinite_width

    trainings = [training(study, steps, order, learning_rate) for order in orders(study)]
    yield from infinite_width.finite_time_laws(blocks, y_train, trainings)


def statistics(
    study: "EnsembleStudy",
    blocks: "Panels",
    y_train: np.ndarray,
    y_test: np.ndarray,
    steps: Sequence[int],
    test_sizes: Sequence[int] = (),
) -> "list[Statistics]":
    """Of the loss after each of several numbers of steps on the same points, from one eigendecomposition."""
    from ntkhpc import infinite_width, loss_law, mixtures

    each = orders(study)
    trainings = [training(study, one, order) for one in steps for order in each]
    found = infinite_width.finite_time_laws(blocks, y_train, trainings)
    if len(each) == 1:
        return [loss_law.statistics(*scaled(study, law), y_test, test_sizes) for law in found]
    mixed = []
    for _ in steps:
        parts = [mixtures.MixedLaw.of(*scaled(study, next(found)), y_test, test_sizes) for _ in each]
        mixed.append(mixtures.statistics(parts, y_test, test_sizes))
    return mixed


def end_of_training(
    study: "EnsembleStudy", blocks: "Panels", y_train: np.ndarray, sizes: Sequence[int]
) -> "Iterator[Law]":
    """The laws of all sizes at infinite time, which schedules and batches do not change."""
    from ntkhpc import infinite_width

    if algorithm(study).weight_decay:
        return infinite_width.decayed_laws(blocks, y_train, sizes, algorithm(study))
    return infinite_width.nested_laws(blocks, y_train, sizes)


def batched_seconds(study: "EnsembleStudy", n_train: int, steps: int) -> float:
    """Products of matrices that mini-batches take after `steps`; none for full batches."""
    own = algorithm(study)
    if not own.batch:
        return 0.0
    passes = 2 if own.weight_decay and own.decay_towards == "zero" else 1
    step = SECONDS_PER_UPDATE + 2.0 * own.batch * n_train**2 / cost.FLOPS_FLOAT64
    return len(orders(study)) * passes * steps * step


def require_possible(study: "EnsembleStudy") -> None:
    """Raises ValueError for what the laws of a study cannot be made of, naming the field to change."""
    _require_scalable(study)
    own, times, sizes = algorithm(study), study.infinite_width.times, study.curve_sizes
    if study.training.batch > study.ensemble.n_train[0]:
        raise ValueError(
            f"training.batch = {study.training.batch} is more than ensemble.n_train has at least, "
            f"{study.ensemble.n_train[0]}"
        )
    curves = has_curves(study)
    finite = study.infinite_width.finite if curves else ()
    if own.batch:
        if finite and own.batch > sizes[0]:
            raise ValueError(
                f"training.batch = {own.batch} is more than infinite_width.n_train has at least, {sizes[0]}"
            )
        largest = max(study.ensemble.n_train[-1], sizes[-1] if finite else 0)
        if largest > LARGEST_BATCHED:
            raise ValueError(
                f"the law of mini-batches multiplies whole matrices at every step: {LARGEST_BATCHED:,} samples are the "
                f"most, not {largest:,}; lower ensemble.n_train"
                + (" or infinite_width.n_train, or say infinite_width.times = ['infinite']" if curves else "")
            )
        if finite and sizes[-1] > study.infinite_width.tile:
            raise ValueError(
                f"infinite_width.times = {list(times)} has {finite[0]!r}, for which mini-batches take whole kernels; "
                f"those of {sizes[-1]:,} samples are in tiles: raise infinite_width.tile, or say times = ['infinite']"
            )
    if not (curves and own.weight_decay and "infinite" in times):
        return
    if study.infinite_width.ridge:
        raise ValueError(
            f"infinite_width.ridge = {study.infinite_width.ridge:g} is a penalty beside that of "
            f"training.weight_decay = {own.weight_decay:g}: give one of them"
        )
    if own.decay_towards == "zero":
        raise ValueError(
            "infinite_width.times has 'infinite', but weight decay to zero has no law at the end of training, where "
            "nothing of the initial kernel is left: say times = ['steps']"
        )
    if own.batch:
        raise ValueError(
            "infinite_width.times has 'infinite', but mini-batches with weight decay have no fixed point in common: "
            "say times = ['steps']"
        )
    if study.infinite_width.method == "iterative" or sizes[-1] > study.infinite_width.tile:
        raise ValueError(
            "infinite_width.times has 'infinite', where weight decay is a ridge of its own at every size: kernels of "
            f"{sizes[-1]:,} samples are in tiles, which have one factor for all; raise infinite_width.tile, or say "
            "times = ['steps']"
        )


def _require_scalable(study: "EnsembleStudy") -> None:
    """What is not known of networks whose outputs are scaled."""
    network, own, infinite = study.network, study.training.algorithm, study.infinite_width
    if own.entry.bound is None and network.parametrisation == "ntk" and network.gamma != 1:
        raise ValueError(
            f"training.optimiser = {own.optimiser!r} with network.gamma = {network.gamma:g}: how its rate goes with a "
            "fixed gamma is not known. Say gamma = 1, or parametrisation = 'mup' with gamma0"
        )
    if own.entry.bound is None and network.parametrisation == "mup" and (own.weight_decay or network.architecture):
        what = "training.weight_decay" if own.weight_decay else "network.architecture"
        raise ValueError(
            f"training.optimiser = {own.optimiser!r} in the mu-parametrisation has a rate for each layer of a fully "
            f"connected network; how it goes with {what} is not known: leave it out, or take another optimiser"
        )
    if network.is_scaled and "posterior" in infinite.times:
        raise ValueError(
            "infinite_width.times has 'posterior', that of networks with gamma = 1 that are not centred: leave it out, "
            "or network.parametrisation, network.gamma and network.centred"
        )
    if has_curves(study):
        return
    usual = type(infinite)()
    given = [name for name in infinite.__struct_fields__ if getattr(infinite, name) != getattr(usual, name)]
    if changed := [name for name in given if name != "redraws"]:
        raise ValueError(
            f"infinite_width.{changed[0]}: there are no curves at infinite width "
            + (
                "of centred networks"
                if network.centred
                else "in the mu-parametrisation, where every width has a law of its own (phase law)"
            )
            + ": leave [infinite_width] out"
        )
