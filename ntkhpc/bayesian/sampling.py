"""Samples of the posterior of a network at finite width, which the theories of this package approximate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import numpy as np

from ntkhpc import convergence
from ntkhpc.bayesian import inputs
from ntkhpc.bayesian.chains import ChainProgram, State, Values
from ntkhpc.bayesian.doubts import doubts
from ntkhpc.bayesian.inputs import Activation, Data
from ntkhpc.bayesian.target import Problem

Sampler = Literal["hmc", "nuts", "langevin"]


@dataclass(frozen=True, kw_only=True)
class PosteriorSample:
    """The posterior at M test points from C chains of n draws; losses are normalised as in `Posterior`.

    test_loss: bias + variance, the mean of expected_losses; standard_error: its Monte Carlo error. The bias holds the
        sampling variance of `mean` too, about variance/ess, and the variance lacks it.
    mean, point_variance: (M,), or (M, D) for several outputs, variances over hidden weights and read-out.
    losses (C, n): test loss of each drawn network. expected_losses (C, n): mean over read-outs, given hidden weights.
    potential (C, n): -log density of what was sampled, without its constants.
    q_bar: posterior mean of lam_L |v|^2/N_L, the order parameter of the last hidden layer; (D, D) for several outputs.
    r_hat: the larger of that of expected_losses and that of potential; ess: the bulk's, of expected_losses.
    gradients: evaluations of the gradient in all, warm-up included. warnings: why not to trust this, if anything.
    """

    temperature: float
    test_loss: float
    standard_error: float
    bias: float
    variance: float
    mean: np.ndarray
    point_variance: np.ndarray
    losses: np.ndarray
    expected_losses: np.ndarray
    potential: np.ndarray
    q_bar: float | np.ndarray
    r_hat: float
    ess: float
    gradients: int
    warnings: tuple[str, ...]

    @property
    def cost(self) -> float:
        """Gradient evaluations per effective draw."""
        return self.gradients / self.ess

    @property
    def mu_L(self) -> float:
        """The test loss with 1/(2 D), as in `ntkhpc.loss_law`."""
        return self.test_loss / (2 * (1 if self.mean.ndim == 1 else self.mean.shape[1]))


def sample_posterior(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    widths: int | Sequence[int],
    *,
    temperature: float,
    activation: Activation,
    precisions: Sequence[float] | None = None,
    sampler: Sampler = "hmc",
    chains: int = 4,
    warmup: int = 300,
    draws: int = 500,
    thin: int | None = None,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> PosteriorSample:
    """Sample the posterior of a network with these hidden `widths`, by Markov chains that start at the prior.

    Arguments as in `one_hidden_layer` and `multi_output`, with precisions lam_0 to lam_L, all 1 by default. warmup and
    draws are per chain, each draw of `thin` transitions (1; 100 steps of Langevin dynamics). learning_rate is that of
    [arXiv:2209.04882]'s "langevin", which is there to be compared with; "hmc" costs a fraction of "nuts".

    Raises ValueError for shapes and settings that make no sense, temperature 0 among them; RuntimeError if a chain
    leaves the finite numbers.
    """
    sizes = tuple(widths) if isinstance(widths, Sequence) else (widths,)
    precisions = [1.0] * (len(sizes) + 1) if precisions is None else precisions
    data = Data.make(x_train, y_train, x_test, y_test)
    thin = (100 if sampler == "langevin" else 1) if thin is None else thin
    inputs.require_random(sizes, temperature, activation, precisions, seed)
    if sampler not in get_args(Sampler):
        raise ValueError(f"sampler = {sampler!r} is none of {', '.join(get_args(Sampler))}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate = {learning_rate} must be positive and finite")
    for name, number, least in (("chains", chains, 1), ("warmup", warmup, 1), ("draws", draws, 8), ("thin", thin, 1)):
        if number < least:
            raise ValueError(f"{name} = {number} must be at least {least}")
    program = ChainProgram(
        activation, tuple(map(int, sizes)), sampler, warmup, draws, thin, learning_rate=learning_rate,
        at_once=jax.default_backend() != "cpu",
    )  # fmt: skip
    problem = Problem.make(data, program.widths, temperature, precisions)
    state = program.warm(problem, seed, program.start(problem, seed, range(chains)))
    state, values = program.advance(problem, seed, state)
    return summarise(program, problem, state, [values])


def summarise(program: ChainProgram, problem: Problem, state: State, tiles: Sequence[Values]) -> PosteriorSample:
    """The sample that tiles of the same chains make together; state is that after the last of them.

    Raises RuntimeError if a chain has left the finite numbers.
    """
    draws = {name: np.concatenate([tile[name] for tile in tiles], axis=1) for name in _PER_DRAW}
    if not all(np.isfinite(draws[name]).all() for name in ("expected_loss", "loss", "potential")):
        hint = "a smaller learning rate" if program.sampler == "langevin" else "a larger temperature"
        hint += f"; largest curvature met {np.nanmax(state['curvature']):.3g}" if program.sampler == "langevin" else ""
        raise RuntimeError(f"a chain of {program.sampler} left the finite numbers: try {hint}")
    mean, square, spread = (
        np.mean([tile[name].mean(axis=0) for tile in tiles], axis=0) for name in ("mean", "mean_square", "spread")
    )
    point_variance = np.maximum(square - mean**2, 0) + spread[:, None]
    bias = float(((np.asarray(problem.y_test) - mean) ** 2).sum(axis=1).mean())
    expected, q_bar = draws["expected_loss"], draws["q_bar"].mean(axis=(0, 1))
    ess = convergence.bulk_ess(expected)
    r_hat = float(np.max([convergence.r_hat(expected), convergence.r_hat(draws["potential"])]))
    one = mean.shape[1] == 1
    return PosteriorSample(
        temperature=float(problem.temperature),
        test_loss=float(expected.mean()),
        standard_error=convergence.mcse(expected),
        bias=bias,
        variance=float(point_variance.sum(axis=1).mean()),
        mean=mean[:, 0] if one else mean,
        point_variance=point_variance[:, 0] if one else point_variance,
        losses=draws["loss"],
        expected_losses=expected,
        potential=draws["potential"],
        q_bar=float(q_bar[0, 0]) if one else q_bar,
        r_hat=r_hat,
        ess=ess,
        gradients=int(state["gradients"].sum()),
        warnings=doubts(program, problem, state, draws, r_hat, ess),
    )


_PER_DRAW = ("expected_loss", "loss", "potential", "q_bar", "acceptance", "divergent", "gradients")
