"""A step that failed, kept so that it can be computed again: state, batch and seeds in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from pydantic import Field
from torch import Tensor, nn

from ..components.across import alone
from ..components.messages import first_line
from .assembly import ImageModel
from .checkpointing.weights import fill
from .errors import UserError
from .files import Shape, Text, json_object
from .guard import NotFinite
from .loader import LABEL, BatchPlan, step_batches
from .model import JointModel
from .objective import Objective
from .settings import TrainSettings
from .sharding.tensors import in_main_memory
from .space import Encoded
from .tensor_files import load_tensors, open_tensors, save_tensors
from .training import Trainer
from .updates import make_optimizer

_NOTE = "latsem replay"
_MODEL, _BATCH = "model/", "batch/"


@dataclass(frozen=True)
class Recorded:
    """What a replay file says beside its tensors.

    Attributes:
        processes: how many processes trained; each has its own part of the batch.
        parts: micro-batches of a process.
        images: names of the images, by process and part.
        device: kind of device that computed the step.
        values: loss terms and the norm of the gradient, as text (`nan`, or a number with all its digits): the run's
            own or, where no process had all of them at hand, computed once more when the file was written.
    """

    recipe: dict[str, Any]
    num_classes: int
    step: int
    processes: int
    parts: int
    images: list[list[list[str]]]
    device: str
    precision: str
    values: dict[str, str]


class RecordedShape(Shape):
    """What the note of a replay file contains."""

    recipe: dict[Text, Any]
    num_classes: int = Field(ge=0)
    step: int = Field(ge=1)
    processes: int = Field(ge=1)
    parts: int = Field(ge=1)
    images: Annotated[list[Annotated[list[list[Text]], MinLen(1)]], MinLen(1)]
    device: Literal["cpu", "cuda", "mps"]
    precision: Text
    values: dict[Text, Text]


@dataclass(frozen=True)
class Replayed:
    """What came out when a step was computed again.

    Attributes:
        values: loss terms and the norm of the gradient.
        given: tensors that were not finite before anything was computed: weights, or what the frozen networks gave.
        module: the first module whose output was not finite though its inputs were, and what it is.
        gradients: number of weights whose gradient is not finite, and of all.
    """

    recorded: Recorded
    values: dict[str, str]
    given: list[str]
    module: str
    gradients: tuple[int, int]

    @property
    def same(self) -> bool:
        """Whether every value came out as it was recorded, bit for bit."""
        return self.values == self.recorded.values


def write_replay(trainer: Trainer, model: JointModel, precision: str, failure: NotFinite, path: Path) -> None:
    """Write the weights before a step, everything that its loss is computed from, and what came out.

    Args:
        model: the trainer's, put together.

    Raises:
        OSError: it cannot be written.
    """
    assembly, plan, step = replace(trainer.assembly, model=model), trainer.plan, failure.step
    processes, device = trainer.fabric.world_size, trainer.fabric.device
    tensors = {f"{_MODEL}{name}": value for name, value in model.state_dict().items()}
    images: list[list[list[str]]] = []
    for process in range(processes):
        images.append([])
        batches = step_batches(assembly.feed, plan, seed=trainer.settings.seed, rank=process, step=step)
        for part, (keys, batch) in enumerate(batches):
            images[-1].append([assembly.source.key(index) for index, _ in keys])
            moved = {name: values.to(device) for name, values in batch.items()}
            with trainer.fabric.autocast():
                encoded = assembly.feed.encode(moved)
            found = {**vars(encoded), LABEL: moved[LABEL]}
            place = f"{_BATCH}{process}/{part}/"
            tensors |= {f"{place}{name}": value for name, value in found.items() if value is not None}
    recorded = Recorded(
        recipe=assembly.recipe,
        num_classes=assembly.num_classes,
        step=step,
        processes=processes,
        parts=plan.accumulation,
        images=images,
        device=device.type,
        precision=precision,
        values=_texts(failure.values),
    )
    # A device that was not waited for has gone on, and a process knows its own part alone: computed once more.
    values = recorded.values or _computed(assembly, trainer.settings, recorded, tensors, device)[0]
    notes = {_NOTE: json.dumps({**asdict(recorded), "values": values})}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(in_main_memory(tensors, copy=False), path, notes)


def read_notes(path: Path) -> Recorded:
    """Return what a replay file says beside its tensors.

    Raises:
        UserError: it is none.
    """
    with open_tensors(path) as file:
        note = (file.metadata() or {}).get(_NOTE, "")
    try:
        return Recorded(**json_object(note, RecordedShape))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: not a replay file ({error}); a run that fails writes one into its replay/") from None


def replay(
    path: Path, recorded: Recorded, model: ImageModel, settings: TrainSettings, device: torch.device
) -> Replayed:
    """Compute the step of a replay file again.

    Args:
        model: a model of the file's recipe, on the device.

    Raises:
        UserError: the file is damaged, or of another model.
    """
    tensors = {name: tensor.to(device) for name, tensor in load_tensors(path).items()}
    weights = {name.removeprefix(_MODEL): value for name, value in tensors.items() if name.startswith(_MODEL)}
    fill(model.model, weights, path)
    given = sorted(name for name, value in tensors.items() if not _finite(value))
    with _first_not_finite(model.model) as found:
        try:
            values, gradients = _computed(model, settings, recorded, tensors, device)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: damaged: the step cannot be computed from it ({first_line(error)})") from None
    bad = sum(not _finite(gradient) for gradient in gradients)
    return Replayed(recorded, values, given, found[0] if found else "", (bad, len(gradients)))


def _computed(
    model: ImageModel, settings: TrainSettings, recorded: Recorded, tensors: Mapping[str, Tensor], device: torch.device
) -> tuple[dict[str, str], list[Tensor]]:
    """Return loss terms and norm as text, and all gradients; what the pass changed beside them is put back."""
    network, objective = model.model, Objective(model, settings)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    optimizer = make_optimizer(network, settings)
    optimizer.zero_grad()
    network.train()
    values: dict[str, Tensor] = {}
    draws = objective.draws(device, recorded.step, settings.batch_size, range(settings.batch_size))
    plan = BatchPlan(settings.batch_size, recorded.processes, len(recorded.images[0][0]))
    for process in range(recorded.processes):
        for part, places in enumerate(plan.parts(process)):
            place = f"{_BATCH}{process}/{part}/"
            read = {name.removeprefix(place): value for name, value in tensors.items() if name.startswith(place)}
            encoded = Encoded(**{name: value for name, value in read.items() if name != LABEL})
            batch = objective.batch(encoded, read[LABEL], draws, places)
            with alone(), torch.autocast(device.type, torch.bfloat16, enabled=recorded.precision == "bf16-mixed"):
                terms, _ = network(batch)
            loss = torch.stack(list(terms.values())).sum()
            share = recorded.parts * recorded.processes
            (loss / share).backward()
            for name, term in {"loss": loss, **{f"loss/{key}": term for key, term in terms.items()}}.items():
                values[name] = values.get(name, torch.zeros(())) + term.detach() / share
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    values["gradient_norm"] = torch.nn.utils.get_total_norm(gradients)
    for name, buffer in network.named_buffers():
        buffer.copy_(before[name])
    return _texts(values), gradients


def _texts(values: Mapping[str, Tensor]) -> dict[str, str]:
    """Return loss terms and norm with all their digits; JSON has no words for what is not finite."""
    kept = (name for name in values if name.partition("/")[0] in ("loss", "gradient_norm"))
    return {name: repr(float(values[name])) for name in kept}


@contextmanager
def _first_not_finite(model: nn.Module) -> Iterator[list[str]]:
    """Collect modules in whose outputs values that are not finite come up: the innermost, first one at the front."""
    found: list[str] = []

    def hook(name: str, module: nn.Module) -> Any:
        def look(_: nn.Module, inputs: Any, outputs: Any) -> None:
            if all(map(_finite, _tensors(inputs))) and not all(map(_finite, _tensors(outputs))):
                found.append(f"{name} ({type(module).__name__})")

        return look

    handles = [module.register_forward_hook(hook(name, module)) for name, module in model.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.detach().isfinite().all())
