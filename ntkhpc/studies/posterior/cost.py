"""Projected cost of the shards of a study of kind `bayes`, on one reference core, as those of kind `ensemble`."""

from ntkhpc.studies import cost
from ntkhpc.studies.posterior.study import BayesStudy

SECONDS_PER_PROGRAM = 12.0
"""To compile a sampler, anew for each width and training-set size."""

ADAPTIVE_PROGRAM_SECONDS = 4.0

SECONDS_PER_GRADIENT = 150e-6
FLOPS_PER_SECOND = 15e9
THEORY_BYTES = 330 * 2**20
"""Of one that solved saddle points, 280 MiB."""

CHAINS_BYTES = 700 * 2**20
"""Resident size of a worker that compiled several samplers, or programs of neurons."""


def theory_seconds(study: BayesStudy, n_train: int) -> float:
    """One training set: two eigendecompositions of its kernels, and the law of the loss at every width."""
    test, widths = study.data.test, len(study.theory_widths)
    pairs = n_train**2 / 2 + n_train * test + test**2 / 2
    scanned = len(study.scan.temperatures) + len(study.scan.readout_factors)
    flops = 60 * n_train**3 + (1 + widths) * (34 * test**3 + 2 * n_train * test**2)
    flops += (1 + scanned) * widths * 4 * n_train * test
    kernels = pairs * (study.features * 2 / cost.FLOPS_FLOAT64 + 64e-9)
    return cost.SECONDS_PER_SHARD + kernels + flops / cost.FLOPS_FLOAT64


def chains_seconds(study: BayesStudy, width: int, n_train: int, chains: int) -> float:
    """Warm-up and kept samples."""
    warmup, sample = _seconds_per_draw(study, width, n_train)
    per_chain = study.sampling.warmup * warmup + study.sampling.draws * sample
    return cost.SECONDS_PER_SHARD + SECONDS_PER_PROGRAM + chains * per_chain


def chains_tile_seconds(study: BayesStudy, width: int, n_train: int, chains: int) -> float:
    """The start, and the warm-up or a tile of kept samples, whichever takes longer."""
    warmup, sample = _seconds_per_draw(study, width, n_train)
    per_chain = max(study.sampling.warmup * warmup, study.sampling.tile * sample)
    return cost.SECONDS_PER_SHARD + SECONDS_PER_PROGRAM + chains * per_chain


def _seconds_per_draw(study: BayesStudy, width: int, n_train: int) -> tuple[float, float]:
    """Of one chain, while it warms up and of a kept sample.

    Gradients of the potential: hidden units at the training points, one factorisation, and the way back.
    """
    sampling = study.sampling
    rank, small = min(n_train, study.features), min(n_train, width)
    flops = 6.0 * n_train * rank * width + 6.0 * n_train * width * small + 2.0 * small**3
    gradients = sampling.thin * gradients_per_transition(study, rank * width)
    moves = gradients * (flops / FLOPS_PER_SECOND + SECONDS_PER_GRADIENT)
    # A kept sample predicts every test point, across the span of the training inputs too.
    kept = 2.0 * study.data.test * width * (rank + min(study.data.test, study.features) + small)
    return moves, moves + kept / FLOPS_PER_SECOND


def adaptive_seconds(study: BayesStudy, n_train: int, populations: int) -> float:
    """Four steps of every neuron and an inverse an update; a look at the test points every fifth in the second half."""
    neurons, updates, test = study.adaptive.neurons, study.adaptive.updates, study.data.test
    rank = min(n_train, study.features)
    steps = 4 * (2 * n_train * (rank + n_train) * neurons / FLOPS_PER_SECOND + neurons * (rank + n_train) * 30e-9)
    update = steps + (6 * n_train**2 * neurons + 8 * n_train**3) / FLOPS_PER_SECOND
    look = 2 * test * (rank + 3 * n_train) * neurons / FLOPS_PER_SECOND + test * neurons * 60e-9
    per_population = updates * update + updates / 10 * look
    return cost.SECONDS_PER_SHARD + ADAPTIVE_PROGRAM_SECONDS + populations * per_population


def gradients_per_transition(study: BayesStudy, weights: int) -> float:
    """Leapfrog steps of a trajectory; as the dimension grows they shrink like its fourth root."""
    if study.sampling.sampler == "langevin":
        return 1.0
    return (0.9 if study.sampling.sampler == "hmc" else 4.0) * weights**0.25


def analysis_seconds(study: BayesStudy) -> float:
    return 20.0


def memory_bytes(study: BayesStudy, phase: str) -> int:
    """Projected peak resident size of one worker of a phase."""
    if phase == "data":
        return cost.data_memory_bytes(study)
    if phase == "analysis":
        return cost.ANALYSIS_BYTES + 8 * 8 * len(study.theory_widths) * study.data.test * len(study.posterior.n_train)
    n, test = study.posterior.n_train[-1], study.data.test
    rows = cost.rows_bytes(study)
    if phase == "theory":
        return THEORY_BYTES + rows + 8 * (7 * n**2 + 6 * n * test + 7 * test**2)
    n, features = study.sampled_sizes[-1], study.features
    across = across_bytes(test, features)
    if phase == "adaptive":
        neurons = study.adaptive.neurons
        moving = neurons * (4 * min(n, features) + 6 * n + 4 * test)
        return CHAINS_BYTES + rows + 8 * (moving + 12 * n**2 + 8 * n * test) + across
    width, chains = study.sampled_widths[-1], study.sampling.shard_chains
    hidden = n * width + test * width + min(n, features) * width
    return CHAINS_BYTES + rows + chains * 8 * (8 * hidden + 4 * min(n, width) ** 2) + across


def across_bytes(test: int, features: int) -> int:
    """Of the test inputs across the span of the training inputs, their singular vectors and their root."""
    return 8 * test * (3 * features + 2 * min(test, features))
