"""Scores of a model, with the protocol that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from ...components.images import to_pixels
from ...components.rows import equal_pieces
from ...components.streams import SEMANTIC
from ..assembly import ImageModel
from ..console import RunConsole
from ..errors import RunFailed
from ..files import short_digest, write_json
from ..generation import ImageGenerator
from ..hardware import code_version
from ..model import JointModel
from ..run_folder import RunFolder
from ..tensor_files import load_tensors, save_tensors
from .collected import FEATURES, SEMANTIC_CELLS, Collected, Probe, compute, extracted
from .protocol import Alike, Protocol, answers, digest, recipe_protocol
from .records import Record, record_path, scores_of
from .references import SourceReference
from .score_parts import ScoreParts
from .shares import Make, Shares

IMAGE_DIGESTS = "sha256"

Known = dict[str, tuple[Collected, Protocol]]
"""References that have been read, by what their statistics depend on."""


class Scoring:
    """Scores models of one recipe, by one protocol, with all processes.

    Args:
        known: references that were read before, shared between recipes.
    """

    def __init__(
        self,
        parts: ImageModel,
        score: ScoreParts,
        fabric: Fabric,
        *,
        precision: str,
        console: RunConsole,
        known: Known | None = None,
    ) -> None:
        self.parts, self.score, self.settings = parts, score, score.settings
        self.fabric, self.precision, self.console = fabric, precision, console
        self.device: torch.device = fabric.device
        self.known: Known = {} if known is None else known
        score.extractor.to(self.device)

    @cached_property
    def extractor_identity(self) -> dict[str, Any]:
        """What the extractor's features depend on; settings alone do not tell random weights from published ones."""
        return self.score.extractor_identity | {"weights_sha256": weights_digest(self.score.extractor)}

    def record(self, folder: RunFolder, model: JointModel, step: int, *, alike: Alike = answers) -> Record:
        """Return the scores of a run's model at a step, from their file if they are there, or computed and written.

        Args:
            alike: whether scores of one protocol stand for those of another.

        Raises:
            RunFailed: too few images for a metric, or a value that is not finite.
        """
        weights = weights_digest(model)
        # The first process says: others may find files that come or go meanwhile.
        asked, found = self.fabric.broadcast(self._asked_and_found(folder, step, weights, alike))
        if found is not None:
            there: Record = found
            return there
        name = short_digest([asked, weights])
        generated = self._generated(model, folder, name)
        reference, identity = self._reference(folder)
        if self.score.data is not None:
            reference = reference.joined(self._true_semantics(model, self.score.data, folder, name))
        protocol = asked | {"reference": identity}
        record = {"step": step, "hash": digest(protocol), "weights_sha256": weights, "better": self.score.better}
        record |= {"scores": self._computed(generated, reference), "protocol": protocol}
        if self.fabric.is_global_zero:
            folder.require_held()
            write_json(record_path(folder, record), record)
        self.fabric.barrier()
        return record

    def _asked_and_found(
        self, folder: RunFolder, step: int, weights: str, alike: Alike
    ) -> tuple[Protocol, Record | None]:
        asked = self.protocol()
        same = (each for each in scores_of(folder) if each["step"] == step and each["weights_sha256"] == weights)
        return asked, next((record for record in same if alike(record["protocol"], asked)), None)

    def protocol(self) -> Protocol:
        """Return everything that a score depends on apart from the weights; the reference's digest is not known yet."""
        settings, side = self.settings, self.parts.space.image_size
        return {
            **recipe_protocol(self.parts.recipe),
            # An adaptive solver's steps are those of a whole batch.
            **({"batch_size": settings.batch_size} if self.parts.couples_images else {}),
            "labels": settings.labels if self.parts.num_classes else "none",
            "image": f"{side}x{side}, 8 bits",
            "extractor": self.extractor_identity,
            "resize": settings.extractor.resize(),
            "reference": self.score.reference.identity(),
            "semantic": self._semantic_protocol(),
            "precision": self.precision,
            "code": code_version(),
        }

    def read_reference(self, folder: RunFolder) -> Protocol:
        """Return the protocol with the digest of the reference, which is read if it is not known yet."""
        return self.protocol() | {"reference": self._reference(folder)[1]}

    def _metrics(self) -> list[dict[str, Any]]:
        return [metric.model_dump(mode="json") for metric in self.settings.metrics]

    def _semantic_protocol(self) -> dict[str, Any] | None:
        if self.score.data is None:
            return None
        cells = self.settings.semantic_cells
        reference = f"first {len(self.score.data):,} images of the data"
        return {"averaged to": f"{cells}x{cells}", "reference": reference, "data": self.score.data.identity()["what"]}

    def _computed(self, generated: Collected, reference: Collected) -> dict[str, float]:
        """Compute in the first process, and tell the others."""
        scores: dict[str, float] = {}
        problem: str | None = None
        if self.fabric.is_global_zero:
            try:
                scores = compute(self.score.probes, generated, reference)
            except ValueError as error:
                problem = str(error)
        problem, scores = self.fabric.broadcast((problem, scores))
        if problem is not None:
            raise RunFailed(f"no score: {problem}")
        return scores

    def _generated(self, model: JointModel, folder: RunFolder, name: str) -> Collected:
        generator = self.parts.generator(self.device, self.precision, model=model, guided=self.settings.guided)

        def make(piece: range) -> dict[str, Tensor]:
            return self._values_of(generator, piece)

        values = self._values(folder.evaluation / f".generated-{name}", self.settings.samples, make)
        return self._collected(self.score.probes, values)

    def _values_of(self, generator: ImageGenerator, piece: range) -> dict[str, Tensor]:
        streams = generator.streams(piece, self.settings.seed, self.settings.labels)
        # Scored as they would be stored: in 8 bits.
        values = extracted(self.score.extractor, to_pixels(generator.decoded(streams, piece)), self.device)
        if self.score.data is not None:
            values[SEMANTIC_CELLS] = cells(streams[SEMANTIC], self.settings.semantic_cells)
        return values

    def _reference(self, folder: RunFolder) -> tuple[Collected, Protocol]:
        """Return statistics of the reference and its identity with the digest of its images."""
        score, identity = self.score, self.score.reference.identity()
        read = short_digest([identity, self.extractor_identity])
        key = f"{read}-{short_digest(self._metrics())}"
        if key not in self.known:

            def make(piece: range) -> dict[str, Tensor]:
                images = score.reference.images(piece)
                return extracted(score.extractor, images, self.device) | {IMAGE_DIGESTS: image_digests(images)}

            probes = [probe for probe in score.probes if probe.reads != SEMANTIC_CELLS]
            values = self._kept(folder.evaluation / "references" / f"{read}.safetensors", len(score.reference), make)
            hashed = hashlib.sha256(values.pop(IMAGE_DIGESTS, torch.empty(0)).numpy().tobytes()).hexdigest()
            collected = self._collected(probes, values)
            moments = score.reference.moments(score.settings.extractor.name, score.settings.extractor.width())
            if moments is not None:
                collected.replace(FEATURES, moments)
            content: str = self.fabric.broadcast(hashed)
            self.known[key] = collected, {"sha256": content} | identity
        return self.known[key]

    def _true_semantics(self, model: JointModel, data: SourceReference, folder: RunFolder, name: str) -> Collected:
        """Return statistics of the data's semantic streams, which depend on the model where its projection learns."""
        space = self.parts.space

        def make(piece: range) -> dict[str, Tensor]:
            streams = [self._true_stream(model, part) for part in equal_pieces(data.images(piece), space.piece)]
            return {SEMANTIC_CELLS: cells(torch.cat(streams)[: len(piece)], self.settings.semantic_cells)}

        probes = [probe for probe in self.score.probes if probe.reads == SEMANTIC_CELLS]
        values = self._values(folder.evaluation / f".semantics-{name}", len(data), make)
        return self._collected(probes, values)

    def _true_stream(self, model: JointModel, images: Tensor) -> Tensor:
        features = self.parts.space.features(images.to(self.device))
        assert features is not None
        with torch.no_grad():
            return model.semantic_stream(features)

    def _kept(self, path: Path, count: int, make: Make) -> dict[str, Tensor]:
        """Return values from a file, or as `_values` does, and keep them in it."""
        there: bool = self.fabric.broadcast(path.exists())
        if there:
            return load_tensors(path) if self.fabric.is_global_zero else {}
        values = self._values(path.with_name(f".reference-{path.stem}"), count, make)
        if self.fabric.is_global_zero:
            save_tensors(values, path)
        return values

    def _values(self, work: Path, count: int, make: Make) -> dict[str, Tensor]:
        """Return values of images that all processes compute their share of, to the first process alone."""
        shares = Shares(work, count, self.settings.batch_size)
        with self.console.counting(work.name.lstrip(".").partition("-")[0], count) as progress:
            shares.compute(self.fabric, make, progress)
        values = shares.joined() if self.fabric.is_global_zero else {}
        if self.fabric.is_global_zero:
            shares.remove()
        return values

    def _collected(self, probes: Sequence[Probe], values: dict[str, Tensor]) -> Collected:
        """Return statistics of values, added up at once: the sums do not depend on the pieces they came in."""
        collected = Collected(probes)
        collected.update({kind: each.to(self.device) for kind, each in values.items()})
        return collected


def cells(stream: Tensor, side: int) -> Tensor:
    """Return a stream `(B, C, h, w)` averaged to `side x side` cells (or its own grid's, if smaller), flat."""
    pooled = F.adaptive_avg_pool2d(stream.float(), min(side, stream.shape[-1]))
    return pooled.flatten(1)


def image_digests(images: Tensor) -> Tensor:
    """Return the SHA-256 of each image's pixels `(N, 32)` uint8; how images are cut into pieces does not matter."""
    found = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images.contiguous()]
    return torch.from_numpy(np.frombuffer(b"".join(found), np.uint8).reshape(len(found), 32).copy())


def weights_digest(model: nn.Module) -> str:
    """Return sixteen hex digits that tell weights apart."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
