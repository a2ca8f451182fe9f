"""What is learned does not depend on how the batch of a step is cut into devices and parts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import QUICK_JOINT, checkpoint_tensors

from latsem.backends.loader import BatchPlan
from latsem.backends.objective import StepDraws
from latsem.backends.randomness import derived_generator
from latsem.recipes import load

STEPS = (
    *QUICK_JOINT,
    "train.steps=3",
    "train.log_every=1",
    "train.semantic_dropout=0.3",
    "train.picture_images=0",
    "evaluate.samples=0",
    "fabric.accelerator=cpu",
    "fabric.precision=32-true",
)
Command = Callable[..., subprocess.CompletedProcess[str]]


def trained_alone(recipe: str, root: Path, *changes: str) -> Path:
    return load(recipe, [*STEPS, *changes]).run(root=root, quiet=True).folder


def logged(folder: Path) -> torch.Tensor:
    """Return losses and norms of all steps, a row each."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = [name for name in lines[0] if name.partition("/")[0] in ("loss", "gradient_norm")]
    assert len(lines) == 3 and len(names) >= 4
    return torch.tensor([[line[name] for name in names] for line in lines], dtype=torch.float64)


def weights(folder: Path) -> torch.Tensor:
    tensors = checkpoint_tensors(folder, "model") | {
        f"{name} average": x for name, x in checkpoint_tensors(folder, "ema").items()
    }
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def assert_alike(one: Path, other: Path) -> None:
    torch.testing.assert_close(logged(one), logged(other), rtol=1e-6, atol=0)
    assert float((weights(one) - weights(other)).norm()) < 1e-6 * float(weights(one).norm())


@pytest.mark.parametrize("recipe", ["pixel_redi", "latent_redi", "latent_redi_ddpm"])
def test_parts_of_a_batch_learn_what_the_whole_does(recipe: str, tmp_path: Path) -> None:
    """Posteriors, labels and semantics that are left out are drawn, too; the semantics are a fixed projection's."""
    whole = trained_alone(recipe, tmp_path)
    for size in (4, 2):
        assert_alike(whole, trained_alone(recipe, tmp_path, f"train.micro_batch={size}"))


@pytest.mark.parametrize("recipe", ["pixel_coredi", "latent_redi"])
def test_two_processes_learn_what_one_does(recipe: str, cli: Command, tmp_path: Path) -> None:
    """A coevolving projection's statistics are those of both: its norm's, and its regulariser's."""
    found = cli("run", recipe, *STEPS, "fabric.devices=2", "--root", "two")
    assert found.returncode == 0, found.stderr
    assert_alike(trained_alone(recipe, tmp_path), next((tmp_path / "two" / recipe).iterdir()))


def test_draws_belong_to_a_place_in_the_batch() -> None:
    def rows(devices: int, micro_batch: int) -> torch.Tensor:
        plan, found = BatchPlan(12, devices, micro_batch), []
        for rank in range(devices):
            draws = StepDraws(derived_generator("cpu", "x"), plan.batch_size, plan.share(rank))
            for places in plan.parts(rank):
                found += [draws.of(places, name, uniform)["u"] for name in ("first", "second")]
        return torch.stack(found).unflatten(0, (-1, 2)).movedim(0, 1).flatten(1)

    def uniform(size: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"u": torch.rand(size, generator=generator)}

    generator = derived_generator("cpu", "x")
    expected = torch.stack([torch.rand(12, generator=generator) for _ in range(2)])
    assert all(torch.equal(rows(*cut), expected) for cut in ((1, 12), (1, 3), (3, 4), (2, 2)))
