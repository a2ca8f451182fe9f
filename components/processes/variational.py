"""The variational bound of a denoising step, for a network that learns the step's variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..paths import DiffusionPath
from .process import column
from .steps import StepTable

HALF_LEVEL = 1 / 255
EDGE = 0.999


class VariationalBound:
    """`KL(q(x_{s-1} | x_s, x) || p(x_{s-1} | x_s))`, at the step before data the likelihood of x, in bits per element.

    The likelihood is that of 8-bit values in [-1, 1]: DiT takes it on latents, too, where values are no such thing, and
    so do we (improved DDPM, arXiv 2102.09672, equations 4 to 7 and 15).
    """

    def __init__(self, path: DiffusionPath) -> None:
        kept, beta = path.alphas_bar, path.betas
        before = torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])
        posterior = beta * (1 - before) / (1 - kept)
        # The posterior of the step before data has no spread; its logarithm is taken from the next step.
        rows = {
            "low": torch.cat([posterior[1:2], posterior[1:]]).log(),
            "high": beta.log(),
            "of_clean": beta * before.sqrt() / (1 - kept),
            "of_noisy": (1 - before) * (1 - beta).sqrt() / (1 - kept),
            "clean_of_noisy": kept.rsqrt(),
            "clean_of_eps": (1 / kept - 1).sqrt(),
        }
        self._table = StepTable(rows)

    def __call__(self, *, eps: Tensor, place: Tensor, clean: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        """Return the bound `(B,)` for predicted noise, the variance's place in [-1, 1], and steps `(B,)`."""
        row = self._table.at(step, noisy)
        fraction = (place + 1) / 2
        log_variance = fraction * row["high"] + (1 - fraction) * row["low"]
        predicted_clean = row["clean_of_noisy"] * noisy - row["clean_of_eps"] * eps
        mean = row["of_clean"] * predicted_clean + row["of_noisy"] * noisy
        true_mean = row["of_clean"] * clean + row["of_noisy"] * noisy
        divergence = gaussian_kl(true_mean, row["low"], mean, log_variance)
        surprise = -discretized_log_likelihood(clean, mean, log_variance / 2)
        nats = torch.where(column(step) == 0, surprise, divergence)
        return nats.flatten(1).mean(1) / math.log(2)


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """Return `KL(N(mean, exp log_variance) || N(other ...))` of each element, nats."""
    spread = (log_variance - other_log_variance).exp()
    shift = (mean - other_mean).square() * (-other_log_variance).exp()
    return (other_log_variance - log_variance + spread + shift - 1) / 2


def discretized_log_likelihood(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-probability that a Gaussian gives to the 8-bit level of values in [-1, 1], nats.

    The cumulative distribution is the tanh approximation of the published code.
    """
    above, below = (_normal_cdf((value - mean + shift) * (-log_std).exp()) for shift in (HALF_LEVEL, -HALF_LEVEL))
    inside = torch.where(value > EDGE, 1 - below, above - below)
    return torch.where(value < -EDGE, above, inside).clamp_min(1e-12).log()


def _normal_cdf(value: Tensor) -> Tensor:
    return (1 + torch.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3))) / 2
