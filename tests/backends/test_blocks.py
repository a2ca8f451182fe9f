"""How blocks run changes how fast and in how much memory, and no number beyond rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, QUICK_JOINT, checkpoint_tensors, counted_graphs, log_of, same_tensors
from torch import Tensor, nn

from latsem.backends.blocks import blocks_of, checkpoint_activations, settle
from latsem.backends.compiling import compile_blocks
from latsem.backends.errors import UserError
from latsem.backends.metering import count_flops
from latsem.components import create
from latsem.components.denoisers.attention import xformers
from latsem.components.denoisers.attention.products import Products
from latsem.components.denoisers.attention.settings import ProductsSettings
from latsem.components.streams import IMAGE, StreamSpec
from latsem.recipes import load
from latsem.recipes.checking import footprint

NETWORKS = ("jit", "dit")
WAYS = (1, 2, "selective")


def network(kind: str, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    streams = {IMAGE: StreamSpec(name=IMAGE, channels=4, grid=8, patch=2, prediction="v")}
    sizes: dict[str, Any] = {"depth": 3, "width": 32, "heads": 2, "patch": 2, **more}
    built: nn.Module = create("denoiser", kind, streams=streams, num_classes=5, **sizes)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.1)
    return built


def gradients(module: nn.Module, batch: int = 3) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    noisy = {IMAGE: torch.randn(batch, 4, 8, 8, generator=generator)}
    times, labels = {IMAGE: torch.linspace(0.1, 0.9, batch)}, torch.arange(batch) % 5
    module.zero_grad()
    output = module(noisy, times, labels)[IMAGE]
    output.square().sum().backward()
    return output.detach(), [p.grad.clone() for p in module.parameters() if p.grad is not None]


def outputs(module: nn.Module) -> Tensor:
    """Return the output alone."""
    output: Tensor = module({IMAGE: torch.zeros(3, 4, 8, 8)}, {IMAGE: torch.zeros(3)}, torch.arange(3))[IMAGE]
    return output


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("how", WAYS)
def test_activation_checkpointing_changes_no_bit(kind: str, how: Any) -> None:
    plain, less = network(kind), network(kind)
    checkpoint_activations(less, how)
    (output, expected), (again, found) = gradients(plain), gradients(less)
    assert torch.equal(output, again) and len(expected) == len(found)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_activation_checkpointing_takes_less_memory_the_more_is_computed_again() -> None:
    ways: list[Any] = ["none", "selective", 2, 1]
    base = ["denoiser.depth=6", "train.batch_size=64", "evaluate.samples=0", "train.picture_images=0"]
    held = [
        footprint(load("latent_sit", [*base, f"train.activation_checkpointing={way}"])).memory.activations
        for way in ways
    ]
    none, selective, every_second, every = held
    assert every < every_second < none and every < selective < none, dict(zip(ways, held, strict=True))
    assert every < 0.5 * none


def test_a_network_without_blocks_cannot_be_checkpointed() -> None:
    with pytest.raises(UserError, match="a Linear has no blocks"):
        checkpoint_activations(nn.Linear(2, 2), "selective")


@pytest.mark.parametrize("kind", NETWORKS)
def test_compiled_blocks_are_one_graph_and_give_the_same(kind: str) -> None:
    """Every further block, step and network of the kind takes what was compiled for the first block."""
    graphs, count = counted_graphs()
    plain, compiled = network(kind), network(kind)
    compile_blocks(compiled, dynamic=False, backend=count)
    expected = gradients(plain)
    for _ in range(2):
        output, found = gradients(compiled)
        assert torch.allclose(output, expected[0], atol=1e-5)
        assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(expected[1], found, strict=True))
    assert len(blocks_of(compiled)) == 3 and len(graphs) == 1


def test_counting_operations_first_does_not_keep_blocks_from_being_compiled() -> None:
    graphs, count = counted_graphs()
    compiled = network("dit")
    compile_blocks(compiled, dynamic=False, backend=count)
    assert count_flops(lambda: outputs(compiled)) == count_flops(lambda: outputs(network("dit"))) > 0
    assert not graphs
    gradients(compiled)
    assert len(graphs) == 1


def test_more_sizes_are_compiled_than_torch_allows_by_itself() -> None:
    graphs, count = counted_graphs()
    compiled = network("dit")
    compile_blocks(compiled, dynamic=False, backend=count)
    for batch in range(2, 14):
        gradients(compiled, batch)
    assert len(graphs) == 12


@pytest.mark.parametrize("how", WAYS)
def test_checkpointed_blocks_are_compiled_too(how: Any) -> None:
    graphs, count = counted_graphs()
    plain, compiled = network("dit"), network("dit")
    checkpoint_activations(compiled, how)
    compile_blocks(compiled, dynamic=False, backend=count)
    (output, expected), (again, found) = gradients(plain), gradients(compiled)
    assert torch.allclose(output, again, atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(expected, found, strict=True))
    # With every second block checkpointed there are two kinds of them.
    assert len(graphs) == (2 if how == 2 else 1)


@pytest.mark.parametrize("how", ["none", 1, "selective"])
def test_blocks_with_xformers_are_compiled_in_one_piece(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for its operator, which is looked up as the real one is."""
    monkeypatch.setattr(xformers, "operator_for", lambda _: Products(ProductsSettings()))
    graphs, count = counted_graphs()
    compiled = network("dit", attention="xformers")
    assert settle(compiled, torch.device("cpu"), "32-true") == "xformers (as the recipe says)"
    checkpoint_activations(compiled, how)
    compile_blocks(compiled, dynamic=False, backend=count)
    gradients(compiled)
    assert len(graphs) == 1


def test_a_kernel_that_has_nothing_for_a_network_is_the_recipes_mistake() -> None:
    with pytest.raises(UserError, match="denoiser.attention: xformers has no kernels for cpu; use sdpa, or auto"):
        settle(network("dit", attention="xformers"), torch.device("cpu"), "32-true")


def test_the_real_compiler_agrees_with_activation_checkpointing() -> None:
    torch._dynamo.reset()
    plain, compiled = network("dit"), network("dit")
    checkpoint_activations(compiled, "selective")
    compile_blocks(compiled, dynamic=False)
    (output, expected), (again, found) = gradients(plain), gradients(compiled)
    assert torch.allclose(output, again, atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(expected, found, strict=True))


def test_a_run_with_activation_checkpointing_trains_to_the_same_bits(tmp_path: Path) -> None:
    results = [
        load("pixel_coredi", [*QUICK_JOINT, "evaluate.samples=0", f"train.activation_checkpointing={how}"]).run(
            root=tmp_path, name=str(how)
        )
        for how in ("none", "selective")
    ]
    plain, less = (result.folder for result in results)
    assert log_of(plain) == log_of(less)
    assert same_tensors(checkpoint_tensors(plain, "ema"), checkpoint_tensors(less, "ema"))


def test_what_is_said_of_a_wrong_value() -> None:
    with pytest.raises(UserError, match="train.activation_checkpointing"):
        load("pixel_jit", [*QUICK, "train.activation_checkpointing=0"])
