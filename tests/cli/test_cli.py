from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from conftest import QUICK_JOINT
from safetensors.torch import load_file

from latsem.backends.errors import Interrupted, UserError
from latsem.backends.fitting import fit_statistics
from latsem.backends.hardware import make_fabric
from latsem.backends.settings import CacheSettings, EvaluateSettings, FabricSettings, StreamSettings, TrainSettings
from latsem.cli.commands import COMMANDS, call
from latsem.components.settings import Settings
from latsem.recipes import load
from latsem.recipes.assemble import assemble
from latsem.recipes.catalogue import describe
from latsem.recipes.layers import shipped_recipes

Cli = Callable[..., subprocess.CompletedProcess[str]]

IMPORTED = """
import sys
sys.argv = ["latsem", {argv}]
from latsem.cli.main import main
try:
    main()
except SystemExit as ended:
    print(ended.code, *[name for name in ("torch", "numpy", "rich", "pydantic") if name in sys.modules])
"""


def imported(*argv: str) -> tuple[int, set[str], str]:
    """Return the exit code of a command, what was imported for it and is slow, and what it said."""
    code = IMPORTED.format(argv=", ".join(map(repr, argv)))
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    said, _, last = done.stdout.rstrip().rpartition("\n")
    ended, *names = last.split()
    return int(ended), set(names), said + done.stderr


LOOKS = [
    ("list",),
    ("list", "encoders"),
    ("list", "studies"),
    ("show", "coevolving"),
    ("show", "pixel_coredi"),
    ("show", "train"),
    ("show", "fabric.devices"),
    ("show", "studies/shapes"),
    ("show", "imagenet256/latent_coredi_xl"),
]


@pytest.mark.parametrize("argv", LOOKS)
def test_looking_imports_no_torch(argv: tuple[str, ...]) -> None:
    assert imported(*argv)[:2] == (0, {"pydantic"})


@pytest.mark.parametrize(
    "argv",
    [
        ("list", "encodr"),
        ("show", "coevolvin"),
        ("show", "dinov2_base_re"),
        ("show", "train.stesp"),
        ("check", "pixel_cored"),
        ("check", "pixel_coredi", "denoiser.depht=3"),
        ("check", "pixel_coredi", "denoiser.depth=x", "data=folder", "data.root=/nowhere"),
        ("check", "pixel_coredi", "encoder=dinov2_bas_reg"),
        ("check", "pixel_coredi", "encoder=shapes_dno"),
        ("check", "pixel_coredi", "encoder=shape_vit"),
        ("check", "pixel_coredi", "encoder=random_vti"),
        ("check", "pixel_coredi", "encoder=imagenet_lite3"),
        ("check", "pixel_coredi", "encoder=dinov4_base"),
        ("check", "pixel_coredi", "--device", "h10"),
        ("check", "pixel_coredi", "evaluate.extractor=shapes_scorr"),
        ("check", "pixel_coredi", "evaluate.extractor=dinov2_larg"),
        ("run", "pixel_coredi", "denoiser.depht=3"),
    ],
)
def test_a_mistake_is_found_without_torch(argv: tuple[str, ...]) -> None:
    assert imported(*argv)[:2] == (2, {"pydantic"})


@pytest.mark.parametrize("argv", [("smaple",), ("sample",), ("sample", "--cuont", "3"), ("--versoin",)])
def test_so_is_a_slip_of_the_pen(argv: tuple[str, ...]) -> None:
    ended, names, said = imported(*argv)
    assert ended == 2 and names <= {"pydantic"} and said.startswith("Usage: latsem ")
    assert argv != ("smaple",) or "did you mean 'sample'?" in said.lower()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_help_imports_nothing_that_is_slow(name: str) -> None:
    ended, names, said = imported(name, "--help")
    assert (ended, names) == (0, set()) and said.startswith(f"Usage: latsem {name} ")


