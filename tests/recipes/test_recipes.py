from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import QUICK, QUICK_JOINT, write_shards

from latsem.backends.errors import UserError
from latsem.recipes import load
from latsem.recipes.assemble import assemble, open_session
from latsem.recipes.derive import stream_specs
from latsem.recipes.layers import shipped_recipes

SHIPPED = sorted(shipped_recipes())
SMALL = [name for name in SHIPPED if "/" not in name]
"""The recipes that bring their own data and end in minutes; those in folders are in test_imagenet."""


def problems(recipe: str | Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        load(recipe, overrides)
    return caught.value.problems


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_says_what_it_is_and_how_to_start_it(name: str) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert len(header[0]) > 20
    assert any(f"latsem run recipes/{name}.yaml" in line for line in header)


@pytest.mark.parametrize("name", SMALL)
def test_every_small_recipe_is_built_and_stepped(name: str, tmp_path: Path) -> None:
    joint = load(name).settings.encoder is not None
    result = load(name, QUICK_JOINT if joint else QUICK).run(root=tmp_path, quiet=True)
    assert result.scores["frechet"] > 0
    images = result.sample(3)
    assert images.shape == (3, 3, 32, 32) and bool(images.isfinite().all())
    expected = {"recipe.yaml", "resolved.json", "environment.json", "metrics.jsonl", "done.json"}
    assert expected <= {path.name for path in result.folder.iterdir()}
    assert (result.folder / "samples" / "step-00000004.png").is_file()
    assert (result.folder / "semantics" / "evolution.png").is_file() == joint


def test_the_joint_recipes_differ_in_their_projection_alone() -> None:
    redi, coredi = (load(name).resolved() for name in ("pixel_redi", "pixel_coredi"))
    assert {key for key in redi if redi[key] != coredi[key]} == {"projection"}
    jit = load("pixel_jit").resolved()
    assert {key for key in redi if redi[key] != jit[key]} == {"encoder", "projection", "streams"}


def test_a_resolved_recipe_is_a_recipe() -> None:
    recipe = load("pixel_coredi", ["train.steps=5"])
    from latsem.recipes.recipe import from_values

    assert from_values("again", recipe.resolved()).settings == recipe.settings


@pytest.mark.parametrize("encoder", ["shapes_vit", "shapes_dino", "random_vit"])
@pytest.mark.parametrize("projection", ["pca", "random", "coevolving"])
@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_parts_swap_in_any_combination(encoder: str, projection: str, sampler: str) -> None:
    overrides = [f"encoder={encoder}", f"projection={projection}", f"sampler={sampler}", "guidance.scale=3"]
    settings = load("pixel_coredi", overrides).settings
    assert (settings.encoder.name, settings.projection.name, settings.sampler.name) == (encoder, projection, sampler)
    assert stream_specs(settings)["semantic"].shape == (16, 4, 4)


def test_a_new_recipe_in_any_folder_with_a_plug_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "from latsem.components import register\n"
        "from latsem.components.samplers.ode import Euler\n"
        "from latsem.components.samplers.settings import SamplerSettings\n\n"
        "@register('sampler', 'mine_one_step', builds=Euler)\n"
        "class MySettings(SamplerSettings):\n"
        "    '''One large step: a sampler of my own.'''\n"
        "    steps: int = 1\n"
    )
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: pixel_coredi\nplugins: [mine.py]\nsampler: mine_one_step\n")
    loaded = load(recipe)
    assert loaded.settings.sampler.name == "mine_one_step"
    assert "running plug-in" in capsys.readouterr().err
    recipe.write_text("base: pixel_coredi\nplugins: [absent.py]\n")
    assert "there is no Python file" in problems(recipe)[0]
    (tmp_path / "wrong.py").write_text("1 / 0\n")
    recipe.write_text("base: pixel_coredi\nplugins: [wrong.py]\n")
    assert "ZeroDivisionError" in problems(recipe)[0]


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    recipe = tmp_path / "wrong.yaml"
    recipe.write_text(
        "base: pixel_coredi\n"
        "denoiser:\n"
        "  depht: 3\n"
        "encoder: shape_vit\n"
        "train:\n"
        "  steps: many\n"
        "  lr: -1\n"
        "projection:\n"
        "  regularizer: {covv: 1}\n"
    )
    lines = problems(recipe)
    assert len(lines) == 5
    for number, path, message in [
        (3, "denoiser.depht", "unknown key, did you mean 'depth'?"),
        (4, "encoder", "unknown encoder 'shape_vit', did you mean 'shapes_vit'?"),
        (6, "train.steps", "valid integer"),
        (7, "train.lr", "greater than 0"),
        (9, "projection.regularizer.covv", "unknown key, did you mean 'cov'?"),
    ]:
        assert any(line.startswith(f"{recipe}:{number}: {path}: ") and message in line for line in lines), lines


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["denoiser.patch=7"], "denoiser.patch: patch 7 does not divide an image stream of 32x32 (legal: 1, 2, 4, 8"),
        (
            ["data=folder", "data.root=.github/pictures", "data.image_size=48"],
            "6x6 image tokens cannot match the 4x4 features of 'shapes_vit' (legal patches: 1, 2, 3, 4, 6, 12, 24, 48;",
        ),
        (["encoder=null"], "encoder: a projection needs an encoder"),
        (["projection=null"], "projection: an encoder needs a projection"),
        (["projection.channels=200"], "projection.channels: 200 channels from 96 features"),
        (
            ["projection.learns_from=image", "streams.semantic.stop_gradient=false"],
            "a live target would move a projection that learns from the image's loss alone",
        ),
        (["encoder=dinov2_bas_reg"], "encoder: unknown encoder 'dinov2_bas_reg', did you mean 'dinov2_base_reg'?"),
        (["encoder={name: dinov2_base_reg, image_size: 225}"], "encoder.image_size: must be a multiple of 14"),
        (
            ["encoder={name: dinov2_base_reg, image_size: 42}"],
            "4x4 image tokens cannot match the 3x3 features of 'dinov2_base_reg' (legal patches: 32; or "
            "encoder.image_size: 14, 28, 56; or",
        ),
        (["denoiser.heads=3"], "denoiser.heads: 3 heads do not divide a width of 128"),
        (["guidance.streams=[imag]"], "guidance.streams: there is no stream 'imag'"),
        (["guidance.streams=[]"], "guidance.streams: needs names of streams in a list, or all"),
        (["guidance.streams=[image, 3]"], "guidance.streams: there is no stream '3' (only image, semantic)"),
        (["guidance.channels=4"], "guidance.channels: 4 channels of a stream 'image' that has 3"),
        (["guidance.channels=0"], "guidance.channels: Input should be greater than or equal to 1"),
        (["guidance.streams=[semantic]", "guidance.channels=3"], "guidance.channels: counts channels of the stream"),
        (["guidance=joint", "guidance.label.streams=[imag]"], "guidance.label.streams: there is no stream 'imag'"),
        (["guidance=joint", "guidance.semantics.channels=9"], "guidance.semantics.channels: 9 channels of a stream"),
        (["guidance.interval=[0.9, 0.1]"], "guidance: interval starts at 0.9, after its end 0.1"),
        (["evaluate.samples=10"], "evaluate.samples: frechet on 64 features needs at least 65, not 10"),
        (
            ["evaluate.metrics=[kernel]", "evaluate.samples=1"],
            "evaluate.samples: kernel on 64 features needs at least 2, not 1 generated images: different images",
        ),
        (
            ["evaluate.metrics=[density_coverage]", "evaluate.reference=5"],
            "evaluate.reference: density_coverage on 64 features needs at least 6, not 5 reference images",
        ),
        (
            ["evaluate.metrics=[inception_score]"],
            "evaluate.extractor: 'inception_score' reads logits, and 'shapes_scorer' gives none ('inception' does)",
        ),
        (
            ["evaluate.metrics=[inception_score]", "evaluate.extractor=inception", "evaluate.samples=9"],
            "evaluate.samples: inception_score on 1008 logits needs at least 10, not 9 generated images",
        ),
        (
            ["evaluate.extractor=inceptio"],
            "evaluate.extractor: unknown extractor 'inceptio', did you mean 'inception'?",
        ),
        (
            ["evaluate.extractor=dinov2_larg"],
            "evaluate.extractor: unknown extractor 'dinov2_larg', did you mean 'dinov2_",
        ),
        (
            ["evaluate.extractor=dinov2_large", "evaluate.extractor.network.weights=/nowhere"],
            "evaluate.extractor.network.weights: there is no file or folder /nowhere",
        ),
        (
            ["evaluate.extractor=inception", "evaluate.extractor.weights=/nowhere"],
            "evaluate.extractor.weights: there is no file /nowhere",
        ),
        (["train.micro_batch=100"], "micro_batch must lie between 1 and batch_size"),
        (["data=folder", "data.root=/nowhere/at/all"], "data.root: there is no folder /nowhere/at/all"),
        (["data=folder"], "data.root: missing, it has no default"),
        (["streams.semantik.scale=2"], "streams.semantik"),
        (["train.class_dropout=0"], "guidance: 'cfg' compares with images without a label"),
        (["guidance=representation"], "guidance: 'representation' compares with images without semantics"),
        (["sampler=ddpm"], "sampler: 'ddpm' cannot sample from process 'flow' (one of dopri5, euler, heun"),
        (["process=ddpm"], "sampler: 'heun' cannot sample from process 'ddpm' (one of ddim, ddpm)"),
        (["process=ddpm", "sampler={name: ddpm, steps: 2000}"], "sampler.steps: 2000 steps of a process that has 1000"),
        (["process=ddpm", "streams.semantic.prediction=x"], "predicts eps, not x"),
        (["process=ddpm", "streams.semantic.lead=0.3"], "has one clock for all streams"),
        (["backend=latent"], "backend: tokenizer 'pixel' belongs to backend 'pixel', not 'latent'"),
        (["tokenizer=vae"], "backend: tokenizer 'vae' belongs to backend 'latent', not 'pixel'"),
        (["backend=latent", "tokenizer={name: vae, model: shapes_vea}"], "did you mean 'shapes_vae'"),
    ],
)
def test_clashes_are_found_before_anything_is_built(overrides: list[str], message: str) -> None:
    assert any(message in line for line in problems("pixel_coredi", *overrides))


