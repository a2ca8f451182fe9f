from __future__ import annotations

import importlib
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from latsem.components.denoisers.attention import xformers
from latsem.components.denoisers.attention.kernel import AttentionKernel, AttentionShape
from latsem.components.denoisers.embeddings import Rotary, TimeEmbedding, sincos_positions
from latsem.components.denoisers.fusion.fusion import Fusion
from latsem.components.denoisers.jit import JiT, SelfAttention
from latsem.components.images import to_pixels, to_unit
from latsem.components.registry import available, create
from latsem.components.streams import StreamSpec

SPECS = {
    "image": StreamSpec("image", 3, 16, 4),
    "semantic": StreamSpec("semantic", 5, 8, 2),
}
SMALL = {"depth": 2, "width": 32, "heads": 2, "patch": 4}


def inputs(batch: int = 3) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    streams = {name: torch.randn(batch, *spec.shape, generator=generator) for name, spec in SPECS.items()}
    times = dict.fromkeys(SPECS, torch.rand(batch, generator=generator))
    return streams, times, torch.arange(batch)


def awake(denoiser: torch.nn.Module) -> torch.nn.Module:
    """Give the layers that start at zero something to say."""
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return denoiser


@pytest.mark.parametrize("name", available("denoiser"))
@pytest.mark.parametrize("streams", [("image",), ("image", "semantic")], ids=["image", "joint"])
def test_denoiser_contract(name: str, streams: tuple[str, ...]) -> None:
    specs = {key: SPECS[key] for key in streams}
    torch.manual_seed(0)
    denoiser = create("denoiser", name, streams=specs, num_classes=3, **SMALL)
    noisy, times, labels = inputs()
    noisy = {key: noisy[key] for key in streams}
    times = {key: times[key] for key in streams}
    out = denoiser(noisy, times, labels)
    assert {key: x.shape for key, x in out.items()} == {key: x.shape for key, x in noisy.items()}
    assert all(float(x.detach().abs().max()) == 0 for x in out.values()), "adaLN-Zero starts silent"
    awake(denoiser)
    one_by_one = [
        denoiser(
            {k: x[i : i + 1] for k, x in noisy.items()}, {k: t[i : i + 1] for k, t in times.items()}, labels[i : i + 1]
        )
        for i in range(3)
    ]
    whole = denoiser(noisy, times, labels)
    for key in streams:
        assert torch.allclose(whole[key], torch.cat([x[key] for x in one_by_one]), atol=1e-5)
    null = denoiser(noisy, times, torch.full((3,), 3))
    assert not torch.allclose(null["image"], whole["image"])
    later = denoiser(noisy, {k: t * 0.5 for k, t in times.items()}, labels)
    assert not torch.allclose(later["image"], whole["image"])


@pytest.mark.parametrize("name", available("denoiser"))
@pytest.mark.parametrize("streams", [("image",), ("image", "semantic")], ids=["image", "joint"])
def test_weights_start_as_published(name: str, streams: tuple[str, ...]) -> None:
    """`initialize_weights` of DiT's, SiT's and JiT's released code: the same rules in all three."""
    specs = {key: SPECS[key] for key in streams}
    torch.manual_seed(0)
    wide = {"size": "B", "depth": 2, "width": 192, "heads": 4, "patch": 4}
    denoiser = create("denoiser", name, streams=specs, num_classes=1000, **wide)
    modules = dict(denoiser.named_modules())
    parameters = dict(denoiser.named_parameters())
    silent = [key for key in parameters if "modulation" in key or key.startswith("heads.linear")]
    normal = [key for key in parameters if key in ("labels.weight", "class_positions") or key.startswith("clock.")]
    assert len(silent) == 2 * (2 + 1) + 2 * len(specs) and len(normal) == (6 if name == "jit" else 5)
    for key, parameter in parameters.items():
        values, owner = parameter.detach(), modules[key.rpartition(".")[0]]
        if key in silent or key.endswith("bias"):
            assert not bool(values.any()), f"{key} does not start at zero"
        elif key in normal:
            assert float(values.std()) == pytest.approx(0.02, rel=0.03), key
        elif isinstance(owner, torch.nn.Linear):
            bound = math.sqrt(6 / sum(values.shape))
            assert 0.98 * bound < float(values.abs().max()) <= bound, f"{key} is not Xavier's uniform"
        else:
            assert bool((values == 1).all()), f"{key} is no gain of a norm"