def test_the_overview_imports_nothing_that_is_slow_and_has_a_whole_line_of_each_command() -> None:
    ended, names, said = imported("--help")
    assert (ended, names) == (0, set())
    for name, (_, line) in COMMANDS.items():
        assert f"\n  {name:<8}  {line}\n" in said
    assert imported()[2].strip() == said.strip()


def test_examples_of_the_overview_are_commands_that_work(cli: Cli, photos: Path) -> None:
    """As far as they go without a run: what a recipe and its changes are is read, and found to be without mistakes."""
    lines = [line.split() for line in cli("--help").stdout.splitlines() if line.startswith("    latsem ")]
    named = {words[1] for words in lines}
    assert {"run", "check", "sample", "compare"} <= named <= set(COMMANDS)
    for words in lines:
        if words[1] in ("run", "check"):
            load(
                words[2],
                [word.replace("data.root=photos", f"data.root={photos}") for word in words[3:]],
                data="expected",
            )


def test_list_names_parts_and_recipes(cli: Cli) -> None:
    everything = cli("list").stdout
    assert all(name in everything for name in ("shapes_vit", "coevolving", "heun", "pixel_coredi", "frechet"))
    some = cli("list", "encoders").stdout
    assert "shapes_dino" in some and "heun" not in some
    assert "dinov2_base_reg" in some and "cc-by-nc-4.0" in some
    fitting = cli("list", "encoders", "*small*dinov3*").stdout
    assert "vit_small_patch16_dinov3.lvd1689m" in fitting and "shapes_dino" not in fitting
    nothing = cli("list", "encoders", "dinov2_bas")
    assert nothing.returncode == 2 and "did you mean 'dinov2_base'" in nothing.stderr
    wrong = cli("list", "encodr")
    assert (wrong.returncode, wrong.stdout) == (2, "") and "did you mean 'encoder'" in wrong.stderr


def test_show_a_part_and_a_recipe(cli: Cli) -> None:
    part = cli("show", "coevolving").stdout
    assert "regularizer.cov" in part and "float, >= 0, default 0.1" in part and "CoReDi" in part
    recipe = cli("show", "pixel_coredi", "encoder=random_vit").stdout
    assert "name: random_vit" in recipe and "norm_momentum: 0.1" in recipe
    for slip, meant in (("coevolvin", "coevolving"), ("train.stesp", "steps"), ("studies/shape", "studies/shapes")):
        wrong = cli("show", slip)
        assert wrong.returncode == 2 and f"did you mean '{meant}'" in wrong.stderr


@pytest.mark.parametrize("section", ["train", "evaluate", "cache", "fabric", "streams"])
def test_show_a_section_with_every_setting_its_default_and_its_bounds(section: str) -> None:
    shown = describe(section)
    settings: dict[str, type[Settings]] = {
        "train": TrainSettings,
        "evaluate": EvaluateSettings,
        "cache": CacheSettings,
        "fabric": FabricSettings,
        "streams": StreamSettings,
    }
    for name, field in settings[section].model_fields.items():
        (line,) = [line for line in shown.splitlines() if line.startswith((f"  {name} ", f"  {name}.images "))]
        assert field.description is None or name == "reference" or line.endswith(field.description)
    assert describe("fabric.num_nodes").splitlines()[-1].startswith("  num_nodes  int, >= 1, default 1")


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("imagenet")])
def test_show_a_recipe_whose_data_and_models_are_not_here(name: str) -> None:
    assert yaml.safe_load(describe(name)) == load(name, data="unused").resolved()


def test_show_an_encoder_that_has_no_short_name() -> None:
    name = "vit_small_patch16_224.augreg_in21k"
    shown, listed = describe(name).splitlines(), describe("dinov2_small").splitlines()
    assert shown[0] == f"encoder {name}" and "patch 16, width 384" in shown[2]
    assert [line.split()[0] for line in shown[4:]] == [line.split()[0] for line in listed[4:]]
    with pytest.raises(UserError, match="cannot be an encoder"):
        describe("inception_v3.tv_in1k")
    with pytest.raises(UserError, match="no recipe and no part of that name, did you mean 'vit_small_patch16_224"):
        describe("vit_small_patch16_224x")


