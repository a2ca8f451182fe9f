from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["components", "backends", "recipes", "cli"]


def test_every_package_folder_is_listed_and_ships_its_data() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        "latsem." + ".".join(path.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert listed == there


def test_imports_run_one_way() -> None:
    """cli -> recipes -> backends -> components, and no kind of part imports a sibling kind's implementation."""
    order = {room: level for level, room in enumerate(ROOMS)}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            depth = len(path.relative_to(ROOT / room).parts)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level > depth and node.module:
                    target = node.module.split(".")[0]
                    assert order[target] <= order[room], f"{path} imports {node.module}"


def test_kinds_do_not_import_each_other() -> None:
    kinds = [path.name for path in (ROOT / "components").iterdir() if (path / "__init__.py").exists()]
    for kind in kinds:
        for path in (ROOT / "components" / kind).rglob("*.py"):
            depth = len(path.relative_to(ROOT / "components" / kind).parts)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level == depth + 1 and node.module:
                    assert node.module.split(".")[0] not in kinds, f"{path} imports {node.module}"


def test_shipped_weights_are_small() -> None:
    weights = list((ROOT / "components").rglob("weights/*.safetensors"))
    assert {path.stem for path in weights} == {"shapes_vit", "shapes_dino", "shapes_scorer"}
    assert all(path.stat().st_size < 1_000_000 for path in weights)


def test_the_shipped_autoencoder_is_small_and_can_be_made_again(tmp_path: Path) -> None:
    """A folder in diffusers' format under 2 MB; the documented command writes the same files, by its seed alone."""
    shipped = ROOT / "components" / "tokenizers" / "weights" / "shapes_vae"
    assert sum(path.stat().st_size for path in shipped.iterdir()) < 2_000_000
    command = [sys.executable, "-m", "latsem.backends.pretraining", "shapes_vae", "--steps", "2"]
    made = [tmp_path / "one", tmp_path / "two"]
    for out in made:
        subprocess.run([*command, "--out", str(out)], check=True, capture_output=True, timeout=300)
    assert {path.name for path in made[0].iterdir()} == {path.name for path in shipped.iterdir()}
    for path in made[0].iterdir():
        assert path.read_bytes() == (made[1] / path.name).read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) for folder in (made[0], shipped)]
    measured = {"scaling_factor", "shift_factor", "_diffusers_version", "_name_or_path"}
    assert {k: v for k, v in configs[0].items() if k not in measured} == {
        k: v for k, v in configs[1].items() if k not in measured
    }


@pytest.mark.parametrize("network", ["shapes_vit", "shapes_dino", "shapes_scorer"])
def test_shipped_networks_can_be_made_again(network: str, tmp_path: Path) -> None:
    """The documented command trains and writes weights of the shipped layout; the same seed, the same bits."""
    from safetensors.torch import load_file

    command = [sys.executable, "-m", "latsem.backends.pretraining", network, "--steps", "2"]
    for out in ("one", "two"):
        subprocess.run([*command, "--out", str(tmp_path / out)], check=True, capture_output=True, timeout=120)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    shipped = next((ROOT / "components").rglob(f"weights/{network}.safetensors"))
    made, there = load_file(tmp_path / "one"), load_file(shipped)
    assert {key: (x.shape, x.dtype) for key, x in made.items()} == {key: (x.shape, x.dtype) for key, x in there.items()}


def test_the_wheel_holds_recipes_and_weights_and_works_by_itself(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300, cwd=tmp_path)
    wheel = next(tmp_path.glob("latsem-*.whl"))
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import latsem.components.registry as r, latsem.recipes.layers as l\n"
        f"assert r.__file__.startswith({str(target)!r}), r.__file__\n"
        "assert 'pixel_coredi' in l.shipped_recipes()\n"
        "path = l.find_recipe('imagenet512/latent_redi_xl')\n"
        "values = l.read_layers(path, ()).values\n"
        "assert (values['data']['image_size'], values['denoiser']['size']) == (512, 'XL')\n"
        "assert l.recipe_name(path) == 'imagenet512-latent_redi_xl'\n"
        "from pathlib import Path\n"
        "import latsem.backends.reporting.page as page\n"
        "assert {p.name for p in (Path(page.__file__).parent / 'templates').iterdir()} >= {'run.html', 'style.css'}\n"
        "print(r.create('encoder', 'shapes_vit') is not None, r.create('extractor', 'shapes_scorer') is not None, "
        "r.create('tokenizer', 'vae') is not None)\n"
    )
    # -I and -S-like isolation: the editable install's finder must not answer for the wheel.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "True True True", done.stderr