@pytest.mark.parametrize("name", available("denoiser"))
def test_streams_see_each_other_and_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    denoiser = awake(create("denoiser", name, streams=SPECS, num_classes=3, **SMALL))
    noisy, times, labels = inputs()
    noisy["semantic"].requires_grad_()
    out = denoiser(noisy, times, labels)
    out["image"].square().sum().backward(retain_graph=True)
    assert bool((noisy["semantic"].grad != 0).any())
    out["semantic"].square().sum().backward()
    silent = [key for key, p in denoiser.named_parameters() if p.numel() and (p.grad is None or not bool(p.grad.any()))]
    assert silent == []


def test_a_stream_with_its_own_clock_has_its_own_time_embedding() -> None:
    specs = {**SPECS, "semantic": replace(SPECS["semantic"], own_time=True)}
    denoiser = awake(create("denoiser", "jit", streams=specs, num_classes=0, **SMALL))
    noisy, times, _ = inputs()
    labels = torch.zeros(3, dtype=torch.long)
    before = denoiser(noisy, times, labels)["image"]
    after = denoiser(noisy, {**times, "semantic": times["semantic"] * 0.3}, labels)["image"]
    assert not torch.allclose(before, after)


@pytest.mark.parametrize(("size", "millions"), [("B", 131), ("L", 459)])
def test_published_sizes(size: str, millions: int) -> None:
    """JiT (arXiv 2511.13720), table of sizes, ImageNet 256x256 at patch 16."""
    with torch.device("meta"):
        denoiser = create(
            "denoiser", "jit", size=size, patch=16, streams={"image": StreamSpec("image", 3, 256, 16)}, num_classes=1000
        )
    count = sum(p.numel() for p in denoiser.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.01)


def test_class_tokens_join_in_the_middle_and_leave() -> None:
    with torch.device("meta"):
        big = create("denoiser", "jit", size="B", patch=4, width=48, heads=2, streams=SPECS, num_classes=3)
    assert big.class_positions.shape == (32, 48)
    assert isinstance(big, JiT) and big.class_tokens_from == 4
    denoiser = create("denoiser", "jit", size="B", depth=5, patch=4, width=48, heads=2, streams=SPECS, num_classes=3)
    noisy, times, labels = inputs()
    assert awake(denoiser)(noisy, times, labels)["image"].shape == noisy["image"].shape


def test_rotary_attention_depends_on_relative_positions_alone() -> None:
    rotary = Rotary((4,), 8)
    query, key = torch.randn(8), torch.randn(8)
    turned_query, turned_key = (rotary(x.expand(1, 16, 1, 1, 8))[0, :, 0, 0] for x in (query, key))
    scores = (turned_query @ turned_key.T).reshape(4, 4, 4, 4)
    assert torch.allclose(scores[0, 0, 1, 2], scores[2, 1, 3, 3], atol=1e-5)
    assert not torch.allclose(scores[0, 0, 1, 2], scores[0, 0, 2, 1], atol=1e-3)
    assert torch.allclose(turned_query.norm(dim=1), query.norm().expand(16), atol=1e-5)


def test_positions_and_times_are_the_published_sinusoids() -> None:
    table = sincos_positions((4,), 16)
    assert table.shape == (16, 16)
    # Token (row 2, column 1): columns first, sines before cosines.
    assert float(table[2 * 4 + 1, 0]) == pytest.approx(math.sin(1), abs=1e-6)
    assert float(table[2 * 4 + 1, 8]) == pytest.approx(math.sin(2), abs=1e-6)
    embedding = TimeEmbedding(8)
    seen: list[Tensor] = []
    embedding.mlp[0].register_forward_hook(lambda _, args, __: seen.append(args[0]))
    embedding(torch.tensor([0.5]))
    assert float(seen[0][0, 0]) == pytest.approx(math.cos(0.5)) and float(seen[0][0, 128]) == pytest.approx(
        math.sin(0.5)
    )


CPU_KERNELS = [name for name in available("attention") if name != "xformers"]