def test_list_and_show_the_studies(cli: Cli) -> None:
    assert "studies/shapes  Images alone" in cli("list").stdout
    for name in ("studies/shapes", "recipes/studies/shapes.yaml"):
        shown = yaml.safe_load(describe(name))
        assert shown["seeds"] == [1, 2, 3] and shown["tables"][0]["rows"]["CoReDi"]["recipe"] == "pixel_coredi"


def test_mistakes_are_lines_with_exit_code_2_and_nothing_written(cli: Cli, tmp_path: Path) -> None:
    for command in ("check", "run"):
        done = cli(command, "pixel_coredi", "denoiser.depht=3", "train.steps=x", "data=folder", "data.root=/nowhere")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 2, done.stderr
    clash = cli("run", "pixel_coredi", "denoiser.patch=7")
    assert (clash.returncode == 2 and clash.stderr.startswith("recipes")) or "denoiser.patch" in clash.stderr
    assert cli("run", "absent.yaml").returncode == 2
    escape = cli("run", "pixel_coredi", "--name", "../elsewhere")
    assert escape.returncode == 2 and "is not a folder name" in escape.stderr
    assert cli("sample", "runs/nothing").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_check_says_what_a_recipe_takes(cli: Cli, tmp_path: Path) -> None:
    arguments = ("check", "latent_coredi", "fabric.accelerator=cpu", "train.batch_size=8", "train.micro_batch=2")
    shown = cli(*arguments)
    assert shown.returncode == 0 and shown.stderr == "", shown.stderr
    assert shown.stdout.splitlines()[-1] == "latent_coredi: no mistakes found"
    for word in ("semantic", "M trained", "multiply-adds", "8 = 1 x 2 x 4", "activations", "checkpoint", "'full'"):
        assert word in shown.stdout
    found = json.loads(cli(*arguments, "--json").stdout)
    memory = found["memory"]
    parts = sum(value for name, value in memory.items() if name != "phases")
    assert parts == memory["phases"]["training"] and found["peak"] >= found["baseline"] + parts
    assert found["parameters"]["projection"] == 96 * 16 and found["plan"]["accumulation"] == 4
    assert found["does_not_fit"] == [] and list(tmp_path.iterdir()) == []
    huge = cli("check", "latent_sit", "denoiser.size=XL", "train.batch_size=100000", "fabric.accelerator=cpu")
    assert huge.returncode == 1 and "does not fit: memory" in huge.stdout
    planned = ("check", "pixel_jit", "denoiser.width=256", "train.batch_size=8", "--device")
    assert cli(*planned, "2x80GB").returncode == 0 and cli(*planned, "2x0.001GB", "--json").returncode == 1


def test_check_counts_data_that_is_not_here_as_expected(cli: Cli) -> None:
    absent = ("check", "latent_sit", "data=folder", "data.root=/nowhere", "data.image_size=256", "denoiser.size=B")
    hub = ("tokenizer.model=stabilityai/sd-vae-ft-ema", "train.batch_size=2", "--device", "cpu:64GB")
    assert cli(*absent, *hub).returncode == 2
    expected = cli(*absent, *hub, "data.expect_images=1000", "data.expect_classes=1000", "--json")
    assert expected.returncode == 0, expected.stderr
    (line,) = expected.stderr.splitlines()
    assert line.startswith("warning: data.root") and "the data is not here: counted as expected" in line
    found = json.loads(expected.stdout)
    assert found["images"] == found["classes"] == 1000
    assert found["parameters"]["tokenizer"] == 83_653_863
    assert abs(found["arithmetic"]["forward_multiply_adds"] / 23.0e9 - 1) < 0.02


