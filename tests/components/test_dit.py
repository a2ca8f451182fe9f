"""DiT, SiT and their losses against a plain re-implementation, in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from latsem.components.denoisers.dit import gelu
from latsem.components.registry import create
from latsem.components.streams import StreamSpec, variance_of

DEPTH, WIDTH, HEADS, CLASSES = 3, 48, 4, 5
EXACT = {"atol": 1e-10, "rtol": 1e-10}

REDI = {"image": StreamSpec("image", 4, 8, 2), "semantic": StreamSpec("semantic", 3, 8, 2)}


def learned(streams: dict[str, StreamSpec]) -> dict[str, StreamSpec]:
    return {name: replace(spec, prediction="eps", learned_variance=True) for name, spec in streams.items()}


def network(streams: dict[str, StreamSpec], fusion: str = "merged") -> torch.nn.Module:
    made = create(
        "denoiser", "dit", streams=streams, num_classes=CLASSES, depth=DEPTH, width=WIDTH, heads=HEADS, fusion=fusion
    ).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def draw(streams: dict[str, StreamSpec], batch: int = 3, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, *spec.shape, generator=generator, dtype=torch.float64)
        for name, spec in streams.items()
    }


class Plain:
    """The published network, written out: one function a formula, weights by name."""

    def __init__(self, weights: dict[str, Tensor], streams: dict[str, StreamSpec], fusion: str) -> None:
        self.w, self.streams, self.fusion = weights, streams, fusion

    def linear(self, name: str, x: Tensor) -> Tensor:
        return torch.einsum("oi,...i->...o", self.w[f"{name}.weight"], x) + self.w[f"{name}.bias"]

    def positions(self, grid: int) -> Tensor:
        omega = 10000.0 ** (-np.arange(WIDTH // 4) / (WIDTH / 4))
        rows = []
        for y in range(grid):
            for x in range(grid):
                rows.append(
                    np.concatenate([np.sin(x * omega), np.cos(x * omega), np.sin(y * omega), np.cos(y * omega)])
                )
        return torch.tensor(np.stack(rows), dtype=torch.float32).double()

    def tokens(self, name: str, stream: Tensor) -> Tensor:
        p, g = self.streams[name].patch, self.streams[name].token_grid
        cells = [stream[:, :, y * p : y * p + p, x * p : x * p + p].flatten(1) for y in range(g) for x in range(g)]
        return self.linear(f"embeddings.{name}.layers", torch.stack(cells, 1))

    def condition(self, time: Tensor, labels: Tensor) -> Tensor:
        angle = time[:, None] * 10000.0 ** (-torch.arange(128, dtype=torch.float64) / 128)
        hidden = self.linear("clock.embeddings.image.mlp.0", torch.cat([angle.cos(), angle.sin()], 1))
        embedded = self.linear("clock.embeddings.image.mlp.2", hidden * torch.sigmoid(hidden))
        return embedded + self.w["labels.weight"][labels]

    @staticmethod
    def normed(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def block(self, i: int, x: Tensor, c: Tensor) -> Tensor:
        name = f"blocks.{i}"
        six = self.linear(f"{name}.modulation.1", c * torch.sigmoid(c))[:, None].chunk(6, -1)
        q, k, v = self.linear(f"{name}.attention.qkv", self.normed(x) * (1 + six[1]) + six[0]).chunk(3, -1)
        heads = []
        for h in range(HEADS):
            part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
            scores = q[..., part] @ k[..., part].mT / math.sqrt(WIDTH // HEADS)
            heads.append(scores.softmax(-1) @ v[..., part])
        x = x + six[2] * self.linear(f"{name}.attention.proj", torch.cat(heads, -1))
        h = self.linear(f"{name}.mlp.fc1", self.normed(x) * (1 + six[4]) + six[3])
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        return x + six[5] * self.linear(f"{name}.mlp.fc2", h)

    def __call__(self, streams: dict[str, Tensor], time: Tensor, labels: Tensor) -> dict[str, Tensor]:
        c = self.condition(time, labels)
        embedded = {
            name: self.tokens(name, x) + self.positions(self.streams[name].token_grid) for name, x in streams.items()
        }
        if self.fusion == "merged":
            x = sum(embedded.values()) - (len(embedded) - 1) * self.positions(self.streams["image"].token_grid)
        else:
            x = torch.cat(list(embedded.values()), 1)
        for i in range(DEPTH):
            x = self.block(i, x, c)
        shift, scale = self.linear("heads.modulation.1", c * torch.sigmoid(c))[:, None].chunk(2, -1)
        x = self.normed(x) * (1 + scale) + shift
        out, start = {}, 0
        for name, spec in self.streams.items():
            own = x if self.fusion == "merged" else x[:, start : start + spec.tokens]
            start += spec.tokens
            values = self.linear(f"heads.linear.{name}", own)
            p, g = spec.patch, spec.token_grid
            picture = torch.zeros(len(x), spec.outputs, spec.grid, spec.grid, dtype=torch.float64)
            for n in range(g * g):
                y, z = n // g * p, n % g * p
                picture[:, :, y : y + p, z : z + p] = values[:, n].reshape(-1, spec.outputs, p, p)
            out[name] = picture
        return out


CASES = {
    "sit": ({"image": REDI["image"]}, "merged"),
    "redi merged": (REDI, "merged"),
    "redi separate": (REDI, "separate"),
    "dit with variance": (learned({"image": REDI["image"]}), "merged"),
    "redi ddpm": (learned(REDI), "merged"),
    "redi ddpm separate": (learned(REDI), "separate"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("time", [[0.0, 0.3, 0.99], [0.0, 500.0, 999.0]], ids=["t", "step"])
def test_forward_equals_the_plain_network(case: str, time: list[float]) -> None:
    streams, fusion = CASES[case]
    made = network(streams, fusion)
    noisy, labels = draw(streams), torch.tensor([0, 3, CLASSES])
    times = torch.tensor(time, dtype=torch.float64)
    out = made(noisy, dict.fromkeys(streams, times), labels)
    plain = Plain(dict(made.state_dict()), streams, fusion)(noisy, times, labels)
    for name in streams:
        assert out[name].shape[1] == streams[name].outputs
        torch.testing.assert_close(out[name], plain[name], **EXACT)


def test_the_flow_loss_of_redi_equals_its_formula() -> None:
    """L = |v_x - (x - eps_x)|^2 + lam |v_z - (z - eps_z)|^2 with one shared t (ReDi, arXiv 2504.16064)."""
    process, made = create("process", "flow", streams=REDI), network(REDI)
    clean, noise, t = draw(REDI), draw(REDI, seed=1), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    times, labels = dict.fromkeys(REDI, t), torch.tensor([1, 2, 3])
    noisy = process.noise(clean, noise, times)
    errors = process.losses(made(noisy, process.conditions(times), labels), clean, noise, times)
    column = t[:, None, None, None]
    mixed = {name: column * clean[name] + (1 - column) * noise[name] for name in REDI}
    plain = Plain(dict(made.state_dict()), REDI, "merged")(mixed, t, labels)
    for name in REDI:
        expected = (plain[name] - (clean[name] - noise[name])).square().mean((1, 2, 3))
        torch.testing.assert_close(errors[name], expected, **EXACT)


def normal_cdf(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def plain_bound(x: np.ndarray, noisy: np.ndarray, eps: np.ndarray, place: np.ndarray, s: int) -> float:
    """The variational term of one image at one step, number by number (arXiv 2102.09672)."""
    betas = np.linspace(1e-4, 0.02, 1000)
    bar = np.cumprod(1 - betas)
    before = np.append(1.0, bar[:-1])
    posterior = betas * (1 - before) / (1 - bar)
    low, high = np.log(posterior[max(s, 1)]), np.log(betas[s])
    log_variance = (place + 1) / 2 * high + (1 - (place + 1) / 2) * low
    of_clean = betas[s] * np.sqrt(before[s]) / (1 - bar[s])
    of_noisy = (1 - before[s]) * np.sqrt(1 - betas[s]) / (1 - bar[s])
    guess = (noisy - np.sqrt(1 - bar[s]) * eps) / np.sqrt(bar[s])
    true_mean, mean = of_clean * x + of_noisy * noisy, of_clean * guess + of_noisy * noisy
    if s == 0:
        std = np.exp(log_variance / 2)
        above, below = normal_cdf((x - mean + 1 / 255) / std), normal_cdf((x - mean - 1 / 255) / std)
        chance = np.where(x < -0.999, above, np.where(x > 0.999, 1 - below, above - below))
        return float(-np.log(np.maximum(chance, 1e-12)).mean() / np.log(2))
    kl = 0.5 * (log_variance - low + np.exp(low - log_variance) + (true_mean - mean) ** 2 * np.exp(-log_variance) - 1)
    return float(kl.mean() / np.log(2))


def test_the_ddpm_loss_of_redi_equals_its_formula() -> None:
    """Squared noise errors and variational terms of both streams, at the first, a middle and the last step."""
    streams = learned(REDI)
    process, made = create("process", "ddpm", streams=streams), network(streams)
    clean, noise = draw(streams), draw(streams, seed=1)
    steps, labels = [0, 400, 999], torch.tensor([1, 2, 3])
    times = dict.fromkeys(streams, process.path.time(torch.tensor(steps)).double())
    noisy = process.noise(clean, noise, times)
    errors = process.losses(made(noisy, process.conditions(times), labels), clean, noise, times)
    bar = torch.tensor(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))[steps][:, None, None, None]
    mixed = {name: bar.sqrt() * clean[name] + (1 - bar).sqrt() * noise[name] for name in streams}
    plain = Plain(dict(made.state_dict()), streams, "merged")(mixed, torch.tensor(steps).double(), labels)
    assert set(errors) == {"image", "image/variance", "semantic", "semantic/variance"}
    for name, spec in streams.items():
        eps, place = plain[name].split(spec.channels, 1)
        torch.testing.assert_close(errors[name], (eps - noise[name]).square().mean((1, 2, 3)), **EXACT)
        for i, s in enumerate(steps):
            arrays = [x[i].detach().numpy() for x in (clean[name], mixed[name], eps, place)]
            assert float(errors[variance_of(name)][i].detach()) == pytest.approx(
                plain_bound(*arrays, s), rel=1e-9, abs=1e-10
            )


def test_the_bound_teaches_the_variance_alone() -> None:
    streams = learned({"image": REDI["image"]})
    process = create("process", "ddpm", streams=streams)
    clean, noise = draw(streams), draw(streams, seed=1)
    times = {"image": process.path.time(torch.tensor([5, 50, 500])).double()}
    output = torch.randn(3, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    clean["image"].requires_grad_()
    process.losses({"image": output}, clean, noise, times)["image/variance"].sum().backward()
    assert clean["image"].grad is None
    assert not bool(output.grad[:, :4].any()) and bool(output.grad[:, 4:].all())


@pytest.mark.parametrize(("size", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
@pytest.mark.parametrize("name", ["sit", "dit"])
def test_published_sizes(name: str, size: str, millions: int) -> None:
    """SiT and DiT (arXiv 2401.08740, 2212.09748), ImageNet 256x256, patch 2."""
    with torch.device("meta"):
        made = create("denoiser", name, size=size, streams={"image": StreamSpec("image", 4, 32, 2)}, num_classes=1000)
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_steps_and_times_of_a_diffusion_are_each_other() -> None:
    process = create("process", "ddpm", streams=learned(REDI))
    steps = torch.arange(1000)
    times = process.path.time(steps)
    assert torch.equal(process.path.step(times), steps) and torch.equal(process.path.step(times.double()), steps)
    assert float(times[-1]) == 0 and float(times[0]) == pytest.approx(0.999)
    assert torch.equal(process.conditions({"image": times})["image"], steps.float())
    drawn = process.path.step(process.sample_times(50_000, torch.Generator().manual_seed(0))["image"])
    assert int(drawn.min()) == 0 and int(drawn.max()) == 999 and abs(float(drawn.double().mean()) - 499.5) < 6


def multiply_adds(streams: dict[str, StreamSpec], fusion: str) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        made = create("denoiser", "sit", size="B", streams=streams, num_classes=1000, fusion=fusion)
        noisy = {name: torch.empty(1, *spec.shape) for name, spec in streams.items()}
        times, labels = dict.fromkeys(streams, torch.empty(1)), torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            made(noisy, times, labels)
    return counter.get_total_flops() // 2


def test_merged_tokens_cost_next_to_nothing_and_separate_ones_twice_as_much() -> None:
    """ReDi, arXiv 2504.16064: B/2 at 32x32 latents, 8 components; B/2 alone has 23.0 G multiply-adds an image."""
    image = {"image": StreamSpec("image", 4, 32, 2)}
    joint = {**image, "semantic": StreamSpec("semantic", 8, 32, 2)}
    alone = multiply_adds(image, "merged")
    assert alone / 1e9 == pytest.approx(23.0, rel=0.02)
    assert multiply_adds(joint, "merged") / alone < 1.03
    assert 1.9 < multiply_adds(joint, "separate") / alone < 2.2


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
def test_what_a_compiler_is_given_for_the_activation_is_the_same_function(dtype: torch.dtype, close: float) -> None:
    """Values and slopes, far out as well, against float64."""
    torch._dynamo.reset()
    points = torch.cat([torch.linspace(-8, 8, 1601), torch.tensor([-1e4, -60.0, 60.0, 1e4])]).to(dtype)
    one, other = (values.detach().clone().requires_grad_() for values in (points.double(), points))
    expected = torch.nn.functional.gelu(one, approximate="tanh")
    found = torch.compile(gelu, backend="eager", fullgraph=True)(other)
    expected.sum().backward()
    found.sum().backward()
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, rtol=close, atol=close)
    assert torch.allclose(other.grad.double(), one.grad, rtol=close, atol=close)
    assert not torch.equal(found, torch.nn.functional.gelu(points, approximate="tanh")), "written as a sigmoid"