def reference_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = torch.einsum("bnhd,bmhd->bhnm", query, key) / math.sqrt(query.shape[-1])
    return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), value)


@pytest.mark.parametrize("name", CPU_KERNELS)
def test_attention_kernels_equal_the_formula(name: str) -> None:
    kernel: AttentionKernel = create("attention", name)
    assert isinstance(kernel, AttentionKernel)
    q, k, v = (torch.randn(2, 7, 3, 8) for _ in range(3))
    assert torch.allclose(kernel(q, k, v), reference_attention(q, k, v), atol=1e-5)
    assert kernel.describe("cpu").startswith(("sdpa (", "products ("))


@pytest.mark.parametrize("name", CPU_KERNELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_attention_kernels_have_the_gradient_of_the_formula(name: str, dtype: torch.dtype, tolerance: float) -> None:
    kernel: AttentionKernel = create("attention", name)
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(2, 7, 3, 8, generator=generator).to(dtype).float().requires_grad_() for _ in range(3)]
    rounded = [x.detach().to(dtype).requires_grad_() for x in exact]
    expected = torch.autograd.grad(reference_attention(*exact).square().sum(), exact)
    found = torch.autograd.grad(kernel(*rounded).float().square().sum(), rounded)
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other.float(), atol=tolerance * float(one.abs().max()))


def test_xformers_says_what_it_needs_and_auto_says_why_not() -> None:
    kernel, shape = create("attention", "xformers"), AttentionShape(torch.device("cpu"), torch.bfloat16, 16, 2, 8)
    for use in (lambda: kernel(*(torch.randn(1, 2, 1, 8) for _ in range(3))), lambda: kernel.settle(shape)):
        with pytest.raises(ValueError, match="no kernels for cpu"):
            use()
    with pytest.raises(ValueError, match="no kernels for cpu"):
        kernel.describe("cpu")


