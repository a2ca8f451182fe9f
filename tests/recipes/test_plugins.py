"""Plug-ins: found beside the file that names them, kept in the run, and never run by themselves."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK_JOINT

from latsem.backends.errors import UserError
from latsem.backends.run_folder import RunFolder, identity
from latsem.recipes import load
from latsem.recipes.recipe import completed, of_run
from latsem.recipes.resuming import resume

Cli = Callable[..., subprocess.CompletedProcess[str]]


def plugin(path: Path, name: str, factor: int = 2, kept: str = "") -> Path:
    """Write a plug-in with a projection, which leaves a trace of having been run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "from pathlib import Path\n"
        "from latsem.components import register\n"
        "from latsem.components.projections.pca import PCAProjection\n"
        "from latsem.components.projections.settings import PCASettings\n\n\n"
        f"FACTOR = {factor}\n"
        f"{kept}\n"
        "class Sharper(PCAProjection):\n"
        "    def forward(self, grid):\n"
        "        return super().forward(grid) * FACTOR\n\n\n"
        f"@register('projection', '{name}', builds=Sharper)\n"
        "class SharperSettings(PCASettings):\n"
        "    '''Principal components, further from the noise.'''\n"
    )
    return path


def recipe_of(folder: Path, name: str) -> Path:
    recipe = folder / "mine.yaml"
    recipe.write_text(f"base: pixel_redi\nplugins: [mine.py]\nprojection: {name}\n")
    return recipe


def test_a_plugin_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    plugin(tmp_path / "below" / "mine.py", "of_the_base", factor=3)
    plugin(tmp_path / "mine.py", "of_the_top", factor=4)
    plugin(tmp_path / "here" / "mine.py", "of_the_command_line", factor=5)
    recipe_of(tmp_path / "below", "of_the_base")
    (tmp_path / "top.yaml").write_text("base: below/mine.yaml\n")
    loaded = load(tmp_path / "top.yaml", data="unused")
    assert [each.file for each in loaded.plugins] == [tmp_path / "below" / "mine.py"]
    assert loaded.settings.projection is not None and loaded.settings.projection.name == "of_the_base"
    # What the base needs stays, whatever else is named above it.
    (tmp_path / "top.yaml").write_text("base: below/mine.yaml\nplugins: [mine.py]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "here")
        loaded = load(tmp_path / "top.yaml", ["plugins=[mine.py]", "projection=of_the_command_line"], data="unused")
    folders = [each.file.parent.name for each in loaded.plugins]
    assert folders == ["below", tmp_path.name, "here"] and len(loaded.resolved()["plugins"]) == 3
    assert loaded.settings.projection is not None and loaded.settings.projection.channels == 16


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("[absent.py]", "there is no Python file of that name"),
        ("[.]", "there is no Python file of that name"),
        ("[text.txt]", "there is no Python file of that name"),
        ("[wrong.py]", "wrong.py: SyntaxError"),
        ("[{file: good.py, sha256: '%s'}]" % ("0" * 64), "good.py: was edited: its SHA-256 begins with"),
        ("[{file: good.py, sha: 1}]", "plugins.0.sha: unknown key"),
        ("[[good.py]]", "plugins.0: "),
        ("{good.py: 1}", "plugins: "),
        ("3.py", "there is no Python file of that name"),
    ],
)
def test_what_is_no_plugin_is_one_line_with_its_place(named: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("1\n")
    (tmp_path / "wrong.py").write_text("def :\n")
    (tmp_path / "good.py").write_text("GOOD = 1\n")
    (tmp_path / "r.yaml").write_text(f"base: pixel_jit\nplugins: {named}\n")
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "r.yaml")
    assert caught.value.problems[0].startswith(f"{tmp_path / 'r.yaml'}:2: plugins")


def test_the_recipe_of_a_run_is_that_run(tmp_path: Path) -> None:
    plugin(tmp_path / "mine.py", "kept_with_the_run")
    changes = [*QUICK_JOINT, "evaluate.samples=0", "train.picture_images=0", "projection.channels=3"]
    first = load(recipe_of(tmp_path, "kept_with_the_run"), changes)
    folder = first.run(root=tmp_path / "runs", quiet=True).folder
    again = load(folder / "recipe.yaml")
    assert again.name == "mine" and again.settings.train.steps == 4
    assert identity(again.resolved()) == identity(first.resolved())
    assert again.run(root=tmp_path / "runs", quiet=True).folder == folder
    (tmp_path / "mine.py").unlink()
    (tmp_path / "mine.yaml").unlink()
    assert identity(load(folder / "recipe.yaml").resolved()) == identity(first.resolved())


def test_an_edited_plugin_is_noticed(tmp_path: Path) -> None:
    mine = plugin(tmp_path / "mine.py", "edited_later")
    changes = [*QUICK_JOINT, "evaluate.samples=0", "train.picture_images=0"]
    recipe = recipe_of(tmp_path, "edited_later")
    folder = load(recipe, changes).run(root=tmp_path / "runs", name="one", quiet=True).folder
    run, stored = RunFolder(folder, completed), folder / "plugins" / "mine.py"
    assert stored.read_text() == mine.read_text()
    plugin(mine, "edited_later", factor=7)
    for use in (lambda words: resume(folder, places=words, quiet=True), lambda words: of_run(run, words)):
        with pytest.raises(UserError, match=f"mine.py was edited since; .* 'plugins=.{stored}.'"):
            use([f"plugins=[{mine}]"])
        use([f"plugins=[{stored}]"])
    with pytest.raises(UserError, match="belongs to a run of another recipe .plugins"):
        load(recipe, changes).run(root=tmp_path / "runs", name="one", quiet=True)
    assert load(recipe, changes).run(root=tmp_path / "runs", quiet=True).folder != folder


def test_printed_commands_work_and_nothing_of_a_run_is_run_by_itself(cli: Cli, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    plugin(tmp_path / "my parts" / "mine.py", "marked", kept=f"Path({str(mark)!r}).touch()\n")
    recipe_of(tmp_path / "my parts", "marked")
    changes = [*QUICK_JOINT, "evaluate.samples=0", "train.picture_images=0"]
    done = cli("run", "my parts/mine.yaml", *changes, "--root", "my runs", "--name", "it")
    assert done.returncode == 0, done.stderr
    _, *words = shlex.split(done.stdout.splitlines()[-1].removeprefix("next"))
    assert words[-1] == 'plugins=["my parts/mine.py"]'
    mark.unlink()
    refused = cli("sample", "my runs/mine/it", "-n", "2")
    assert refused.returncode == 2 and words[-1] in refused.stderr and not mark.exists()
    for command in (
        words,
        ["run", "--resume", "my runs/mine/it", words[-1]],
        ["features", words[1], "x.png", words[-1]],
    ):
        (tmp_path / "x.png").write_bytes((tmp_path / "my runs/mine/it/semantics/evolution.png").read_bytes())
        again = cli(*command)
        assert again.returncode == 0, again.stderr
    assert mark.exists()
    for command in (["list", "projection"], ["list"], ["show", "marked"], ["check", "pixel_redi", "projection=marked"]):
        told = cli(*command, words[-1])
        assert told.returncode == 0 and (command[0] == "check" or "further from the noise" in told.stdout), told
