"""The step that is timed against the yardstick computes the same: equal weights and draws, equal loss and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from yardstick import Network, Yardstick, take_weights

from latsem.backends.model import JointModel, TrainingBatch
from latsem.backends.space import Observation
from latsem.components import create
from latsem.components.processes.settings import FlowSettings
from latsem.components.registry import build
from latsem.components.streams import IMAGE, SEMANTIC, StreamSpec

CHANNELS = {IMAGE: 4, SEMANTIC: 8}
SIZES = {"depth": 3, "width": 48, "heads": 3}


def test_the_yardstick_has_the_published_number_of_parameters() -> None:
    """SiT-S/2: 33 M (arXiv 2401.08740, table 2), of which ReDi's second stream adds 26 thousand."""
    parameters = [p for p in Network({IMAGE: 4}).parameters() if p.requires_grad]
    assert 32.5e6 < sum(p.numel() for p in parameters) < 33.0e6


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_equal_losses_and_gradients(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    streams = {name: StreamSpec(name=name, channels=c, grid=8, patch=2, prediction="v") for name, c in CHANNELS.items()}
    denoiser = create("denoiser", "sit", **SIZES, streams=streams, num_classes=5)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter, std=0.2)
    model = JointModel(denoiser, None, build(FlowSettings(), streams=streams), streams)
    network = Network(CHANNELS, grid=8, classes=5, **SIZES)
    take_weights(network, denoiser.state_dict(), denoiser.positions)
    yardstick = Yardstick(network)
    clean, noise = ({name: torch.randn(6, c, 8, 8) for name, c in CHANNELS.items()} for _ in range(2))
    times, labels = torch.rand(6), torch.randint(0, 6, (6,))

    expected = yardstick.loss(clean, noise, times, labels)
    expected.backward()
    observation = Observation(image=clean[IMAGE], semantic=clean[SEMANTIC])
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        terms, _ = model(TrainingBatch(observation, labels, noise, dict.fromkeys(CHANNELS, times)))
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    norms = [
        torch.nn.utils.get_total_norm([p.grad for p in each.parameters() if p.grad is not None])
        for each in (denoiser, network)
    ]
    assert norms[0].item() == pytest.approx(norms[1].item(), rel=5 * tolerance)
    ours, theirs = denoiser.blocks[1].mlp.fc1.weight.grad, network.blocks[1].mlp.fc1.weight.grad
    assert torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 1 - 5 * tolerance
