"""Run folders that are damaged, cut off or somebody else's: every reader ends in one clear line, or does without."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, QUICK_JOINT, torture

from latsem.backends.checkpointing.state import TrainingState
from latsem.backends.checkpointing.store import checkpoints
from latsem.backends.checkpointing.weights import load_weights
from latsem.backends.errors import RunFailed, UserError
from latsem.backends.evaluation.records import score_lines, scores_of
from latsem.backends.files import write_json
from latsem.backends.guard import FiniteGuard
from latsem.backends.hardware import make_fabric
from latsem.backends.log import MetricLog, read_log
from latsem.backends.meter import Meter
from latsem.backends.reporting.run_report import write_run_report
from latsem.backends.run_folder import RunFolder, claim_folder
from latsem.backends.settings import FabricSettings
from latsem.backends.tensor_files import load_tensors, save_tensors, sha256_of
from latsem.recipes import load
from latsem.recipes.assemble import assemble, image_model
from latsem.recipes.recipe import completed, of_run
from latsem.recipes.replaying import replay_file

RECIPE = [*QUICK_JOINT, "train.steps=2", "train.picture_images=2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load("pixel_coredi", RECIPE).run(root=tmp_path_factory.mktemp("whole"), name="run", quiet=True).folder


def json_files(run: Path) -> list[Path]:
    record = next(run.glob("evaluation/step-*.json"))
    return [run / "resolved.json", run / "environment.json", run / "done.json", record]


def broken_texts(text: bytes) -> Iterator[bytes]:
    """Yield a file's content, damaged as disks, editors and other programs do it."""
    yield from (b"", b"\0" * 300, text[: len(text) // 2], text[:-3], text.replace(b":", b"\xff", 3))
    yield from (b"[1, 2]", b"3", b"null", b'"text"', b"{}", b"[" * 100_000, b"{" + text, text.replace(b'"', b"'"))


def broken_values(value: Any) -> Iterator[Any]:
    """Yield a JSON object with each of its values, at any depth, missing or replaced by one of another kind."""
    for key in value if isinstance(value, dict) else ():
        yield {name: each for name, each in value.items() if name != key}
        for other in ([], ["x"], 7, -1.5, 1e300, None, True, "x", {}, {"x": 1}):
            yield {**value, key: other}
        yield from ({**value, key: inner} for inner in broken_values(value[key]))


def readers(run: Path) -> Iterator[Callable[[], object]]:
    """Yield everything that reads the text files of a run."""
    folder = RunFolder(run, completed)
    yield lambda: write_run_report(run)
    yield lambda: [list(score_lines(record)) for record in scores_of(folder)]
    yield folder.num_classes
    yield folder.feed
    yield lambda: of_run(folder)
    yield lambda: of_run(folder, ["guidance.scale=2", "sampler=euler"])
    yield lambda: claim_folder(run.parents[1], "pixel_coredi", load("pixel_coredi", RECIPE).resolved(), None, completed)
    yield lambda: claim_folder(run.parents[1], "pixel_coredi", load("pixel_jit").resolved(), run.name, completed)


def assert_readable_or_one_line(run: Path) -> None:
    for read in readers(run):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                read()
            except (UserError, RunFailed) as error:
                assert str(error) and not any("\0" in line for line in str(error).splitlines())
        assert all("\n" not in str(warning.message) for warning in caught)


@pytest.mark.parametrize("most", [25, torture(10**6)])
@pytest.mark.parametrize("number", range(4))
def test_damaged_json_is_one_line_or_left_out(number: int, most: int, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "pixel_coredi" / "run"))
    path = json_files(run)[number]
    content = path.read_bytes()
    for text in broken_texts(content):
        path.write_bytes(text)
        assert_readable_or_one_line(run)
    values = list(broken_values(json.loads(content)))
    for value in random.Random(number).sample(values, min(most, len(values))):  # noqa: S311
        path.write_text(json.dumps(value))
        assert_readable_or_one_line(run)


LINES = b'{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n'


@pytest.mark.parametrize(
    ("content", "steps", "damaged"),
    [
        (LINES, [1, 2], False),
        (LINES + b'{"step": 3, "lo', [1, 2], False),
        (LINES + b"\0" * 200, [1, 2], False),
        (b'{"loss": 3}\n' + LINES, [1, 2], True),
        (b'[1]\n3\nnull\n\n{"step": true}\n{"step": "2"}\n{"step": -1}\n' + LINES, [1, 2], True),
        (b'{"step": 1, "loss": NaN}\n\xff\xfe\n' + LINES[25:], [2], True),
        (LINES.replace(b"\n", b"\0\n", 1), [2], True),
    ],
)
def test_a_damaged_log_is_set_aside_and_its_lines_are_kept(
    content: bytes, steps: list[int], damaged: bool, tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(content)
    write_run_report(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            MetricLog(RunFolder(tmp_path), 2).close()
    assert [line["step"] for line in read_log(tmp_path / "metrics.jsonl").objects] == steps
    aside = tmp_path / "damaged-metrics.jsonl"
    assert aside.exists() == damaged == bool(caught) and (not damaged or aside.read_bytes() == content)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_one_line_and_not_waited_for(kind: str, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "pixel_coredi" / "run"))
    for path in [*json_files(run), run / "metrics.jsonl", run / "recipe.yaml", *run.glob("s*/*.png")]:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(path)
        assert_readable_or_one_line(run)
    with pytest.raises(UserError, match="metrics.jsonl: "):
        MetricLog(RunFolder(run), 2)


def headers(tensors: bytes) -> Iterator[bytes]:
    """Yield a safetensors file with its header damaged: first its length in 8 bytes, then JSON."""
    length = int.from_bytes(tensors[:8], "little")
    header, rest = json.loads(tensors[8 : 8 + length]), tensors[8 + length :]
    for size in (0, 1, length - 1, length + 1, 2**20, 2**31, 2**62, 2**64 - 1):
        yield size.to_bytes(8, "little") + tensors[8:]
    name = next(name for name in header if name != "__metadata__")
    kinds, shapes, places = ("F4", "F8_E8M0", "I4096"), ([-1], [], [2**62, 2]), ([9, 1], [0, 2**63])
    changes = [(key, v) for key, vs in (("dtype", kinds), ("shape", shapes), ("data_offsets", places)) for v in vs]
    for key, value in changes:
        changed = json.dumps({**header, name: {**header[name], key: value}}).encode()
        yield len(changed).to_bytes(8, "little") + changed + rest
    for text in (b"", b"{}", b"[]", b"{" * 1000, b"\xff" * 50, b'{"a": 1}'):
        yield len(text).to_bytes(8, "little") + text + rest
    yield tensors[: len(tensors) // 2]


def test_damaged_tensors_with_right_checksums_are_one_line(whole: Path, tmp_path: Path) -> None:
    """As of a checkpoint that somebody else has made."""
    run = Path(shutil.copytree(whole, tmp_path / "pixel_coredi" / "run"))
    checkpoint = checkpoints(RunFolder(run))[-1]
    model = assemble(load("pixel_coredi", RECIPE)).model
    guard = FiniteGuard(make_fabric(FabricSettings(accelerator="cpu")), [], 0)
    state = TrainingState(model, model.state_dict(), torch.optim.AdamW(model.parameters()), Meter(), guard)
    for name in ("ema", "meter", "guard", "optimizer"):
        path = checkpoint / f"{name}.safetensors"
        content = path.read_bytes()
        for damaged in headers(content):
            path.write_bytes(damaged)
            sums = {each.name: sha256_of(each) for each in checkpoint.iterdir() if each.name != "state.json"}
            write_json(checkpoint / "state.json", {"step": 2, "sha256": sums})
            try:
                load_tensors(path)
                load_weights(checkpoint, model)
                state.load(checkpoint)
            except UserError as error:
                assert str(checkpoint) in str(error)
        path.write_bytes(content)


def notes(**changes: Any) -> dict[str, Any]:
    recorded = {"recipe": load("pixel_jit", QUICK).resolved(), "num_classes": 5, "step": 3, "processes": 1, "parts": 1}
    return {**recorded, "images": [[["a"]]], "device": "cpu", "precision": "32-true", "values": {}, **changes}


def replay_files(path: Path) -> Iterator[Path]:
    """Yield files that are no replay, or only look like one."""
    for content in (b"", b"\0" * 100, b"[]"):
        path.write_bytes(content)
        yield path
    wrong = (
        {},
        {"images": []},
        {"images": [[]]},
        {"processes": 10**9},
        {"parts": "x"},
        {"recipe": [1]},
        {"recipe": {}},
    )
    for changes in wrong:
        save_tensors({"a": torch.zeros(1)}, path, {"latsem replay": json.dumps(notes(**changes))})
        yield path
    for note in ("", "3", "{}", "[" * 10_000, json.dumps({**notes(), "more": 1})):
        save_tensors({"a": torch.zeros(1)}, path, {"latsem replay": note})
        yield path
    weights = image_model(load("pixel_jit", QUICK), 5).model.state_dict()
    tensors = {f"model/{name}": value for name, value in weights.items()}
    save_tensors(tensors, path, {"latsem replay": json.dumps(notes())})
    yield path


def test_what_is_no_replay_file_is_one_line(tmp_path: Path) -> None:
    for path in replay_files(tmp_path / "step.safetensors"):
        with pytest.raises(UserError) as refused:
            replay_file(path)
        assert str(path) in str(refused.value)
    with pytest.raises(UserError, match="is not a regular file"):
        replay_file(tmp_path)
    with pytest.raises(UserError, match="is missing"):
        replay_file(tmp_path / "nothing")


def test_a_file_in_the_place_of_a_folder_is_one_line_in_any_locale(
    cli: Callable[..., subprocess.CompletedProcess[str]], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names whose letters the locale does not have are shown with escapes."""
    run = Path(shutil.copytree(whole, tmp_path / "l\u00e4ufe" / "run"))
    shutil.rmtree(run / "samples")
    (run / "samples").touch()
    for name, value in {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    done = cli("sample", str(run), "-n", "1")
    assert done.returncode == 2 and done.stderr.endswith("ufe/run/samples: File exists\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1 and "\\udcc3" in done.stderr
