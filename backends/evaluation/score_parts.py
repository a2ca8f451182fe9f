"""What scores are made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import UserError
from ..settings import EvaluateSettings
from .collected import Probe
from .references import Reference, SourceReference


@dataclass(frozen=True)
class ScoreParts:
    """What scores are made with.

    Attributes:
        probes: every metric on everything that it is computed of.
        reference: what generated images are compared with.
        data: images whose semantic streams the generated ones are compared with; None: these are not scored.
        extractor_identity: what the extractor's features depend on, as JSON values.
        better: which way is better, by name of a score.
    """

    settings: EvaluateSettings
    extractor: Any
    extractor_identity: dict[str, Any]
    probes: tuple[Probe, ...]
    reference: Reference
    data: SourceReference | None
    better: dict[str, str]

    def require_enough(self) -> None:
        """Check the number of the reference's images, before any is generated.

        Raises:
            UserError: too few for a metric.
        """
        extractor = self.settings.extractor
        try:
            published = self.reference.moments(extractor.name, extractor.width()) is not None
        except ValueError as error:
            raise UserError(f"evaluate.reference: {error}") from None
        if not len(self.reference) and not published:
            raise UserError(
                f"evaluate.reference: {self.reference.identity()['what']['file']} has no images, only moments of "
                f"inception's features, which '{extractor.name}' does not give"
            )
        problems = [
            metric.shortage(extractor.width(), len(self.reference), of_reference=True)
            for metric in self.settings.metrics
            if metric.reads() == "features" and not (published and metric.reference() == "moments")
        ]
        if any(problems):
            raise UserError(*(f"evaluate.reference: {problem}" for problem in problems if problem))
