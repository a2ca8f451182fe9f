"""What training is measured against: SiT with ReDi's second stream, written plainly, the way published trainers are.

Float32, eager, every block computed again in the backward pass, the optimizer and the moving average in loops over
parameters, and the loss read back in every step. As a program it times itself against latsem, in turn:

    python tests/yardstick.py [--rounds 10] [--batch 8] [--size S] [--device cpu]
"""

from __future__ import annotations

import argparse
import copy
import math
import multiprocessing
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, width)
        projected: Tensor = self.proj(mixed)
        return projected


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.fc2(self.act(self.fc1(x)))
        return mixed


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention, self.mlp = Attention(width, heads), MLP(width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(c).chunk(6, dim=1)
        x = x + gate_a.unsqueeze(1) * self.attention(modulate(self.norm_attention(x), shift_a, scale_a))
        return x + gate_m.unsqueeze(1) * self.mlp(modulate(self.norm_mlp(x), shift_m, scale_m))


class Network(nn.Module):
    """Two streams of one grid, merged; the sizes are SiT-S/2's unless others are given."""

    def __init__(
        self,
        channels: Mapping[str, int],
        *,
        grid: int = 32,
        patch: int = 2,
        depth: int = 12,
        width: int = 384,
        heads: int = 6,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.patch, self.side = patch, grid // patch
        self.embeddings = nn.ModuleDict(
            {name: nn.Conv2d(count, width, kernel_size=patch, stride=patch) for name, count in channels.items()}
        )
        self.times = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Embedding(classes + 1, width)
        self.positions = nn.Parameter(torch.zeros(1, self.side**2, width), requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.heads = nn.ModuleDict({name: nn.Linear(width, patch**2 * count) for name, count in channels.items()})

    def forward(self, noisy: Mapping[str, Tensor], t: Tensor, y: Tensor) -> dict[str, Tensor]:
        c = self.times(self.sinusoids(t)) + self.labels(y)
        embedded = [self.embeddings[name](stream).flatten(2).transpose(1, 2) for name, stream in noisy.items()]
        x = sum(embedded[1:], embedded[0]) + self.positions
        for block in self.blocks:
            x = checkpoint(block, x, c, use_reentrant=False)
        shift, scale = self.modulation(c).chunk(2, dim=1)
        x = modulate(self.norm(x), shift, scale)
        return {name: self.unpatchify(head(x)) for name, head in self.heads.items()}

    def sinusoids(self, t: Tensor) -> Tensor:
        rates = torch.exp(-math.log(10_000) * torch.arange(128, dtype=torch.float32, device=t.device) / 128)
        angles = t[:, None] * rates[None]
        return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)

    def unpatchify(self, x: Tensor) -> Tensor:
        p, side = self.patch, self.side
        x = x.reshape(len(x), side, side, -1, p, p)
        return torch.einsum("nhwcpq->nchpwq", x).reshape(len(x), -1, side * p, side * p)


class Yardstick:
    """A network and its training step."""

    def __init__(self, network: Network, lr: float = 1e-4) -> None:
        self.network = network
        self.ema = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0)

    def loss(self, clean: Mapping[str, Tensor], noise: Mapping[str, Tensor], t: Tensor, y: Tensor) -> Tensor:
        at = t[:, None, None, None]
        noisy = {name: at * x + (1 - at) * noise[name] for name, x in clean.items()}
        predicted = self.network(noisy, t, y)
        errors = [F.mse_loss(predicted[name], x - noise[name]) for name, x in clean.items()]
        return torch.stack(errors).sum()

    def step(self, clean: Mapping[str, Tensor], y: Tensor) -> float:
        noise = {name: torch.randn_like(x) for name, x in clean.items()}
        loss = self.loss(clean, noise, torch.rand(len(y), device=y.device), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.mul_(0.9999).add_(parameter, alpha=1 - 0.9999)
        return loss.item()


def take_weights(network: Network, state: Mapping[str, Tensor], positions: Tensor) -> None:
    """Give the yardstick the weights of a latsem `sit` denoiser."""
    renamed = {
        "clock.embeddings.image.mlp.": "times.",
        "heads.modulation.": "modulation.",
        "heads.linear.": "heads.",
    }
    weights = {"positions": positions[None]}
    for name, value in state.items():
        own = name.replace(".layers.", ".")
        for theirs, ours in renamed.items():
            own = own.replace(theirs, ours) if own.startswith(theirs) else own
        weights[own] = value.view_as(network.get_parameter(own))
    network.load_state_dict(weights)


def allow_tf32(device: torch.device) -> None:
    """On a GPU let float32 products be TF32, as published trainers do; both sides here."""
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")


def serve(connection: Connection, batch: int, size: str, device: torch.device) -> None:
    """Take a step whenever asked to, in a process of its own: nothing that latsem sets there helps it here."""
    from latsem.components.denoisers.settings import DIT_SIZES

    allow_tf32(device)
    chosen, channels = DIT_SIZES[size], {"image": 4, "semantic": 8}
    network = Network(channels, depth=chosen.depth, width=chosen.width, heads=chosen.heads)
    yardstick = Yardstick(network.to(device))
    clean = {name: torch.randn(batch, count, 32, 32, device=device) for name, count in channels.items()}
    labels = torch.randint(0, 1000, (batch,), device=device)
    while connection.recv():
        connection.send(yardstick.step(clean, labels))


def main() -> None:
    from latsem.backends.benching.ceiling import Ceiling
    from latsem.backends.benching.rounds import Timer, ratio, spread
    from latsem.recipes.benching import Bench, load_subjects

    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", default="S")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    device, how = torch.device(given.device), Bench("train", given.rounds, 2)
    allow_tf32(device)
    here, there = multiprocessing.get_context("spawn").Pipe()
    arguments = (there, given.batch, given.size, device)
    multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True).start()

    def yardstick() -> None:
        here.send(True)
        here.recv()

    changes = [f"denoiser.size={given.size}", f"train.batch_size={given.batch}", "cache.use=required"]
    changes.append(f"fabric.accelerator={given.device}")
    for precision in ("32-true", "bf16-mixed"):
        [subject] = load_subjects("imagenet256/latent_redi_b", [*changes, f"fabric.precision={precision}"], how)
        product = Ceiling(device, precision)
        calls = {"latsem": subject.call, "yardstick": yardstick, "product": product.call()}
        seconds = Timer(device).in_turn(calls, rounds=given.rounds, warmup=2)
        median = {name: spread(each).median for name, each in seconds.items()}
        found, ceiling = ratio(seconds["latsem"], seconds["yardstick"]), product.flops / median["product"]
        sys.stdout.write(
            f"{precision}: {found.median:.3f}x the yardstick's time (quartiles {found.low:.3f} and {found.high:.3f}), "
            f"{100 * subject.flops / median['latsem'] / ceiling:.0f} % of the ceiling of {ceiling / 1e9:,.0f} GFLOP/s; "
            f"{median['latsem']:.3f} s and {median['yardstick']:.3f} s, {torch.get_num_threads()} threads\n"
        )
    here.send(False)


if __name__ == "__main__":
    main()
