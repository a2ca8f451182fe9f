"""Training on the attributes of scenes: the encoder `shapes_vit` and the scoring network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ...components.encoders.vit import PATCH, WIDTH
from .scenes import AttributeHead, Batch, OutlineHead, PlaceHead, batches
from .schedule import warmup_cosine

OUTLINE_WEIGHT = 4.0
LARGEST_NOISE = 0.2

Objective = Callable[[Batch], tuple[Tensor, dict[str, float]]]


def train_encoder(network: nn.Module, *, seed: int, steps: int, batch_size: int, log: Callable[[str], None]) -> None:
    """Train a vision transformer in place: its class token tells the whole scene, each patch what covers it where.

    The outlines make patch tokens tell shapes: hue and object alone are what a label and a noisy image show already.
    """
    whole, place, outline = AttributeHead(WIDTH), PlaceHead(WIDTH), OutlineHead(WIDTH, PATCH)

    def objective(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        tokens = network.forward_features(batch.images)  # type: ignore[operator]
        loss, scores = whole(tokens[:, 0], batch)
        place_loss, outline_loss = place(tokens[:, 1:], batch), outline(tokens[:, 1:], batch)
        scores |= {"place": float(place_loss.detach()), "outline": float(outline_loss.detach())}
        return loss + place_loss + OUTLINE_WEIGHT * outline_loss, scores

    parameters = [p for part in (network, whole, place, outline) for p in part.parameters()]
    _train(objective, parameters, batches(seed, batch_size), lr=2e-3, steps=steps, log=log)


def train_scorer(
    network: nn.Module, width: int, *, seed: int, steps: int, batch_size: int, log: Callable[[str], None]
) -> None:
    """Train a network of `width` outputs in place: a linear map of them tells the whole scene.

    It sees noisy scenes: one trained on clean renderings alone answers to grain that no eye sees, and a distance
    between its features is then about grain before it is about objects.
    """
    head = AttributeHead(width)
    generator = torch.Generator().manual_seed(seed)

    def objective(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss, scores = head(network(_noisy(batch.images, generator)), batch)
        return loss, scores

    _train(
        objective, [*network.parameters(), *head.parameters()], batches(seed, batch_size), lr=2e-3, steps=steps, log=log
    )


def _noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to images in [-1, 1], for each image of its own std between 0 and `LARGEST_NOISE`."""
    std = LARGEST_NOISE * torch.rand(len(images), 1, 1, 1, generator=generator)
    return (images + std * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def _train(
    objective: Objective,
    parameters: list[nn.Parameter],
    data: Iterator[Batch],
    *,
    lr: float,
    steps: int,
    log: Callable[[str], None],
) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(steps))
    for step, batch in zip(range(1, steps + 1), data, strict=False):
        loss, scores = objective(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            log(f"step {step}/{steps}  " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
