"""Scores: what they are compared with, what they depend on, and that nothing of it is lost or left out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, QUICK_JOINT
from scored_runs import SCORED, record_of, unscored_run

from latsem.backends.checkpointing.writing import save_weights
from latsem.backends.errors import RunFailed, UserError
from latsem.backends.evaluation.protocol import answers, clashes, digest
from latsem.backends.evaluation.records import score_lines, scores_of
from latsem.backends.evaluation.references import SourceReference
from latsem.backends.evaluation.scoring import cells, image_digests
from latsem.backends.evaluation.shares import Shares
from latsem.backends.generation import ImageGenerator
from latsem.backends.hardware import make_fabric
from latsem.backends.image_set import ImageSet
from latsem.backends.run_folder import RunFolder
from latsem.backends.settings import EvaluateSettings, FabricSettings
from latsem.components.moments import Moments
from latsem.components.registry import create
from latsem.recipes import load
from latsem.recipes.assemble import assemble, open_run
from latsem.recipes.evaluating import evaluate_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unscored_run(tmp_path_factory.mktemp("runs"))


def test_every_score_comes_with_its_protocol(folder: Path) -> None:
    record = record_of(evaluate_run(folder, SCORED))
    names = ["frechet", "kernel", "kernel_std", "precision", "recall", "density", "coverage"]
    scores, protocol = record["scores"], record["protocol"]
    assert set(scores) == {*names, *(f"semantic/{name}" for name in names)}  # type: ignore[call-overload]
    assert set(record["better"]) == {name for name in scores if not name.endswith("_std")}  # type: ignore[call-overload, attr-defined]
    assert isinstance(protocol, dict) and record["hash"] == digest(protocol)
    expected = {
        "sampler": {"name": "heun", "steps": 2},
        "guidance": {"name": "none"},
        "weights": "moving average, decay 0.98",
        "labels": "balanced",
        "samples": 66,
        "image": "32x32, 8 bits",
        "seed": 1000,
        "precision": protocol["precision"],
    }
    assert {key: protocol[key] for key in expected} == expected
    semantic = protocol["semantic"]
    assert (semantic["averaged to"], semantic["reference"]) == ("2x2", "first 66 images of the data")
    assert semantic["data"] == protocol["reference"]["what"] and semantic["data"]["size"] == 200
    assert {"extractor", "resize", "metrics", "reference", "code"} <= protocol.keys()
    assert protocol["reference"]["images"] == 70 and len(protocol["reference"]["sha256"]) == 64


def test_scores_against_the_same_images_are_perfect(folder: Path, tmp_path: Path) -> None:
    """What `sample` writes is what `evaluate` scores: as a folder, and as the file that ADM's evaluator reads."""
    run = open_run(folder, ["guidance=none"])
    for target in (tmp_path / "images", tmp_path / "images.npz"):
        run.write_images(66, 1000, target)
        record = record_of(evaluate_run(folder, [*SCORED, f"evaluate.reference={target}", "evaluate.semantic_cells=0"]))
        scores = record["scores"]
        assert isinstance(scores, dict)
        assert scores["frechet"] == pytest.approx(0, abs=1e-6)
        assert (scores["precision"], scores["recall"], scores["coverage"]) == (1, 1, 1)