def test_the_whole_journey(cli: Cli, tmp_path: Path) -> None:
    dry = cli("run", "pixel_coredi", *QUICK_JOINT, "--dry-run")
    assert dry.returncode == 0 and list(tmp_path.iterdir()) == []
    for word in ("device", "precision", "attention", "parameters", "tokens", "8 = 1 x 8 x 1", "epochs", "seed"):
        assert word in dry.stdout
    done = cli("run", "pixel_coredi", *QUICK_JOINT, "--name", "first")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "pixel_coredi" / "first"
    assert "frechet" in done.stdout and "latsem sample runs/pixel_coredi/first" in done.stdout
    recorded = json.loads((folder / "resolved.json").read_text())
    assert recorded["recipe"]["train"]["steps"] == 4 and recorded["streams"]["semantic"]["channels"] == 16
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["train"]["steps"] == 4
    assert json.loads((folder / "environment.json").read_text())["versions"]["torch"]
    assert list((folder / "tensorboard").glob("events.*"))
    drawn = cli("sample", "runs/pixel_coredi/first", "-n", "3", "--seed", "1", "guidance.scale=3", "sampler=euler")
    assert drawn.returncode == 0 and (tmp_path / drawn.stdout.strip()).is_file()
    again = cli("run", "pixel_coredi", *QUICK_JOINT, "--name", "first")
    assert again.returncode == 0 and "done already" in again.stdout
    other = cli("run", "pixel_coredi", *QUICK_JOINT, "train.seed=5", "--name", "first")
    assert other.returncode == 2 and "train.seed: 0 -> 5" in other.stderr


ENDLESS = ["run", "pixel_jit", *QUICK_JOINT[:-1], "train.steps=100000"]


