"""Loss, gradient, features and latents that are not finite: caught before the step, and computed again."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, QUICK_JOINT, checkpoint_tensors, same_tensors
from safetensors.torch import load_file

from latsem.backends import replay
from latsem.backends.checkpointing.store import checkpoints
from latsem.backends.errors import RunFailed, UserError
from latsem.backends.guard import FiniteGuard
from latsem.backends.hardware import make_fabric
from latsem.backends.loader import ImageFeed
from latsem.backends.log import read_log
from latsem.backends.model import JointModel
from latsem.backends.run_folder import RunFolder
from latsem.backends.settings import FabricSettings
from latsem.backends.space import Encoded
from latsem.backends.training import Trainer
from latsem.recipes import load
from latsem.recipes.replaying import replay_file

STEPS = [*QUICK_JOINT, "train.steps=6", "train.checkpoint_every=2", "train.log_every=3", "evaluate.samples=0"]
Break = Callable[[pytest.MonkeyPatch, int], None]


class _Poison(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * float("nan")


def at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[Trainer], None], before: str = "_backward") -> None:
    """Do something to a trainer before each micro-batch of a step."""
    original = getattr(Trainer, before)

    def acted(self: Trainer, *arguments: Any) -> Any:
        if self.step + 1 == step:
            act(self)
        return original(self, *arguments)

    patch.setattr(Trainer, before, acted)


def break_loss(patch: pytest.MonkeyPatch, step: int) -> None:
    def act(trainer: Trainer) -> None:
        with torch.no_grad():
            next(trainer.assembly.model.denoiser.parameters()).view(-1)[3] = float("inf")

    at_step(patch, step, act)


def break_gradient(patch: pytest.MonkeyPatch, step: int) -> None:
    """Only backward; the break stays for the replay."""
    original, now = JointModel.forward, {"broken": False}

    def forward(self: JointModel, batch: Any) -> Any:
        terms, log = original(self, batch)
        return ({name: _Poison.apply(term) for name, term in terms.items()} if now["broken"] else terms), log

    patch.setattr(JointModel, "forward", forward)
    at_step(patch, step, lambda _: now.update(broken=True))


def _break_encoded(part: str) -> Break:
    def break_(patch: pytest.MonkeyPatch, step: int) -> None:
        original, now = ImageFeed.encode, {"broken": False}

        def encode(self: ImageFeed, batch: Any) -> Encoded:
            encoded = original(self, batch)
            if now["broken"]:
                getattr(encoded, part)[-1, -1, -1, -1] = float("nan")
            return encoded

        patch.setattr(ImageFeed, "encode", encode)
        at_step(patch, step, lambda _: now.update(broken=True), before="_encode")

    return break_


BREAKS: dict[str, Break] = {
    "loss": break_loss,
    "gradient": break_gradient,
    "feature": _break_encoded("features"),
    "latent": _break_encoded("code"),
}


def failed(message: str) -> tuple[int, Path]:
    found = re.search(r"step (\d+): .* latsem replay (\S+) computes it again", message)
    assert found, message
    return int(found[1]), Path(found[2])


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("recipe", ["pixel_coredi", "latent_coredi"])
def test_a_step_that_is_not_finite_is_caught_before_it_and_replayed_bit_for_bit(
    name: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(recipe, [*STEPS, "train.checkpoint_every=1", "train.keep=9"]).run(root=tmp_path / "a", quiet=True)
    BREAKS[name](monkeypatch, 4)
    with pytest.raises(RunFailed, match="step-00000002 is kept") as failure:
        load(recipe, STEPS).run(root=tmp_path / "b", quiet=True)
    step, file = failed(str(failure.value))
    assert step == 4 and file.is_file()
    kept = {name.removeprefix("model/"): x for name, x in load_file(file).items() if name.startswith("model/")}
    before = checkpoint_tensors(whole.folder, "model", 3)
    if name == "loss":
        assert len([key for key in before if not torch.equal(before[key], kept[key])]) == 1, "the one that was broken"
    else:
        assert same_tensors(kept, before), "weights and running statistics are those before the step"
    found = replay_file(file)
    assert found.same, (found.values, found.recorded.values)
    assert found.recorded.step == 4 and len(found.recorded.images[0][0]) == 8
    assert any("nan" in value or "inf" in value for value in found.values.values())
    assert found.gradients[0] > 0
    if name == "gradient":
        assert not found.given and not found.module and "nan" not in found.values["loss"]
    else:
        expected = {"loss": "model/denoiser.", "feature": "batch/0/0/features", "latent": "batch/0/0/code"}[name]
        assert len(found.given) == 1 and found.given[0].startswith(expected)


@pytest.mark.parametrize("name", ["feature", "gradient"])
def test_a_device_that_is_not_waited_for_changes_nothing_either(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the host looks at log steps alone, and steps in between go on without a word."""
    whole = load("pixel_coredi", [*STEPS, "train.checkpoint_every=1", "train.keep=9"]).run(root=tmp_path, quiet=True)
    monkeypatch.setattr(Trainer, "_may_wait", lambda self, step: step == 6)
    BREAKS[name](monkeypatch, 3)
    computed: list[int] = []
    original = Trainer._update_weights

    def counted(self: Trainer) -> None:
        original(self)
        computed.append(self.step + 1)

    monkeypatch.setattr(Trainer, "_update_weights", counted)
    with pytest.raises(RunFailed) as failure:
        load("pixel_coredi", [*STEPS, "train.checkpoint_every=0"]).run(root=tmp_path, quiet=True)
    step, file = failed(str(failure.value))
    assert step == 3 and computed == [1, 2, 3, 4, 5]
    kept = {name.removeprefix("model/"): x for name, x in load_file(file).items() if name.startswith("model/")}
    assert same_tensors(kept, checkpoint_tensors(whole.folder, "model", 2))
    assert replay_file(file).same