def test_a_score_that_is_there_is_not_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = [*SCORED, "evaluate.seed=7"]
    first = evaluate_run(folder, protocol)
    before = first.read_bytes()

    def never(self: ImageGenerator, *arguments: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(ImageGenerator, "streams", never)
    assert evaluate_run(folder, protocol) == first and first.read_bytes() == before
    assert evaluate_run(folder, [*protocol, "evaluate.batch_size=11"]) == first
    with pytest.raises(AssertionError, match="drawn again"):
        evaluate_run(folder, [*protocol, "evaluate.labels=random"])


def test_a_score_against_another_reference_is_another_score(folder: Path, tmp_path: Path) -> None:
    """References of one name and size, in files and in a folder whose images were replaced; other true semantics."""
    drawn = [*SCORED, "evaluate.seed=11"]
    found = []
    for number in (0, 1):
        scenes = SourceReference(create("data", "shapes", size=70, seed=50 + number), 70, {})
        pixels = scenes.images(range(70)).permute(0, 2, 3, 1).numpy()
        (tmp_path / str(number)).mkdir()
        np.savez(tmp_path / str(number) / "images.npz", pixels)
        images = ImageSet(tmp_path / "images")
        images.folder.mkdir(exist_ok=True)
        for index, image in enumerate(pixels):
            images.write(index, torch.from_numpy(image).permute(2, 0, 1), {})
        npz = f"evaluate.reference={tmp_path / str(number) / 'images.npz'}"
        places = [[npz], [f"evaluate.reference={images.folder}"], [npz, f"data.seed={number}"]]
        found += [evaluate_run(folder, [*drawn, *place]) for place in places]
    assert len(set(found)) == 5  # data.seed=0 is the run's own
    assert found[0] == found[2]
    scores: list[dict[str, float]] = [record_of(path)["scores"] for path in found]  # type: ignore[misc]
    assert scores[0]["frechet"] == pytest.approx(scores[1]["frechet"])
    assert scores[3]["frechet"] == pytest.approx(scores[4]["frechet"])
    assert scores[0]["frechet"] != pytest.approx(scores[3]["frechet"])
    assert scores[5]["semantic/frechet"] != pytest.approx(scores[3]["semantic/frechet"])


def test_a_run_does_not_take_scores_against_another_reference_for_its_own(tmp_path: Path) -> None:
    recipe = load("pixel_jit", QUICK)
    result = recipe.run(root=tmp_path, quiet=True)
    (own,) = scores_of(RunFolder(result.folder))
    for seed in range(1, 5):
        evaluate_run(result.folder, [f"evaluate.reference={{images: 70, data: {{name: shapes, seed: {seed}}}}}"])
    assert len(scores_of(RunFolder(result.folder))) == 5
    assert recipe.run(root=tmp_path, quiet=True).scores == own["scores"]


@pytest.mark.parametrize("size", [7, 64])
def test_scores_do_not_depend_on_the_batch(folder: Path, size: int) -> None:
    record = record_of(evaluate_run(folder, [*SCORED, "evaluate.seed=8"]))
    path = next((folder / "evaluation").glob(f"*-{record['hash']}.json"))
    path.unlink()
    again = record_of(evaluate_run(folder, [*SCORED, "evaluate.seed=8", f"evaluate.batch_size={size}"]))
    assert again == record


def test_an_interrupted_score_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = [*SCORED, "evaluate.seed=9", "evaluate.batch_size=20"]
    drawn: list[int] = []
    original = ImageGenerator.streams

    def counted(self: ImageGenerator, indices: range, *arguments: object) -> object:
        if len(drawn) == 2:
            drawn.append(-1)
            raise KeyboardInterrupt
        drawn.append(indices.start)
        return original(self, indices, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageGenerator, "streams", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(folder, protocol)
    resumed = record_of(evaluate_run(folder, protocol))
    assert drawn == [0, 20, -1, 40, 60]
    undisturbed = record_of(evaluate_run(folder, [*protocol[:-2], "evaluate.seed=9", "evaluate.batch_size=66"]))
    assert undisturbed == resumed
    assert not list((folder / "evaluation").glob(".*-20"))


def test_a_reference_is_read_once_unless_its_images_change(
    folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = SourceReference.images

    def counted(self: SourceReference, indices: range) -> torch.Tensor:
        read.append(len(indices))
        return original(self, indices)

    monkeypatch.setattr(SourceReference, "images", counted)
    protocol = [*SCORED, f"evaluate.reference={photos}", "evaluate.semantic_cells=0"]
    first = record_of(evaluate_run(folder, protocol))
    again = record_of(evaluate_run(folder, [*protocol, "evaluate.seed=77"]))
    assert sum(read) == 100 and first["protocol"]["reference"] == again["protocol"]["reference"]  # type: ignore[index]
    next(photos.rglob("*.png")).unlink()
    other = record_of(evaluate_run(folder, protocol))
    assert sum(read) == 199 and other["hash"] != first["hash"]


def test_guidance_is_scored_when_it_is_named(folder: Path) -> None:
    off, on = evaluate_run(folder, SCORED), evaluate_run(folder, [*SCORED, "guidance=representation"])
    assert record_of(on)["protocol"]["guidance"]["name"] == "representation"  # type: ignore[index]
    assert record_of(on)["scores"] != record_of(off)["scores"]
    said = evaluate_run(folder, [*SCORED, "guidance=representation", "evaluate.guided=false"])
    assert record_of(said)["scores"] == record_of(off)["scores"]


def test_guided_channels_are_part_of_the_protocol(folder: Path) -> None:
    guided = [*SCORED, "guidance={name: cfg, scale: 1.5}"]
    every, some = (record_of(evaluate_run(folder, [*guided, *more])) for more in ([], ["guidance.channels=3"]))
    assert some["hash"] != every["hash"] and some["scores"] != every["scores"]
    (said,) = (line for line in score_lines(some) if line.startswith("protocol"))
    assert 'guidance cfg scale=1.5 streams=["image"] channels=3 interval=[0.0, 1.0];' in said
    (said,) = (line for line in score_lines(every) if line.startswith("protocol"))
    assert 'guidance cfg scale=1.5 streams=["image"] interval=[0.0, 1.0];' in said


def test_a_score_from_before_a_setting_answers_where_it_is_not_set() -> None:
    before = {"name": "cfg", "scale": 2.0, "streams": ["image"], "interval": [0.0, 1.0]}
    there = {"guidance": before, "reference": {"images": 70, "sha256": "01"}}
    for channels, same in ((None, True), (3, False)):
        asked = {"guidance": {**before, "channels": channels}, "reference": {"images": 70}}
        assert answers(there, asked) is same
    assert not answers(there, {**there, "seed": 1}) and not answers({**there, "seed": 1}, there)


def test_a_run_from_before_all_streams_were_the_default_keeps_its_own(folder: Path, tmp_path: Path) -> None:
    """Resolved recipes name the guided streams; a run of then is sampled as it was then."""
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    resolved = json.loads((older / "resolved.json").read_text())
    contrast = {"scale": 1.5, "streams": ["image"], "interval": [0.0, 1.0]}
    resolved["recipe"]["guidance"] = {"name": "representation", **contrast}
    (older / "resolved.json").write_text(json.dumps(resolved))

    def drawn(where: Path, *changes: str) -> torch.Tensor:
        run = open_run(where, changes)
        run.load_newest()
        return run.parts.generator(run.device, run.precision).streams(range(3), 0)["semantic"]

    image_alone = drawn(folder, "guidance={name: representation, streams: [image]}")
    assert torch.equal(drawn(older), image_alone)
    assert not torch.equal(drawn(folder, "guidance=representation"), image_alone)


@pytest.mark.parametrize("change", ["train.ema=0.5", "streams.semantic.scale=2", "projection.channels=4"])
def test_what_was_trained_cannot_be_said_to_be_otherwise(folder: Path, change: str) -> None:
    key = change.partition("=")[0]
    for act in (evaluate_run, open_run):
        with pytest.raises(UserError, match=rf"{key}: .*changes what was trained"):
            act(folder, [change])


def test_what_would_do_nothing_is_refused(folder: Path) -> None:
    """A change of how scores are made has no effect on samples, and no score is no use to `evaluate`."""
    with pytest.raises(UserError, match="evaluate.labels=random: does nothing here"):
        open_run(folder, ["evaluate.labels=random"])
    for nothing in ("evaluate.samples=0", "evaluate.metrics=[]"):
        with pytest.raises(UserError, match="asks for no score; set evaluate.samples"):
            evaluate_run(folder, [*SCORED, nothing])


def test_scores_of_random_networks_are_told_apart() -> None:
    for settings in ({"name": "inception"}, {"name": "dinov2_small"}):
        random = {"pretrained": False} if settings["name"] == "inception" else {"network": {"pretrained": False}}
        trained, untrained = (
            EvaluateSettings.model_validate({"extractor": each}).extractor for each in (settings, settings | random)
        )
        assert trained.identity() != untrained.identity() and "pretrained" not in json.dumps(trained.identity())
        protocol = {"samples": 3, "guidance": {"name": "none"}, "sampler": {"name": "heun"}, "labels": "none"}
        protocol |= {"weights": "last step's", "reference": {"images": 0}, "extractor": untrained.identity()}
        protocol |= {"image": "32x32", "seed": 1, "resize": "to 9", "precision": "32-true", "code": "abc"}
        protocol["reference"] = {"images": 0, "sha256": "0123456789"}
        (_, said) = score_lines({"step": 1, "hash": "x", "scores": {"frechet": 1.0}, "protocol": protocol})
        assert f"last step's; guidance none; heun; {settings['name']} with random weights (to 9); moments of a" in said


def test_the_last_weights_can_be_scored(folder: Path) -> None:
    average, last = (
        record_of(evaluate_run(folder, [*SCORED, f"evaluate.weights={which}"])) for which in ("average", "last")
    )
    assert last["protocol"]["weights"] == "last step's" and last["weights_sha256"] != average["weights_sha256"]  # type: ignore[index]


def test_last_weights_that_were_not_kept_are_one_line(folder: Path) -> None:
    run = RunFolder(folder)
    alone = save_weights(run, 9, assemble(load("latent_redi", QUICK_JOINT)).model)
    try:
        with pytest.raises(UserError, match="step-00000009: holds no last weights"):
            evaluate_run(folder, [*SCORED, "evaluate.weights=last"])
    finally:
        shutil.rmtree(alone)


def test_a_run_scores_itself_by_the_protocol_that_evaluate_uses(tmp_path: Path) -> None:
    result = load("pixel_coredi", [*QUICK_JOINT, "evaluate.every=2"]).run(root=tmp_path, quiet=True)
    records = scores_of(RunFolder(result.folder))
    assert [record["step"] for record in records] == [2, 4] and records[0]["hash"] == records[1]["hash"]
    assert result.scores == records[1]["scores"]
    assert record_of(evaluate_run(result.folder)) == records[1]
    assert len(scores_of(RunFolder(result.folder))) == 2


def test_too_few_images_and_broken_weights_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.samples: frechet .*needs at least 65"):
        evaluate_run(folder, ["evaluate.samples=64"])
    with pytest.raises(UserError, match=r"evaluate.reference.folder: there is no folder"):
        evaluate_run(folder, [*SCORED, f"evaluate.reference={tmp_path / 'nowhere'}"])
    np.savez(tmp_path / "few.npz", np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match="evaluate.reference: .*5 reference"):
        evaluate_run(folder, [*SCORED, f"evaluate.reference={tmp_path / 'few.npz'}"])
    np.savez(tmp_path / "moments.npz", mu=np.zeros(64), sigma=np.eye(64))
    with pytest.raises(
        UserError, match=r"moments.npz has no images, only moments of inception's features, which 'shapes_scorer'"
    ):
        evaluate_run(folder, [*SCORED, f"evaluate.reference={tmp_path / 'moments.npz'}"])
    with pytest.raises(UserError, match="semantic stream's 4x4 cells, .* or lower evaluate.semantic_cells"):
        evaluate_run(folder, [*SCORED, "evaluate.semantic_cells=4"])
    short = load("pixel_jit", [*QUICK, "evaluate.reference=10000", "data.size=50"])
    with pytest.raises(UserError, match="evaluate.reference: frechet .*50 reference"):
        short.run(root=tmp_path / "runs", quiet=True)
    assert not list((tmp_path / "runs").rglob("checkpoints"))
    for nothing in ("evaluate.samples=0", "evaluate.metrics=[]"):
        with pytest.raises(UserError, match="asks for no score; set evaluate.samples"):
            evaluate_run(folder, [nothing])


def test_images_that_are_not_finite_are_no_score(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ImageGenerator.streams

    def broken(self: ImageGenerator, indices: range, *arguments: object) -> dict[str, torch.Tensor]:
        streams = original(self, indices, *arguments)  # type: ignore[arg-type]
        streams["image"][6] = math.nan
        return streams

    monkeypatch.setattr(ImageGenerator, "streams", broken)
    with pytest.raises(RunFailed, match="image 6 is not finite, 1 of 20 are not"):
        evaluate_run(folder, [*SCORED, "evaluate.seed=10", "evaluate.batch_size=20"])


def test_moments_that_are_given_are_given_back() -> None:
    data = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    taken = Moments(6)
    taken.update(data)
    given = Moments.of(taken.mean, taken.covariance, count=50)
    assert torch.allclose(given.sum, taken.sum) and torch.allclose(given.outer, taken.outer)


def test_shares_are_computed_once_and_read_in_order(tmp_path: Path) -> None:
    fabric, made = make_fabric(FabricSettings(accelerator="cpu")), []

    def make(piece: range) -> dict[str, torch.Tensor]:
        made.append(piece.start)
        return {"x": torch.tensor(list(piece))}

    shares = Shares(tmp_path / "work", 10, 4)
    shares.compute(fabric, make)
    (shares.folder / "00000004.safetensors").unlink()
    Shares(tmp_path / "work", 10, 4).compute(fabric, make)
    assert made == [0, 4, 8, 4]
    assert shares.joined()["x"].tolist() == list(range(10))
    shares.remove()
    assert not shares.folder.exists()


def test_a_reference_is_known_by_its_pixels(tmp_path: Path) -> None:
    source = create("data", "shapes", size=20)
    reference = SourceReference(source, 12, {})
    whole = image_digests(reference.images(range(12)))
    parts = torch.cat([image_digests(reference.images(range(start, start + 4))) for start in (0, 4, 8)])
    assert torch.equal(whole, parts) and len(reference) == 12
    other = image_digests(SourceReference(create("data", "shapes", size=20, seed=1), 12, {}).images(range(12)))
    assert not (whole == other).all(1).any()


def test_semantic_cells_are_means() -> None:
    stream = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert cells(stream, 2).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    assert cells(stream, 1).tolist() == [[7.5]] and cells(stream, 9).shape == (1, 16)


def test_protocols_clash_in_what_matters() -> None:
    one = {"samples": 10, "code": "a", "semantic": None, "reference": {"what": "here", "sha256": "x"}}
    assert not clashes(one, one | {"code": "b", "semantic": {}, "reference": {"what": "there", "sha256": "x"}})
    assert clashes(one, one | {"samples": 20}) == ["samples: 10 -> 20"]
    assert clashes(one, one | {"reference": {"what": "here", "sha256": "y"}}) == ['reference.sha256: "x" -> "y"']
    assert digest(one) != digest(one | {"code": "b"})


def test_labels_are_balanced_random_or_one(tmp_path: Path) -> None:
    generator = load("pixel_jit", QUICK).run(root=tmp_path, quiet=True).generator
    assert generator.labels(range(7), "balanced", 0).tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert generator.labels([9, 4], 3, 0).tolist() == [3, 3]
    random = generator.labels(range(5000), "random", 1)
    assert torch.equal(random[100:200], generator.labels(range(100, 200), "random", 1))
    assert not torch.equal(random, generator.labels(range(5000), "random", 2))
    counts = torch.bincount(random, minlength=5)
    assert ((counts - 1000).abs() < 5 * (5000 * 0.2 * 0.8) ** 0.5).all()
