from __future__ import annotations

import copy
import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUICK, QUICK_JOINT, write_shards
from PIL import Image
from safetensors.torch import load_file
from stopped_runs import stop_after
from torch.utils._python_dispatch import TorchDispatchMode

from latsem.backends.checkpointing.store import checkpoints
from latsem.backends.checkpointing.weights import load_newest
from latsem.backends.errors import UserError
from latsem.backends.evaluation.records import scores_of
from latsem.backends.loader import BatchPlan, ImageFeed, MicroBatches
from latsem.backends.log import read_log
from latsem.backends.meter import Meter
from latsem.backends.order import epoch_order
from latsem.backends.pictures import evolution_picture, grid_picture, save_picture, semantic_colours, semantic_picture
from latsem.backends.pixel import PixelSpace
from latsem.backends.randomness import derived_generator, derived_seed
from latsem.backends.reading import training_batches
from latsem.backends.run_folder import RunFolder, differences
from latsem.backends.session import Session
from latsem.backends.training import Trainer
from latsem.backends.updates import make_ema
from latsem.components.registry import create
from latsem.recipes import load
from latsem.recipes.assemble import assemble, open_run, open_session
from latsem.recipes.benching import Bench, load_subjects


def weights(folder: Path, which: str = "ema") -> dict[str, torch.Tensor]:
    return load_file(checkpoints(RunFolder(folder))[-1] / f"{which}.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_batches_are_cut_without_loss() -> None:
    plan = BatchPlan(24, devices=2, micro_batch=4)
    assert plan.accumulation == 3 and str(plan) == "24 = 2 x 4 x 3"
    with pytest.raises(ValueError, match="batch_size 24 is not a multiple of 2"):
        BatchPlan(24, devices=2, micro_batch=5)


def test_every_image_is_seen_once_an_epoch_by_all_processes_together() -> None:
    plan = BatchPlan(8, devices=2, micro_batch=2)
    seen = [[key for batch in MicroBatches(12, plan, 0, rank, range(3)) for key in batch] for rank in range(2)]
    by_step = [seen[0][step * 4 : step * 4 + 4] + seen[1][step * 4 : step * 4 + 4] for step in range(3)]
    stream = [key for step in by_step for key in step]
    assert sorted(index for index, _ in stream[:12]) == list(range(12))
    assert sorted(index for index, _ in stream[12:]) == sorted({index for index, _ in stream[12:]})
    assert len({seed for _, seed in stream}) == 24
    one = [key for batch in MicroBatches(12, BatchPlan(8, 1, 8), 0, 0, range(3)) for key in batch]
    assert one == stream


BLOCKS = [7, 1, 0, 12, 5, 9, 6]


def test_blocks_stay_together_and_every_image_is_seen_once_an_epoch() -> None:
    starts = [sum(BLOCKS[:number]) for number in range(len(BLOCKS))]
    block_of = {start + image: number for number, start in enumerate(starts) for image in range(BLOCKS[number])}
    orders = [epoch_order(40, derived_generator("cpu", epoch), BLOCKS, window=2) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(40))
        changes = [(block_of[index], number) for number, index in enumerate(order)]
        spans = [[n for block, n in changes if block == number] for number in range(len(BLOCKS))]
        pairs = [number for number, span in enumerate(spans) if span and max(span) - min(span) >= len(span)]
        assert pairs, "images of different blocks are mixed"
        assert all(max(span) - min(span) < BLOCKS[number] + 12 for number, span in enumerate(spans) if span)
    assert len({tuple(order) for order in orders}) == 3
    assert orders[1] == epoch_order(40, derived_generator("cpu", 1), BLOCKS, window=2)
    plain = torch.randperm(40, generator=derived_generator("cpu", 0)).tolist()
    assert epoch_order(40, derived_generator("cpu", 0)) == plain
    with pytest.raises(ValueError, match="blocks of 40 images for 41"):
        epoch_order(41, derived_generator("cpu", 0), BLOCKS)


def test_batches_of_blocks_go_on_in_the_middle_of_an_epoch() -> None:
    plan = BatchPlan(8, devices=1, micro_batch=4)
    whole = list(MicroBatches(40, plan, 3, 0, range(12), blocks=BLOCKS))
    assert list(MicroBatches(40, plan, 3, 0, range(3, 12), blocks=BLOCKS)) == whole[6:]
    epochs = [[index for batch in whole[first : first + 10] for index, _ in batch] for first in (0, 10)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs) and epochs[0] != epochs[1]


def test_data_can_start_at_any_step_and_be_read_by_workers() -> None:
    plan = BatchPlan(8, 1, 4)
    source = ImageFeed(create("data", "shapes", size=30), PixelSpace(create("tokenizer", "pixel"), None, 32))
    whole = list(training_batches(source, plan, seed=1, rank=0, steps=range(6), workers=0, pin=False))
    rest = list(training_batches(source, plan, seed=1, rank=0, steps=range(3, 6), workers=2, pin=False))
    assert len(whole) == 12
    for batch, same in zip(whole[6:], rest, strict=True):
        assert all(torch.equal(batch[name], same[name]) for name in ("images", "label"))


def test_seeds_depend_on_everything_they_are_made_of() -> None:
    made = {derived_seed(*what) for what in [("a", 1, 2), ("a", 12), ("b", 1, 2), ("a", 2, 1)]}
    assert len(made) == 4 and all(0 <= seed < 2**63 for seed in made)
    one, same = (torch.rand(3, generator=derived_generator("cpu", "x", 1)) for _ in range(2))
    assert torch.equal(one, same)


@pytest.mark.parametrize(("decay", "expected"), [(0.9, [0, 1 / 11, 2 / 12, 3 / 13]), (0.1, [0, 1 / 11, 0.1, 0.1])])
def test_the_moving_average_starts_short_and_grows_to_its_length(decay: float, expected: list[float]) -> None:
    """average = d average + (1 - d) weights with d = min(decay, (step - 1) / (step + 9))."""
    model = torch.nn.Linear(1, 1, bias=False)
    ema = make_ema(model, decay)  # type: ignore[arg-type]
    average = model.weight.item()
    for step, factor in enumerate(expected, start=1):
        torch.nn.init.constant_(model.weight, step)
        ema.update(model, step=step)  # type: ignore[operator]
        average = factor * average + (1 - factor) * step
        assert ema.module.weight.item() == pytest.approx(average)  # type: ignore[union-attr, operator]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    one, same = (load("pixel_coredi", QUICK_JOINT).run(root=tmp_path / str(i), quiet=True).folder for i in range(2))
    other = load("pixel_coredi", [*QUICK_JOINT, "train.seed=5"]).run(root=tmp_path, quiet=True).folder
    for which in ("model", "ema", "optimizer"):
        assert equal(weights(one, which), weights(same, which))
    assert not equal(weights(one), weights(other))
    (scored,), (again,) = (scores_of(RunFolder(folder)) for folder in (one, same))
    assert scored == again


def test_runs_in_two_threads_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    def run(root: str, seed: int) -> Path:
        recipe = load("pixel_coredi", [*QUICK_JOINT, "train.steps=12", f"train.seed={seed}"])
        return recipe.run(root=tmp_path / root, quiet=True).folder

    alone = [run("alone", seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(run, ("beside", "beside"), (1, 2)))
    for one, other in zip(alone, beside, strict=True):
        for which in ("model", "ema", "optimizer"):
            assert equal(weights(one, which), weights(other, which))
        assert [record["scores"] for record in scores_of(RunFolder(one))] == [
            record["scores"] for record in scores_of(RunFolder(other))
        ]


@pytest.mark.parametrize(("data", "stop_at"), [("shapes", 1), ("shapes", 3), ("webdataset", 3)])
def test_stopping_and_going_on_equals_not_stopping(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, data: str, stop_at: int
) -> None:
    values = [*QUICK_JOINT, "train.steps=6", "train.micro_batch=4", "projection.learns_from=image"]
    if data == "webdataset":
        shards = f"data.shards={write_shards(photos)}/photos-{{000..003}}.tar"
        values = [*values[1:], "data=webdataset", shards, f"data.cache={tmp_path}", "data.expect_classes=2"]
    recipe = load("pixel_coredi", values)
    undisturbed = recipe.run(root=tmp_path / "a", quiet=True).folder
    said = stop_after(monkeypatch, stop_at, lambda: recipe.run(root=tmp_path / "b", quiet=True))
    assert f"stopped after step {stop_at}; the same command goes on" in said
    resumed = recipe.run(root=tmp_path / "b", quiet=True).folder
    for which in ("model", "ema", "optimizer"):
        assert equal(weights(undisturbed, which), weights(resumed, which))
    logs = [read_log(folder / "metrics.jsonl").objects for folder in (undisturbed, resumed)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    assert logs[0][-1]["score/frechet"] == logs[1][-1]["score/frechet"]


def test_accumulation_changes_only_the_batch_norm(tmp_path: Path) -> None:
    """With a fixed projection and one draw of noise a step, two halves are the whole, but for rounding."""
    quick = [*QUICK_JOINT, "projection=pca", "train.steps=1", "train.clip=0", "projection.fit_images=64"]
    sessions = [
        open_session(load("pixel_coredi", [*quick, f"train.micro_batch={micro}"]), root=tmp_path, quiet=True)
        for micro in (8, 4)
    ]
    keys = []
    for session in sessions:
        plan = session.plan
        keys.append([key for batch in MicroBatches(200, plan, 0, 0, range(1)) for key in batch])
    assert keys[0] == keys[1] and [s.plan.accumulation for s in sessions] == [1, 2]


def test_a_finished_run_is_reported_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load("pixel_jit", QUICK_JOINT[:-1])
    first = recipe.run(root=tmp_path, quiet=True)
    again = recipe.run(root=tmp_path)
    assert again.folder == first.folder and again.scores == first.scores
    assert "done already" in capsys.readouterr().out
    assert torch.equal(first.sample(4, seed=3), again.sample(4, seed=3))
    named = recipe.run(root=tmp_path, name="other", quiet=True)
    assert named.folder.name == "other"
    changed = load("pixel_jit", [*QUICK_JOINT[:-1], "train.seed=5"])
    with pytest.raises(UserError, match=r"belongs to a run of another recipe \(train.seed: 0 -> 5\)"):
        changed.run(root=tmp_path, name="other", quiet=True)


def test_an_image_depends_on_its_seed_and_not_on_what_is_drawn_beside_it(tmp_path: Path) -> None:
    result = load("pixel_coredi", QUICK_JOINT).run(root=tmp_path, quiet=True)
    many = result.sample(7, seed=4)
    alone = result.generator.images([5], seed=4)
    assert torch.equal(many[5], alone[0])
    assert not torch.allclose(many, result.sample(7, seed=5))


def test_a_run_can_be_opened_with_another_sampler_and_guidance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = load("pixel_coredi", QUICK_JOINT).run(root=tmp_path, quiet=True).folder
    plain = open_run(folder).draw_samples(5, 0)
    guided = open_run(folder, ["guidance.scale=3", "sampler=euler"]).draw_samples(5, 0)
    assert plain != guided and plain.is_file() and guided.is_file()
    # The run's steps are those of its own sampler.
    assert "'euler' instead of 'heun': steps is 50, its default (2 was set" in capsys.readouterr().err
    with pytest.raises(UserError, match="5 classes"):
        open_run(folder).draw_samples(5, 0, 9)
    with pytest.raises(UserError, match="not a run folder"):
        open_run(tmp_path)


def test_an_opened_run_makes_no_images_before_its_weights_are_loaded(tmp_path: Path) -> None:
    result = load("pixel_jit", QUICK_JOINT[:-1]).run(root=tmp_path, quiet=True)
    opened = open_run(result.folder)
    generator = opened.parts.generator(opened.device, opened.precision)
    with pytest.raises(UserError, match="not loaded yet.* call load_newest"):
        generator.images(range(2), 0)
    opened.load_newest()
    assert torch.equal(generator.images(range(2), 0), result.sample(2))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = load("pixel_jit", QUICK_JOINT[:-1]).run(root=tmp_path, quiet=True).folder
    with pytest.raises(UserError, match=r"belong to another model \(misses .denoiser.blocks.1"):
        load_newest(RunFolder(folder), assemble(load("pixel_jit", [*QUICK_JOINT[:-1], "denoiser.depth=2"])).model)
    with pytest.raises(UserError, match="denoiser.depth: 1 -> 2: changes what was trained"):
        open_run(folder, ["denoiser.depth=2"])


def test_dropping_semantics_that_are_not_there_has_no_effect(tmp_path: Path) -> None:
    plain, dropping = (
        load("pixel_jit", [*QUICK, f"train.semantic_dropout={share}"]).run(root=tmp_path, quiet=True).folder
        for share in (0.0, 0.5)
    )
    assert equal(weights(plain), weights(dropping))


def test_differences_name_keys() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a.c: 2 -> 3", "d: null -> 4"]


def test_pictures_show_what_they_are_given(tmp_path: Path) -> None:
    images = torch.full((5, 3, 8, 8), -1.0)
    images[3, 0] = 1.0
    picture = grid_picture(images)
    factor = picture.size[0] // (3 * 10 + 2)
    assert picture.size == ((3 * 10 + 2) * factor, (2 * 10 + 2) * factor)
    pixels = np.asarray(picture)[::factor, ::factor]
    assert (pixels[2:10, 2:10] == 0).all() and (pixels[12:20, 2:10] == [255, 0, 0]).all() and (pixels[0] == 255).all()

    stream = torch.randn(4, 6, 2, 2)
    colours = semantic_colours(stream)
    assert colours.shape == (4, 3, 2, 2) and float(colours.abs().max()) <= 1
    assert semantic_colours(torch.randn(4, 1, 2, 2)).shape == (4, 3, 2, 2)
    for step in (1, 2):
        save_picture(semantic_picture(images[:4], stream * step), tmp_path / f"step-{step:08d}.png")
    evolution = evolution_picture(tmp_path)
    single = Image.open(tmp_path / "step-00000001.png")
    assert evolution is not None and evolution.size == (single.size[0], single.size[1] // 2 * 3)
    assert evolution_picture(tmp_path / "empty") is None


class _Reads(TorchDispatchMode):
    """Counts how often the program reads a value out of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", ["pixel_coredi", "pixel_redi", "latent_coredi", "latent_redi_ddpm"])
def test_a_step_reads_nothing_back(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU every look at a value would wait for all that is queued. What a CPU alone looks at is left out."""
    monkeypatch.setattr(Trainer, "_may_wait", lambda *_: False)
    changes = [*QUICK_JOINT, "cache.use=never", "streams.semantic.weight=auto", "fabric.accelerator=cpu"]
    [step] = load_subjects(recipe, changes, Bench("train", 1, 1))
    step.call()
    with _Reads() as reads:
        step.call()
    assert reads.count == 0


def test_what_has_trained_a_run_is_gone_when_the_run_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers, train = [], Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self, *how: trainers.append(weakref.ref(self)) or train(self, *how))
    gc.disable()
    try:
        load("pixel_coredi", QUICK_JOINT).run(root=tmp_path, quiet=True)
        left = [trainer() for trainer in trainers]
    finally:
        gc.enable()
    assert left == [None]


def test_readers_get_the_images_and_no_networks() -> None:
    feed = ImageFeed(create("data", "shapes", size=30), PixelSpace(create("tokenizer", "pixel"), None, 32))
    copied = copy.copy(feed)  # by what a pickle holds
    assert not hasattr(copied, "space") and len(copied) == 30
    assert torch.equal(copied.read([(3, 1)])["images"], feed.read([(3, 1)])["images"])


def test_pictures_and_scores_do_not_count_as_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a step takes a second and what comes after it a hundred."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    one_step, after_step = Trainer._one_step, Session._after_step

    def step(self: Trainer, batches: Any) -> Any:
        clock.now += 1
        return one_step(self, batches)

    def after(self: Session, trainer: Trainer, number: int) -> dict[str, float]:
        clock.now += 100
        return after_step(self, trainer, number)

    monkeypatch.setattr("latsem.backends.training.time", clock)
    monkeypatch.setattr("latsem.backends.meter.time", clock)
    monkeypatch.setattr(Trainer, "_one_step", step)
    monkeypatch.setattr(Session, "_after_step", after)
    changes = [*QUICK, "train.steps=12", "train.log_every=3", "train.picture_every=2", "evaluate.samples=0"]
    folder = load("pixel_jit", changes).run(root=tmp_path).folder
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    assert speeds == pytest.approx([8.0] * 4)


@pytest.mark.parametrize(("seconds", "said"), [(1e-4, 1), (1e6, 0)])
def test_steps_that_wait_for_data_say_so_once(
    seconds: float, said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However long the steps are said to have taken: reading took its milliseconds of it.

    The first line of the log is not judged: there files are opened and processes started.
    """
    monkeypatch.setattr(Meter, "seconds", lambda _: seconds)
    told = []
    for steps in (2, 8):
        changes = [*QUICK, f"train.steps={steps}", "evaluate.samples=0", "train.picture_images=0"]
        folder = load("pixel_jit", changes).run(root=tmp_path).folder
        told.append(" ".join(capsys.readouterr().out.split()).count("of the time goes into waiting for data"))
    assert told == [0, said]
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    shares = [line["waiting_for_data"] for line in lines]
    assert len(shares) == 4 and (min(shares) > 0.05 if said else 0 < max(shares) < 1e-3)
