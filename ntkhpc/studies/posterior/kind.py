"""Kind `bayes`: the dimensions of its store, and its phases in order."""

from ntkhpc.phase.block import Block
from ntkhpc.phase.dimension import Dim
from ntkhpc.phase.kind import Kind
from ntkhpc.studies import analysis, data, dims, memory
from ntkhpc.studies.posterior import adaptive, chains, theory
from ntkhpc.studies.posterior.probe import speed
from ntkhpc.studies.posterior.study import PosteriorStudy

DIMS = (
    *dims.COMMON,
    Dim("theory_width", lambda study: study.theory_widths, "hidden units; the last is infinity", "f8"),
    Dim("sampled_width", lambda study: study.sampled_widths, "hidden units of the sampled networks", label="w"),
    Dim("sampled_n_train", lambda study: study.sampled_sizes, "training-set size of the sampled networks", label="n"),
    Dim("n_train", lambda study: study.posterior.n_train, "training-set size P = N_D", label="n"),
    Dim("draw", lambda study: range(study.posterior.draws), "number of the draw of the training set", label="d"),
    Dim("temperature", lambda study: study.scan.temperatures, "temperatures T, scanned", "f8"),
    Dim("readout_factor", lambda study: study.scan.readout_factors, "factors on the read-out's precision, scanned",
        "f8"),
    Dim("chain", lambda study: range(study.sampling.chains), "number of the chain",
        every=lambda study: study.sampling.shard_chains, label="c"),
    Dim("sample", lambda study: range(study.sampling.draws), "number of the kept sample of a chain"),
    Dim("population", lambda study: range(study.adaptive.populations), "number of the population of neurons"),
    dims.quantile("theory_quantile"),
)  # fmt: skip


def _analysis_seconds(study: PosteriorStudy, block: Block) -> float:
    return 20.0


def _analysis_bytes(study: PosteriorStudy) -> int:
    points = len(study.theory_widths) * study.data.test * len(study.posterior.n_train)
    return memory.REPORT["bayes"] + memory.of_numbers(8 * points)


_PHASES = (data.PHASE, theory.PHASE, adaptive.PHASE, chains.PHASE)

KIND = Kind(
    "bayes",
    PosteriorStudy,
    title="Posterior of Bayesian networks of one hidden layer",
    loss="L = sum over test points a of (f(x_a) - y_a)^2 / N_T, twice that of kind ensemble",
    dims=DIMS,
    phases=(
        *_PHASES,
        analysis.phase(
            _PHASES, seconds=_analysis_seconds, memory_bytes=_analysis_bytes, lower="data.test or posterior.n_train"
        ),
    ),
    probe=speed,
    smaller="data.test, sampling.chains or sampling.draws",
)
