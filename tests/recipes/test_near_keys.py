"""What people type by habit leads to what it is called here."""

from __future__ import annotations

from pathlib import Path

import pytest

from latsem.backends.errors import UserError
from latsem.components.registry import KINDS, available
from latsem.components.synonyms import SYNONYMS
from latsem.recipes import load
from latsem.recipes.near_keys import _keys
from latsem.recipes.schema import RecipeSettings


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("learning_rate=1", "did you mean 'train.lr' or 'projection.lr'?"),
        ("train.learning_rate=1", "did you mean 'lr'?"),
        ("grad_accum=4", "did you mean 'train.micro_batch'? (the parts of a batch are accumulated"),
        ("train.gradient_accumulation_steps=4", "did you mean 'micro_batch'? (the parts of a batch are accumulated"),
        ("fid=1", "did you mean 'evaluate.metrics'?"),
        ("evaluate.metrics=[fid]", "unknown metric 'fid', did you mean 'frechet'?"),
        ("evaluate.metrics=[frechet, KID]", "unknown metric 'KID', did you mean 'kernel'?"),
        ("ema_decay=.9", "did you mean 'train.ema'?"),
        ("train.ema_decay=.9", "did you mean 'ema'?"),
        ("batch=3", "did you mean 'train.batch_size' or 'evaluate.batch_size'?"),
        ("train.batch=3", "did you mean 'batch_size'?"),
        ("epochs=3", "did you mean 'train.steps' or 'sampler.steps'? (steps = epochs x images / train.batch_size)"),
        ("train.epochs=3", "did you mean 'steps'? (steps = epochs x images"),
        ("lr_scheduler=cosine", "did you mean 'train.warmup'? (the rate is constant after the warm-up)"),
        ("steps=3", "did you mean 'train.steps' or 'sampler.steps'?"),
        ("seed=3", "did you mean 'train.seed'"),
        ("model=jit", "did you mean 'denoiser'?"),
        ("denoiser.hidden_size=3", "did you mean 'width'?"),
        ("hidden-size=3", "did you mean 'denoiser.width'?"),
        ("sampler.num_inference_steps=3", "did you mean 'steps'?"),
        ("cfg_scale=3", "did you mean 'guidance.scale'"),
        ("gpus=8", "did you mean 'fabric.devices'?"),
        ("num_workers=3", "did you mean 'train.workers'?"),
        ("projection=PCA", "did you mean 'pca'?"),
        ("data=ImageFolder", "did you mean 'folder'?"),
        ("encoder=none", "encoder=null for none"),
        ("wandb=true", "figures are in metrics.jsonl"),
        ("output_dir=x", "an option: --root"),
        ("train.stepz=3", "did you mean 'steps'?"),
        ("projektion.channels=3", "did you mean 'projection'?"),
    ],
)
def test_what_people_type_leads_to_its_key(typed: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load("pixel_coredi", [typed], data="unused")
    assert any(meant in line and line.startswith("command line: ") for line in caught.value.problems), caught.value
    key, _, value = typed.partition("=")
    path = tmp_path / "r.yaml"
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(key.split("."))]
    path.write_text("\n".join(["base: pixel_coredi", *lines]) + f" {value}\n")
    with pytest.raises(UserError) as caught:
        load(path, data="unused")
    places = tuple(f"{path}:{number}: " for number in range(2, 2 + len(lines)))
    assert any(meant in line and line.startswith(places) for line in caught.value.problems)


def test_every_word_leads_to_something_that_there_is() -> None:
    named = {name for kind in KINDS for name in available(kind)}
    values = [{"data": {"name": name}} for name in available("data")]
    keys = {key.rpartition(".")[2] for each in values for key in _keys(RecipeSettings, each, "")}
    keys |= {field for kind in KINDS for part in available(kind).values() for field in part.settings.model_fields}
    assert {ours for meant in SYNONYMS.values() for ours in meant} <= named | keys
    assert all(word == word.lower() and "-" not in word for word in SYNONYMS)
