"""Fully connected Bayesian networks at finite alpha = P/N: their generalisation error, from theory and sampled.

Pacelli, Ariosto, Pastore, Ginelli, Gherardi, Rotondo, arXiv:2209.04882, Nature Machine Intelligence 2023. Losses here
are that paper's, the mean of (y - f)^2; `Posterior.mu_L` is in the normalisation of the rest of this package.
"""

from ntkhpc.bayesian.adaptive import AdaptivePosterior, adaptive_kernel
from ntkhpc.bayesian.distribution import LossDistribution, loss_distribution, posterior_covariance
from ntkhpc.bayesian.layers import DeepPosterior, deep
from ntkhpc.bayesian.mixing import MixturePosterior
from ntkhpc.bayesian.one_layer import OneLayerPosterior, OneLayerProblem, mixture, multi_output, one_hidden_layer
from ntkhpc.bayesian.outputs import MultiOutputPosterior
from ntkhpc.bayesian.posterior import Posterior
from ntkhpc.bayesian.sampling import PosteriorSample, sample_posterior

__all__ = [
    "AdaptivePosterior", "DeepPosterior", "LossDistribution", "MixturePosterior", "MultiOutputPosterior",
    "OneLayerPosterior", "OneLayerProblem", "Posterior", "PosteriorSample", "adaptive_kernel", "deep",
    "loss_distribution", "mixture", "multi_output", "one_hidden_layer", "posterior_covariance", "sample_posterior",
]  # fmt: skip
