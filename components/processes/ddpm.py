"""Denoising diffusion in discrete steps (DDPM, arXiv 2006.11239), as DiT trains it and ReDi's DDPM branch does.

`x_s = sqrt(abar_s) x + sqrt(1 - abar_s) eps`; the network is told the step and predicts eps. The loss is |eps error|^2;
with learned variance (arXiv 2102.09672) it also says where the log-variance of the denoising step lies between its two
bounds, and learns that from the variational bound, in bits per element, with the mean held fixed. DiT
(arXiv 2212.09748) adds the two terms without a factor.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..paths import DiffusionPath
from ..precision import full
from ..streams import Streams, StreamSpec, Times, variance_of
from .process import Process
from .settings import DDPMSettings
from .steps import StepTable
from .variational import VariationalBound


class DDPM(Process):
    """The `ddpm` process."""

    def __init__(self, settings: DDPMSettings, streams: Mapping[str, StreamSpec]) -> None:
        super().__init__(streams)
        betas = torch.linspace(settings.beta_start, settings.beta_end, settings.steps, dtype=torch.float64)
        self._path = DiffusionPath(tuple(streams), betas)
        kept = self._path.alphas_bar
        self._shares = StepTable({"clean": kept.sqrt(), "noise": (1 - kept).sqrt()})
        self.bound = VariationalBound(self._path)

    @property
    def path(self) -> DiffusionPath:
        """Steps of growing noise."""
        return self._path

    def conditions(self, times: Times) -> Times:
        """Return the steps, as numbers that sinusoids take."""
        return {name: self.path.step(time).to(time.dtype) for name, time in times.items()}

    def _draw(self, batch: int, generator: torch.Generator) -> Tensor:
        return self.path.time(torch.randint(len(self.path), (batch,), generator=generator, device=generator.device))

    def noise(self, clean: Streams, noise: Streams, times: Times) -> Streams:
        """Return noisy streams of scaled clean ones. Gradient flows to the clean streams."""
        noisy = {}
        for name, stream in clean.items():
            share = self._shares.at(self.path.step(times[name]), noise[name])
            noisy[name] = share["clean"] * full(stream) + share["noise"] * noise[name]
        return noisy

    def predictions(self, predicted: Streams, noisy: Streams, times: Times) -> Streams:
        """Return the noises, and the variances' places where they are learned."""
        del noisy, times
        return {key: part for name in predicted for key, part in self._parts(name, predicted[name]).items()}

    def losses(self, predicted: Streams, clean: Streams, noise: Streams, times: Times) -> Streams:
        """Return each stream's squared noise error and variational bound `(B,)`, means over elements, not weighted."""
        losses = {}
        noisy = self.noise(clean, noise, times) if any(spec.learned_variance for spec in self.streams.values()) else {}
        for name, output in predicted.items():
            parts = self._parts(name, output)
            losses[name] = (parts[name] - noise[name]).square().flatten(1).mean(1)
            if self.streams[name].learned_variance:
                # The bound is there for the variance alone: nothing else may learn from it.
                losses[variance_of(name)] = self.bound(
                    eps=parts[name].detach(),
                    place=parts[variance_of(name)],
                    clean=full(clean[name].detach()),
                    noisy=noisy[name].detach(),
                    step=self.path.step(times[name]),
                )
        return losses

    def _parts(self, name: str, output: Tensor) -> Streams:
        eps, *place = full(output).split(self.streams[name].channels, dim=1)
        return {name: eps, **{variance_of(name): part for part in place}}
