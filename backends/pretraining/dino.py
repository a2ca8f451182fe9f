"""Self-distillation without labels (DINO, arXiv 2104.14294; masked patches as in iBOT, arXiv 2111.07832)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...components.encoders.vit import SIDE, WIDTH
from .scenes import batches
from .schedule import warmup_cosine

PROTOTYPES = 128
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
TEACHER_MOMENTUM = 0.99
SINKHORN_ITERATIONS = 3


class _Head(nn.Module):
    """Three-layer projection to cosine similarities with the prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 64))
        self.prototypes = nn.utils.parametrizations.weight_norm(nn.Linear(64, PROTOTYPES, bias=False))
        self.prototypes.parametrizations.weight.original0.data.fill_(1)
        self.prototypes.parametrizations.weight.original0.requires_grad = False

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.prototypes(F.normalize(self.mlp(tokens), dim=-1))
        return logits


class _Branch(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, _Head()
        self.mask_token = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return prototype logits `(B, 1 + patches, PROTOTYPES)`; masked patches `(B, patches)` are not seen."""
        network = self.network
        patches = network.patch_embed(images)  # type: ignore[operator]
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token, patches)
        tokens = network._pos_embed(patches)  # type: ignore[operator]
        tokens = network.norm(network.blocks(tokens))  # type: ignore[operator]
        logits: Tensor = self.head(tokens)
        return logits


def random_views(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop (50-100 % of the area), mirror and re-light each image on its own."""
    count = len(images)
    uniform = torch.rand(6, count, generator=generator)
    side = (0.5 + 0.5 * uniform[0]).sqrt()
    mirror = torch.where(uniform[1] < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = side * mirror, side
    theta[:, 0, 2], theta[:, 1, 2] = (2 * uniform[2] - 1) * (1 - side), (2 * uniform[3] - 1) * (1 - side)
    grid = F.affine_grid(theta, [count, 3, SIDE, SIDE], align_corners=False)
    views = F.grid_sample(images, grid, align_corners=False, padding_mode="reflection")
    contrast, brightness = 0.8 + 0.4 * uniform[4], 0.4 * (uniform[5] - 0.5)
    return (views * contrast[:, None, None, None] + brightness[:, None, None, None]).clamp(-1, 1)


def _cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    return -(target * (student / STUDENT_TEMPERATURE).log_softmax(-1)).sum(-1)


def balanced_assignment(logits: Tensor) -> Tensor:
    """Return probabilities `(N, PROTOTYPES)` near the softmax of the logits that use every prototype equally.

    Sinkhorn-Knopp (SwAV, arXiv 2006.09882): no collapse to one answer, even in small batches.
    """
    weights = ((logits - logits.max()) / TEACHER_TEMPERATURE).double().exp().T
    for _ in range(SINKHORN_ITERATIONS):
        weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-30)
        weights = weights / weights.sum(0, keepdim=True).clamp_min(1e-30)
    return weights.T.float()


class _Teacher:
    """The moving average of the student."""

    def __init__(self, student: _Branch) -> None:
        self.branch = deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def targets(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class-token targets `(B, PROTOTYPES)` and patch targets `(B, patches, PROTOTYPES)`."""
        logits = self.branch(images)
        patches = balanced_assignment(logits[:, 1:].flatten(0, 1)).unflatten(0, logits[:, 1:].shape[:2])
        return balanced_assignment(logits[:, 0]), patches

    @torch.no_grad()
    def follow(self, student: _Branch) -> None:
        for own, new in zip(self.branch.parameters(), student.parameters(), strict=True):
            own.lerp_(new, 1 - TEACHER_MOMENTUM)


def train_dino(network: nn.Module, *, seed: int, steps: int, batch_size: int, log: Callable[[str], None]) -> nn.Module:
    """Train from scenes alone and return the teacher's network."""
    student = _Branch(network)
    teacher = _Teacher(student)
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.04)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(steps))
    for step, batch in zip(range(1, steps + 1), batches(seed, batch_size), strict=False):
        views = torch.cat([random_views(batch.images, generator) for _ in range(2)])
        class_target, patch_target = teacher.targets(views)
        mask = torch.rand(patch_target.shape[:2], generator=generator) < 0.3
        logits = student(views, mask)
        other_view = class_target.roll(batch_size, 0)
        class_loss = _cross_entropy(logits[:, 0], other_view).mean()
        patch_loss = _cross_entropy(logits[:, 1:][mask], patch_target[mask]).mean()
        optimizer.zero_grad()
        (class_loss + patch_loss).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        teacher.follow(student)
        if step % 100 == 0 or step == steps:
            confidence = float(class_target.max(1).values.mean())
            log(f"step {step}/{steps}  class {class_loss:.3f}  patch {patch_loss:.3f}  confidence {confidence:.2f}")
    return teacher.branch.network