def test_xformers_without_a_kernel_for_the_tensors_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside a torch that it was not built for: what it has for a CPU is nothing, too."""
    operator = importlib.import_module("xformers.ops").memory_efficient_attention
    monkeypatch.setattr(xformers, "operator_for", lambda _: operator)
    kernel = create("attention", "xformers")
    with pytest.raises(ValueError, match="no kernel for bfloat16 and heads of 8 here"):
        kernel.settle(AttentionShape(torch.device("cpu"), torch.bfloat16, 16, 2, 8))


def settled_on_cuda(name: str, dtype: torch.dtype) -> AttentionKernel:
    kernel: AttentionKernel = create("attention", name)
    try:
        kernel.settle(AttentionShape(torch.device("cuda"), dtype, 50, 6, 64))
    except ValueError as error:
        # xformers is built for one version of CUDA; the other kernels have nothing to refuse.
        assert name == "xformers"
        pytest.skip(str(error))
    return kernel


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["xformers", "products", "auto"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kernels_are_equal_on_cuda(name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    tensors = [torch.randn(4, 50, 6, 64, device="cuda", generator=generator).to(dtype) for _ in range(3)]
    results, gradients = [], []
    for kernel in (create("attention", "sdpa"), settled_on_cuda(name, dtype)):
        q, k, v = (x.clone().requires_grad_() for x in tensors)
        out = kernel(q, k, v)
        out.float().square().sum().backward()
        results.append(out.float())
        gradients.append(q.grad.float())
    exact = reference_attention(*(x.float() for x in tensors))
    for result in results:
        assert torch.allclose(result, exact, atol=2e-2)
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("name", available("fusion"))
def test_fusion_contract(name: str) -> None:
    fusion: Fusion = create("fusion", name, streams=SPECS)
    assert isinstance(fusion, Fusion)
    embedded = {key: torch.randn(2, spec.tokens, 6) for key, spec in SPECS.items()}
    tokens = fusion.join(embedded)
    assert tokens.shape == (2, sum(grid**2 for grid in fusion.grids), 6)
    parts = fusion.split(tokens)
    assert {key: x.shape for key, x in parts.items()} == {key: x.shape for key, x in embedded.items()}


def test_merged_tokens_are_sums() -> None:
    embedded = {key: torch.randn(2, spec.tokens, 6) for key, spec in SPECS.items()}
    fusion = create("fusion", "merged", streams=SPECS)
    assert torch.allclose(fusion.join(embedded), embedded["image"] + embedded["semantic"])


def test_separate_tokens_lie_one_after_another_at_the_same_places() -> None:
    specs = {"image": StreamSpec("image", 3, 16, 4), "semantic": StreamSpec("semantic", 5, 2, 1)}
    fusion = create("fusion", "separate", streams=specs)
    assert fusion.grids == (4, 2)
    image, semantic = torch.randn(2, 16, 6), torch.randn(2, 4, 6)
    tokens = fusion.join({"image": image, "semantic": semantic})
    assert torch.equal(tokens, torch.cat([image, semantic], 1))
    parts = fusion.split(tokens)
    assert torch.equal(parts["image"], image) and torch.equal(parts["semantic"], semantic)
    # A coarse token has the position of the middle of the four that it covers.
    table = sincos_positions((4, 2), 16)
    one_axis = torch.arange(4) * 10_000**-0.25
    assert float(table[16, 1]) == pytest.approx(math.sin(0.5 * 10_000**-0.25)) and not torch.equal(table[16], table[0])
    assert torch.allclose(table[:4, 1], one_axis.sin())


def test_a_coarser_stream_meets_the_image_where_it_lies() -> None:
    """Each of 2x2 semantic tokens is added to its quarter of 4x4 image tokens, and reads its quarter's mean."""
    specs = {"image": StreamSpec("image", 3, 16, 4), "semantic": StreamSpec("semantic", 5, 2, 1)}
    fusion = create("fusion", "merged", streams=specs)
    quarters = torch.tensor([[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2).flatten()
    semantic = torch.arange(4.0)[None, :, None].expand(2, 4, 6)
    joined = fusion.join({"image": torch.zeros(2, 16, 6), "semantic": semantic})
    assert torch.equal(joined, quarters.float()[None, :, None].expand(2, 16, 6))
    noise = torch.randn(2, 16, 6)
    parts = fusion.split(joined + noise)
    means = torch.stack([noise[:, quarters == i].mean(1) for i in range(4)], 1)
    assert torch.allclose(parts["semantic"], semantic + means, atol=1e-6) and parts["image"].shape == (2, 16, 6)


def test_half_precision_attention_keeps_its_norms_in_full() -> None:
    attention = SelfAttention(16, 2, create("attention", "sdpa"))
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(torch.randn(1, 4, 16), Rotary((2,), 8))
    assert out.dtype == torch.bfloat16 and bool(out.isfinite().all())


def test_trained_networks_know_the_scenes_and_the_control_does_not() -> None:
    """Nearest neighbours in feature space share their object: well above chance for trained networks."""
    source = create("data", "shapes", size=1000, seed=9)
    items = [source.item(index, 0) for index in range(1000)]
    pixels = torch.stack([image for image, _ in items])
    images = to_unit(pixels)
    labels = torch.tensor([label for _, label in items])

    def agreement(features: Tensor) -> float:
        standard = (features - features.mean(0)) / features.std(0).clamp_min(1e-6)
        distance = torch.cdist(standard, standard)
        distance.fill_diagonal_(math.inf)
        return float((labels[distance.argmin(1)] == labels).float().mean())

    scores = {name: agreement(create("encoder", name)(images).class_token) for name in available("encoder")}
    scores["shapes_scorer"] = agreement(create("extractor", "shapes_scorer")(pixels).features)
    assert scores["shapes_scorer"] > 0.6 and scores["shapes_vit"] > 0.5, scores
    assert scores["random_vit"] < min(scores["shapes_vit"], scores["shapes_scorer"]), scores


def test_the_scoring_network_is_blind_to_grain() -> None:
    """Noise of six grey levels moves features by little of what tells scenes apart."""
    source = create("data", "shapes", size=300, seed=9)
    images = torch.stack([source.item(index, 0)[0] for index in range(300)])
    extractor = create("extractor", "shapes_scorer")
    features = extractor(images).features
    grain = 6 / 127.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    moved = (extractor(to_pixels(to_unit(images) + grain)).features - features).square().sum(1).mean()
    assert moved < 0.05 * features.var(0).sum()
