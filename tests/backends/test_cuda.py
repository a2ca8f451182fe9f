"""What only a CUDA device does: everything here is skipped, and says so, where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK_JOINT, checkpoint_tensors, log_of
from stopped_runs import stop_after
from torch import nn

from latsem.backends.ahead import EncodingAhead
from latsem.backends.cuda_graphs import GraphedPredictor
from latsem.backends.training import Trainer
from latsem.recipes import load
from latsem.recipes.assemble import assemble
from latsem.recipes.benching import Bench, bench

pytestmark = pytest.mark.cuda

QUICK_CUDA = (*QUICK_JOINT, "fabric.accelerator=cuda", "fabric.devices=1", "evaluate.samples=0")


def losses(folder: Path) -> list[float]:
    return [float(dict(line)["loss"]) for line in log_of(folder)]


def test_compiled_training_agrees_with_eager_training(tmp_path: Path) -> None:
    runs = [
        load("pixel_coredi", [*QUICK_CUDA, f"fabric.compile={compiled}", "fabric.precision=32-true"]).run(
            root=tmp_path, name=compiled
        )
        for compiled in ("false", "true")
    ]
    assert losses(runs[0].folder) == pytest.approx(losses(runs[1].folder), rel=1e-3)


@pytest.mark.parametrize("how", ["none", "selective", 1])
def test_training_in_bfloat16_is_near_float32(how: Any, tmp_path: Path) -> None:
    common = [*QUICK_CUDA, f"train.activation_checkpointing={how}"]
    runs = [
        load("latent_coredi", [*common, f"fabric.precision={precision}"]).run(root=tmp_path, name=precision)
        for precision in ("32-true", "bf16-mixed")
    ]
    assert losses(runs[0].folder) == pytest.approx(losses(runs[1].folder), rel=3e-2)
    weights = checkpoint_tensors(runs[1].folder, "model")
    assert all(value.dtype == torch.float32 for name, value in weights.items() if value.is_floating_point())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_graphs_predict_what_the_model_does_with_its_weights_of_the_moment(precision: str) -> None:
    device = torch.device("cuda")
    model = assemble(load("pixel_coredi", [*QUICK_JOINT])).model.to(device).eval()
    for parameter in model.denoiser.parameters():  # type: ignore[attr-defined]
        nn.init.normal_(parameter, std=0.1)
    graphed = GraphedPredictor(model)
    for count, time in ((4, 0.3), (8, 0.6), (4, 0.9)):
        noisy = {name: torch.randn(count, *spec.shape, device=device) for name, spec in model.streams.items()}
        labels = torch.randint(0, 5, (count,), device=device)
        instants = dict.fromkeys(noisy, time)
        # Entered anew: it keeps the weights that it has rounded.
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16-mixed"):
            expected, found = model.predict(noisy, instants, labels), graphed(noisy, instants, labels)
        for name, values in expected.items():
            assert torch.allclose(found[name], values, atol=1e-4)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9)


def test_a_run_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load("pixel_coredi", [*QUICK_CUDA, "fabric.precision=32-true", "fabric.compile=false"])
    whole = recipe.run(root=tmp_path, name="whole")
    stop_after(monkeypatch, 2, lambda: recipe.run(root=tmp_path, name="parts"))
    assert losses(recipe.run(root=tmp_path, name="parts").folder) == pytest.approx(losses(whole.folder), rel=1e-5)


def test_sampling_with_graphs_draws_the_same_images(tmp_path: Path) -> None:
    run = load("latent_coredi", [*QUICK_CUDA, "fabric.precision=32-true"]).run(root=tmp_path, name="plain")
    again = load("latent_coredi", [*QUICK_CUDA, "fabric.precision=32-true", "fabric.cuda_graphs=true"])
    graphed = again.run(root=tmp_path, name="graphs")
    assert torch.allclose(run.sample(6, seed=1), graphed.sample(6, seed=1), atol=1e-2)


def test_images_encoded_ahead_train_what_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding on a stream of its own loses no order: the losses are those of a run that never overlaps."""
    recipe = load("latent_coredi", [*QUICK_CUDA, "fabric.precision=32-true"])
    runs = [recipe.run(root=tmp_path, name="ahead")]
    monkeypatch.setattr(Trainer, "_encoding", lambda _: EncodingAhead(torch.device("cpu")))
    runs.append(recipe.run(root=tmp_path, name="when-asked"))
    assert losses(runs[0].folder) == pytest.approx(losses(runs[1].folder), rel=1e-4)


@pytest.mark.parametrize("what", ["train", "sample", "encode", "attention"])
def test_benchmarks_know_the_devices_memory_and_ceiling(what: Any) -> None:
    changes = ["fabric.accelerator=cuda", "train.batch_size=8", "denoiser.depth=1"]
    report = bench("latent_coredi", changes, Bench(what, rounds=2, warmup=2))
    assert report.ceiling > 1e12 and all(0 < each.memory_peak < 2**36 for each in report.measured)
    assert json.dumps(report.values())