@pytest.mark.parametrize(
    ("encoder", "patch", "size", "grid"),
    [
        ("dinov2_base_reg", 8, 56, 4),
        ("dinov2_base_reg", 2, 224, 16),
        ("siglip2_base", 4, 128, 8),
        ("shapes_vit", 8, 32, 4),
    ],
)
def test_an_encoder_sees_images_of_the_size_that_matches_the_tokens(
    encoder: str, patch: int, size: int, grid: int
) -> None:
    settings = load("pixel_coredi", [f"encoder={encoder}", f"denoiser.patch={patch}"]).settings
    assert settings.encoder is not None and settings.encoder.grid() == grid
    assert settings.encoder.model_dump().get("image_size", 32) == size
    assert stream_specs(settings)["semantic"].tokens == stream_specs(settings)["image"].tokens


def test_an_extractors_encoder_is_chosen_and_set_like_any_part() -> None:
    for chosen in ("dinov2_small", "{name: encoder, network: dinov2_small}"):
        overrides = [f"evaluate.extractor={chosen}", "evaluate.extractor.network.half=true"]
        extractor = load("pixel_jit", overrides).resolved()["evaluate"]["extractor"]
        assert extractor["name"] in chosen and extractor["pooling"] == "class_token"
        network = extractor["network"]
        assert (network["name"], network["image_size"], network["half"]) == ("dinov2_small", 224, True)