def test_so_many_steps_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def broken_at(*steps: int) -> Iterator[None]:
        original = ImageFeed.encode
        seen = {"step": 0}

        def encode(self: ImageFeed, batch: Any) -> Encoded:
            encoded = original(self, batch)
            assert encoded.features is not None
            if seen["step"] in steps:
                encoded.features[0] = float("nan")
            return encoded

        with monkeypatch.context() as patch:
            patch.setattr(ImageFeed, "encode", encode)
            one_step = Trainer._one_step

            def counted(self: Trainer, batches: Any) -> dict[str, torch.Tensor]:
                seen["step"] = self.step + 1
                return one_step(self, batches)

            patch.setattr(Trainer, "_one_step", counted)
            yield

    changes = [*STEPS, "train.checkpoint_every=1", "train.keep=9", "train.skip_nonfinite=2"]
    with broken_at(2, 5):
        folder = load("pixel_coredi", changes).run(root=tmp_path / "two", quiet=True).folder
    for file in ("model", "optimizer"):
        assert same_tensors(checkpoint_tensors(folder, file, 1), checkpoint_tensors(folder, file, 2))
        assert not same_tensors(checkpoint_tensors(folder, file, 2), checkpoint_tensors(folder, file, 3))
    lines = read_log(folder / "metrics.jsonl").objects
    assert all(
        bool(value.isfinite().all())
        for value in checkpoint_tensors(folder, "ema", 6).values()
        if value.is_floating_point()
    )
    assert [line["step"] for line in lines] == [3, 6] and int(checkpoint_tensors(folder, "guard", 6)["skipped"]) == 2
    with broken_at(2, 3, 5), pytest.raises(RunFailed, match="step 5: ") as failure:
        load("pixel_coredi", changes).run(root=tmp_path / "three", quiet=True)
    assert replay_file(failed(str(failure.value))[1]).same
    kept = checkpoints(RunFolder(next((tmp_path / "three" / "pixel_coredi").iterdir())))
    assert kept[-1].name == "step-00000004"


def test_what_was_left_out_counts_after_going_on(tmp_path: Path) -> None:
    guard, other = (FiniteGuard(make_fabric(FabricSettings(accelerator="cpu")), [], 1) for _ in range(2))
    nan, fine = torch.tensor(float("nan")), torch.tensor(1.0)
    guard.begin()
    assert [float(guard.judge(step, fine, value)) for step, value in ((1, fine), (2, nan), (3, fine))] == [0, 1, 0]
    assert guard.failure() == 0
    other.restore(guard.tensors())
    assert float(other.judge(4, nan, fine)) == 1 and other.failure() == 4
    assert float(other.judge(5, fine, fine)) == 1 and other.failure() == 4, "nothing happens after a failure"


def test_a_full_disk_does_not_hide_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(values: Any, path: Path, notes: Any = None) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    break_loss(monkeypatch, 4)
    monkeypatch.setattr(replay, "save_tensors", full)
    with pytest.raises(
        RunFailed, match="step 4: .* not finite; step-00000002 is kept. it could not be .*No space left"
    ):
        load("pixel_coredi", STEPS).run(root=tmp_path, quiet=True)
    assert not list(tmp_path.glob("*/*/replay/*"))


def test_what_is_no_replay_file_is_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("no")
    weights = load("pixel_jit", [*QUICK, "evaluate.samples=0"]).run(root=tmp_path, quiet=True).folder
    others = (text, tmp_path / "missing", next(weights.glob("checkpoints/*/model.safetensors")))
    for path, said in zip(others, ("damaged", "is missing", "not a replay file"), strict=True):
        with pytest.raises(UserError, match=f"{path}: {said}"):
            replay_file(path)
