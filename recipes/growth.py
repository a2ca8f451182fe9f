"""How the cost of a training step grows: with tokens, batch, width and streams, beside what arithmetic predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backends.benching.growth import Point, growth_page
from ..backends.benching.results import Measured, Report
from ..backends.benching.subjects import Subject
from ..backends.files import write_atomically
from ..components.denoisers.settings import SizedSettings
from .benching import Bench, image_only, load_bare, run_subjects, subjects_of
from .recipe import Recipe

BATCHES, WIDTHS = (0.5, 2.0, 4.0), (0.5, 2.0)
PATCHES = (2.0, 0.5)


@dataclass(frozen=True)
class Variant:
    """A recipe with one of its sizes changed by a factor; the factor 1 is the recipe itself."""

    axis: str
    factor: float
    recipe: Recipe


def measure_growth(recipe: str, changes: Sequence[str], how: Bench, out: Path | None = None) -> tuple[Report, Path]:
    """Do what `latsem bench --what growth` does: time every variant in turn, and write a page with one plot.

    Raises:
        UserError: a recipe with mistakes.
        OSError: the page cannot be written.
    """
    base = load_bare(recipe, changes)
    every = [Variant("", 1.0, base), *variants(base, recipe, changes)]
    subjects = [_named(variant, how) for variant in every]
    report = run_subjects("growth", subjects, base, how)
    points = list(_points(every, subjects, report.measured))
    path = out or Path(f"growth-{base.name}.html")
    write_atomically(path, growth_page(" ".join([recipe, *changes]), points, report))
    return report, path


def variants(base: Recipe, recipe: str, changes: Sequence[str]) -> Iterator[Variant]:
    """Yield what can be changed of a recipe: its batch, and of a transformer of known size, tokens and width."""

    def changed(axis: str, factor: float, *more: str) -> Variant:
        return Variant(axis, factor, load_bare(recipe, [*changes, *more]))

    batch = base.settings.train.batch_size
    for factor in BATCHES:
        yield changed("batch", factor, f"train.batch_size={int(batch * factor)}", "train.micro_batch=auto")
    denoiser = base.settings.denoiser
    if isinstance(denoiser, SizedSettings):
        size = denoiser.dimensions()
        for factor in WIDTHS:
            width, heads = int(size.width * factor), int(size.heads * factor)
            if heads:
                yield changed("width", factor, f"denoiser.width={width}", f"denoiser.heads={heads}")
    for factor in PATCHES:
        patch = denoiser.patch * factor
        if patch == int(patch):
            yield changed("tokens", factor**-2, f"denoiser.patch={int(patch)}")
    if base.settings.encoder is not None:
        yield Variant("streams, merged", 0.5, image_only(base))
        yield changed("streams, separate", 1.0, "denoiser.fusion=separate")


def _named(variant: Variant, how: Bench) -> Subject:
    name = f"{variant.axis} x {variant.factor:g}" if variant.axis else "the recipe"
    [subject] = subjects_of(name, variant.recipe, how)
    return subject


def _points(every: Sequence[Variant], subjects: Sequence[Subject], measured: Sequence[Measured]) -> Iterator[Point]:
    base = measured[0].seconds.median / subjects[0].flops
    for variant, subject, found in zip(every, subjects, measured, strict=True):
        yield Point(variant.axis, variant.factor, found.seconds, base * subject.flops)
