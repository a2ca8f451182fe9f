"""A recipe whose caches and runs lie in a folder of the test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from conftest import QUICK, QUICK_JOINT
from safetensors.torch import load_file

from latsem.backends.caching.folder import CacheFolder
from latsem.recipes import load
from latsem.recipes.caching import make_cache
from latsem.recipes.recipe import Recipe

SHARD = "shard-000001.safetensors"


@dataclass
class Workshop:
    """A recipe whose cache lies in a folder of the test."""

    root: Path

    def recipe(self, name: str = "latent_redi", *overrides: str) -> Recipe:
        quick = QUICK if name in ("latent_sit", "pixel_jit") else QUICK_JOINT
        if any(change.startswith("data=") for change in overrides):
            quick = tuple(change for change in quick if not change.startswith("data."))
        return load(name, [*quick, f"cache.folder={self.root / 'caches'}", "cache.shard_images=64", *overrides])

    def make(self, name: str = "latent_redi", *overrides: str, replace: bool = False) -> Recipe:
        recipe = self.recipe(name, *overrides)
        make_cache(recipe, estimate=False, replace=replace)
        return recipe

    def run(self, recipe: Recipe) -> Path:
        return recipe.run(root=self.root / "runs", quiet=True).folder

    def store(self, name: str) -> CacheFolder:
        """Return the only store whose name begins so."""
        return store_below(self.root / "caches", name)


def store_below(root: Path, name: str) -> CacheFolder:
    [path] = root.glob(f"{name}-*")
    return CacheFolder(path)


def stores_read(feed_name: str) -> list[str]:
    """Return the stores that a feed reads, without what tells one from others of its kind."""
    return [Path(each).name.rpartition("-")[0] for each in feed_name.split(" + ")]


def equal_weights(one: Path, other: Path) -> bool:
    files = [sorted(folder.glob("checkpoints/*/ema.safetensors"))[-1] for folder in (one, other)]
    first, second = (load_file(file) for file in files)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