def test_an_empty_folder_is_no_data(tmp_path: Path) -> None:
    assert "no image file" in problems("pixel_jit", "data=folder", f"data.root={tmp_path}")[0]


def test_a_semantic_stream_without_an_encoder_is_a_mistake() -> None:
    assert "no 'semantic' stream" in problems("pixel_jit", "streams.semantic.scale=2")[0]


def test_settings_that_do_nothing_are_said(photos: Path) -> None:
    unlabelled = load("pixel_jit", ["data=folder", f"data.root={photos}", "data.labels=none"])
    assert "not labelled" in unlabelled.warnings[0]
    assert "no semantic stream" in load("pixel_jit", ["train.semantic_dropout=0.2"]).warnings[0]
    assert load("pixel_jit").warnings == ()


def test_the_same_recipe_trains_on_a_folder_of_photos(photos: Path, tmp_path: Path) -> None:
    overrides = [*QUICK_JOINT[1:], "data=folder", f"data.root={photos}"]
    result = load("pixel_coredi", overrides).run(root=tmp_path / "runs", quiet=True)
    assert result.sample(2).shape == (2, 3, 32, 32)


def test_initial_weights_are_a_function_of_the_seed() -> None:
    quick = [*QUICK_JOINT]
    one, same = (assemble(load("pixel_coredi", quick)).model.state_dict() for _ in range(2))
    other = assemble(load("pixel_coredi", [*quick, "train.seed=1"])).model.state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_the_data_must_be_what_is_expected_of_it() -> None:
    expected = ["data.size=200", "data.expect_images=1281167", "data.expect_classes=1000"]
    with pytest.raises(UserError) as caught:
        assemble(load("pixel_jit", expected))
    assert caught.value.problems == tuple(
        f"data.expect_{what} expected, found 200 rendered scenes of 32x32, 5 classes"
        for what in ("images: 1,281,167 images", "classes: 1,000 classes")
    )
    assemble(load("pixel_jit", ["data.size=200", "data.expect_images=200", "data.expect_classes=5"]), scored=False)


def test_labels_that_turn_out_to_be_missing_are_warned_of(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whether shards are labelled is known only once they are read."""
    shards = [f"data.shards={write_shards(photos, labelled=False)}/*.tar", f"data.cache={tmp_path}"]
    recipe = load("pixel_jit", ["data=webdataset", *shards, "guidance=cfg", "guidance.scale=2", "evaluate.samples=0"])
    assert not recipe.warnings
    open_session(recipe, root=tmp_path)
    assert "guidance 'cfg' has no effect: the images are not labelled" in " ".join("".join(capfd.readouterr()).split())


@pytest.mark.parametrize(
    ("below", "change", "kept"),
    [
        ("x.npz", "images=500", {"file": Path("x.npz").absolute(), "images": 500}),
        ("photos", "images=500", {"folder": Path("photos").absolute(), "images": 500}),
        ("70", "folder=photos", {"folder": Path("photos").absolute(), "images": 70}),
    ],
)
def test_one_value_of_a_reference_in_short_form_keeps_the_rest(
    below: str, change: str, kept: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: pixel_jit\nevaluate: {{samples: 0, reference: {below}}}\n")
    reference = load(path, [f"evaluate.reference.{change}"]).settings.evaluate.reference
    assert {key: getattr(reference, key) for key in kept} == kept