@contextmanager
def training(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A real process that trains and has logged something."""
    command = [sys.executable, "-m", "latsem.cli", *ENDLESS]
    with subprocess.Popen(command, cwd=folder, stdout=-3, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not any(
            path.stat().st_size for path in folder.glob("runs/*/*/metrics.jsonl")
        ):
            time.sleep(0.2)
        yield process


def test_a_run_has_one_process(cli: Cli, tmp_path: Path) -> None:
    with training(tmp_path) as process:
        second = cli(*ENDLESS)
        process.kill()
    assert second.returncode == 2 and "another process is training this run" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_step_keeps_a_checkpoint_and_has_its_exit_code(number: signal.Signals, tmp_path: Path) -> None:
    with training(tmp_path) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "the same command goes on from there" in errors and "Traceback" not in errors
    step = int(errors.split("stopped after step ")[1].split(";")[0])
    assert list(tmp_path.glob(f"runs/*/*/checkpoints/step-{step:08d}/model.safetensors"))


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    """In the middle of a step that does not end."""
    hanging = (
        "import sys, time\n"
        "from latsem.backends.training import Trainer\n"
        "from latsem.cli.main import main\n"
        "def hang(*_):\n"
        "    print('hanging', flush=True)\n"
        "    time.sleep(600)\n"
        "Trainer._one_step = hang\n"
        f"sys.argv = ['latsem', *{ENDLESS!r}]\n"
        "main()\n"
    )
    command = [sys.executable, "-c", hanging]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "hanging" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_that_diverges_says_how_to_see_why(devices: int, cli: Cli, tmp_path: Path) -> None:
    """On two processes, too: the line is said once, nobody waits for the other, and the step is computed again."""
    wild = ("train.lr=1e30", "train.warmup=0", "train.steps=20", f"fabric.devices={devices}", "train.clip=0")
    failed = cli("run", "pixel_jit", *QUICK_JOINT[:-1], *wild, "fabric.accelerator=cpu")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr, failed.stderr
    line = next(line for line in failed.stderr.splitlines() if "latsem replay" in line)
    assert "the loss or the gradient is not finite" in line
    file = line.split("latsem replay ")[1].split(" computes it again")[0]
    replayed = cli("replay", file)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "the same as recorded, bit for bit" in replayed.stdout and f"{devices} process(es)" in replayed.stdout
    assert "gradients that are not finite: " in replayed.stdout
    assert cli("replay", "README.md").returncode == 2


def test_compare_runs_what_is_missing_and_prints_a_table(cli: Cli, tmp_path: Path) -> None:
    changes = [argument for change in QUICK_JOINT[:-1] for argument in ("--set", change)]
    done = cli("compare", "pixel_jit", "pixel_coredi", "--seeds", "2", *changes, timeout=400)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| pixel_") and "(n=2)" in line]
    assert len(rows) == 2 and "| 1.00 |" in rows[0]
    assert len(list(tmp_path.glob("runs/*/*/done.json"))) == 4


def test_two_processes_train_one_model(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "pixel_coredi", *QUICK_JOINT, "fabric.devices=2", "fabric.accelerator=cpu", "--name", "two")
    assert done.returncode == 0, done.stderr
    assert "8 = 2 x 4 x 1" in done.stdout and done.stdout.count("samples ") == 1
    folders = list((tmp_path / "runs" / "pixel_coredi").iterdir())
    assert [folder.name for folder in folders] == ["two"]
    assert json.loads((folders[0] / "done.json").read_text())["step"] == 4
    # Each process measured half of the images; together that is what one measures alone.
    assembly = assemble(load("pixel_coredi", QUICK_JOINT))
    fit_statistics(assembly, make_fabric(FabricSettings(accelerator="cpu")))
    together = load_file(folders[0] / "checkpoints" / "step-00000004" / "ema.safetensors")
    for name in ("mean", "std"):
        assert torch.allclose(together[f"projection.{name}"], assembly.model.state_dict()[f"projection.{name}"])


def test_native_half_precision_trains(cli: Cli) -> None:
    done = cli("run", "pixel_coredi", *QUICK_JOINT, "fabric.precision=bf16-mixed")
    assert done.returncode == 0, done.stderr
    assert "bf16-mixed" in done.stdout and "frechet" in done.stdout
    assert not done.stderr


def test_a_kernel_that_cannot_run_here_is_refused_before_anything_is_written(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "pixel_jit", "denoiser.attention=xformers")
    assert done.returncode == 2 and "denoiser.attention: xformers has no kernels for cpu" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["evaluate", "run"], ["compare", "pixel_jit"]])
def test_ctrl_c_says_that_the_same_command_goes_on(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("latsem.recipes.evaluating.evaluate_run", stopped)
    monkeypatch.setattr("latsem.recipes.comparing.command.compare", stopped)
    with pytest.raises(Interrupted, match="^stopped; the same command goes on from there$"):
        call(command)


def test_a_run_with_a_plug_in_says_so_and_runs_it_only_where_it_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from latsem.components import register\n"
        "from latsem.components.samplers.ode import Euler\n"
        "from latsem.components.samplers.settings import SamplerSettings\n\n"
        "@register('sampler', 'in_few_steps', builds=Euler)\n"
        "class FewSteps(SamplerSettings):\n"
        "    '''Euler, of my own.'''\n"
        "    steps: int = 2\n"
    )
    (tmp_path / "mine.yaml").write_text("base: pixel_jit\nplugins: [mine.py]\nsampler: in_few_steps\n")
    changes = [change for change in QUICK_JOINT[:-1] if not change.startswith("sampler")]
    done = cli("run", "mine.yaml", *changes, "evaluate.samples=0", "--name", "run")
    assert done.returncode == 0 and done.stderr == f"running plug-in {tmp_path / 'mine.py'}\n"
    folder = "runs/mine/run"
    without, named = cli("sample", folder, "-n", "2"), cli("sample", folder, "-n", "2", "plugins=[mine.py]")
    assert without.returncode == 2 and "unknown sampler 'in_few_steps'" in without.stderr
    assert (
        f"{folder}: was trained with plug-ins; if parts are missing, name them: 'plugins=[mine.py]'" in without.stderr
    )
    assert named.returncode == 0 and named.stderr == f"running plug-in {tmp_path / 'mine.py'}\n"
