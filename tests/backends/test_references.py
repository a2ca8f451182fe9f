"""References: which images of a file or a folder generated ones are compared with, and which are refused."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK
from PIL import Image
from scored_runs import SCORED, record_of, unscored_run

from latsem.backends.errors import RunFailed, UserError
from latsem.backends.evaluation.protocol import clashes
from latsem.backends.evaluation.references import NpzReference, SourceReference
from latsem.backends.evaluation.scoring import image_digests
from latsem.backends.settings import ReferenceSettings
from latsem.components.data.picture import Decoding
from latsem.recipes import load
from latsem.recipes.assemble import assemble
from latsem.recipes.evaluating import evaluate_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unscored_run(tmp_path_factory.mktemp("runs"))


def test_damaged_reference_files_are_one_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, np.zeros((9, 16, 16, 3), np.uint8))
    array = zipfile.ZipFile(good).read("arr_0.npy")
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("arr_0.npy", array[: len(array) // 2])
    with pytest.raises(RunFailed, match=r"bad.npz: the reference is damaged \(.*fetch or make it again"):
        NpzReference(bad, 9).images(range(9))
    content = bytearray(good.read_bytes())
    content[2000:2010] = bytes(range(10))
    bad.write_bytes(content)
    with pytest.raises(RunFailed, match="the reference is damaged"):
        NpzReference(bad, 9).images(range(9))
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("arr_0.npy", b"garbage")
    with pytest.raises(ValueError, match="bad.npz: arr_0 is no array of numpy"):
        NpzReference(bad, 9)
    np.savez(bad, mu=np.zeros(3))
    with pytest.raises(ValueError, match=r"neither images \(arr_0\) nor moments"):
        NpzReference(bad, 9)


def test_published_reference_files(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    mean, covariance = np.arange(4.0), np.diag([1.0, 2.0, 3.0, 4.0])
    np.savez(tmp_path / "adm.npz", pixels, mu=mean, sigma=covariance)
    np.savez_compressed(tmp_path / "packed.npz", pixels)
    np.savez(tmp_path / "jit.npz", mu=mean, sigma=covariance)
    for name in ("adm", "packed"):
        reference = NpzReference(tmp_path / f"{name}.npz", 9)
        assert len(reference) == 9
        assert (reference.images(range(3, 7)).permute(0, 2, 3, 1).numpy() == pixels[3:7]).all()
    moments = NpzReference(tmp_path / "jit.npz", 10).moments("inception", 4)
    assert moments is not None and torch.allclose(moments.mean, torch.from_numpy(mean))
    assert torch.allclose(moments.covariance, torch.from_numpy(covariance), atol=1e-12)
    assert NpzReference(tmp_path / "jit.npz", 10).moments("shapes_scorer", 4) is None
    assert len(NpzReference(tmp_path / "jit.npz", 10)) == 0
    with pytest.raises(ValueError, match="mu is .* the extractor's features are 5"):
        NpzReference(tmp_path / "jit.npz", 10).moments("inception", 5)
    np.savez(tmp_path / "floats.npz", pixels.astype(np.float32))
    np.savez(tmp_path / "other.npz", x=mean)
    (tmp_path / "text.npz").write_text("text")
    for name, problem in (("floats", "not uint8 images"), ("other", "neither images")):
        with pytest.raises(ValueError, match=problem):
            NpzReference(tmp_path / f"{name}.npz", 10)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_long_reference_file_is_drawn_from_fairly(tmp_path: Path, save: Callable[..., None]) -> None:
    """A file sorted by class: image i of 400 shows i, and of its ten classes none is left out of any draw."""
    pixels = np.zeros((400, 8, 8, 3), np.uint8)
    pixels[:, 0, 0, :2] = np.stack([np.arange(400) // 256, np.arange(400) % 256], 1)
    save(tmp_path / "long.npz", pixels)

    def taken(pieces: list[range]) -> list[int]:
        reference = NpzReference(tmp_path / "long.npz", 100)
        shown = torch.cat([reference.images(piece) for piece in pieces])[:, :2, 0, 0].long()
        return (256 * shown[:, 0] + shown[:, 1]).tolist()

    whole = taken([range(100)])
    assert len(set(whole)) == 100 and whole == sorted(whole)
    assert min(np.bincount(np.array(whole) // 40, minlength=10)) >= 3
    assert taken([range(start, start + 20) for start in range(0, 100, 20)]) == whole
    assert taken([range(50, 100), range(50)]) == whole[50:] + whole[:50]
    assert set(NpzReference(tmp_path / "long.npz", 50).rows) < set(whole)
    assert NpzReference(tmp_path / "long.npz", 100).identity()["what"]["drawn from"] == 400
    assert "drawn from" not in NpzReference(tmp_path / "long.npz", 400).identity()["what"]


def test_reference_files_that_cannot_be_used_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "whole.npz", pixels)
    whole = (tmp_path / "whole.npz").read_bytes()
    np.savez(tmp_path / "fortran.npz", np.asfortranarray(pixels))
    np.savez(tmp_path / "nothing.npz", pixels[:0])
    np.savez(tmp_path / "channels_first.npz", pixels.transpose(0, 3, 1, 2).copy())
    np.savez(tmp_path / "objects.npz", mu=np.array([None, 1]), sigma=np.eye(2))
    for name, content in (("zero", b""), ("page", b"<html>404</html>"), ("cut", whole[: len(whole) // 2])):
        (tmp_path / f"{name}.npz").write_bytes(content)
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, pixels)
    problems = {
        "fortran": "arr_0 is in Fortran order: save numpy.ascontiguousarray of it",
        "nothing": r"arr_0 is empty: its shape is \(0, 16, 16, 3\)",
        "channels_first": r"uint8 \(9, 3, 16, 16\), not uint8 images",
        "objects": "mu and sigma cannot be read",
        "zero": "it is empty",
        "page": "it is no zip archive",
        "cut": "it is cut off",
        "single": r"a single array \(.npy\): save it with numpy.savez",
        "absent": "cannot be read: No such file",
    }
    for name, problem in problems.items():
        with pytest.raises(ValueError, match=rf"{name}.npz: .*{problem}") as caught:
            NpzReference(tmp_path / f"{name}.npz", 9)
        assert "\n" not in str(caught.value)

    def refusing(*arguments: object, **_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("latsem.backends.evaluation.references.zipfile.ZipFile", refusing)
    with pytest.raises(ValueError, match="whole.npz: cannot be read: Permission denied"):
        NpzReference(tmp_path / "whole.npz", 9)


def test_a_reference_is_an_archive_by_any_case_of_its_ending(tmp_path: Path) -> None:
    assert ReferenceSettings.model_validate(str(tmp_path / "A.NPZ")).file == tmp_path / "A.NPZ"
    assert ReferenceSettings.model_validate(str(tmp_path / "A")).folder == tmp_path / "A"


def test_a_reference_of_another_size_is_refused(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", np.zeros((70, 48, 32, 3), np.uint8))
    with pytest.raises(UserError, match="images of 32x48 pixels, and those of the recipe have 32x32"):
        evaluate_run(folder, [*SCORED, f"evaluate.reference={tmp_path / 'large.npz'}"])
    for number in range(4):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{number}.png")
    other = f"evaluate.reference={{data: {{name: folder, root: {tmp_path}, image_size: 64}}}}"
    with pytest.raises(UserError, match="images of 64x64 pixels"):
        evaluate_run(folder, [*SCORED, other])


def test_a_folder_of_references_is_decoded_as_the_data_are(photos: Path) -> None:
    images = ["data=folder", f"data.root={photos}", "data.background=black", "data.metadata=ignore"]
    recipe = load("pixel_jit", [*QUICK[1:], *images, f"evaluate.reference={photos}"])
    score = assemble(recipe).score
    assert score is not None and isinstance(score.reference, SourceReference)
    assert score.reference.source.decoding == Decoding(metadata=False, background=(0, 0, 0))  # type: ignore[attr-defined]


def test_the_digest_of_a_reference_is_of_its_pixels(folder: Path, tmp_path: Path) -> None:
    """The same images, packed in another way and in a folder, are the same reference."""
    pixels = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "one.npz", pixels)
    np.savez_compressed(tmp_path / "other.npz", pixels, unrelated=np.zeros(3))
    protocol = [*SCORED, "evaluate.semantic_cells=0"]
    one, other = (
        record_of(evaluate_run(folder, [*protocol, f"evaluate.reference={tmp_path / name}"]))
        for name in ("one.npz", "other.npz")
    )
    sums = [record["protocol"]["reference"]["sha256"] for record in (one, other)]  # type: ignore[index]
    expected = image_digests(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert sums == [hashlib.sha256(expected.numpy().tobytes()).hexdigest()] * 2
    assert not clashes(one["protocol"], other["protocol"])  # type: ignore[arg-type]
