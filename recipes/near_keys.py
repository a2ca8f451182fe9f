"""Keys that are not there: what was probably meant, in the section where one was written or in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..components.settings import Settings, near_name
from ..components.synonyms import SYNONYMS
from .schema import RecipeSettings
from .slots import settings_of, slot_of
from .yaml_reader import KeyPath

UNKNOWN = "unknown key"
NOTHING = ("none", "no", "off", "false")

REMARKS = {
    "epoch": "steps = epochs x images / train.batch_size",
    "accum": "the parts of a batch are accumulated: train.micro_batch = train.batch_size / (devices x parts)",
    "sched": "the rate is constant after the warm-up",
    "optim": "it is AdamW",
    "wandb": "figures are in metrics.jsonl and tensorboard/ of a run",
    "output": "an option: --root FOLDER",
    "outdir": "an option: --root FOLDER",
    "run_name": "an option: --name NAME",
    "resume": "an option: --resume RUN",
    "num_classes": "it follows from the data",
}
"""What is worth saying of words that have no counterpart of just their meaning, by what is in them."""


def explained(message: str, path: KeyPath, values: dict[str, Any]) -> str:
    """Return the message of an unknown key with what was probably meant; another message as it is.

    Args:
        message: as the section's settings say it, perhaps with a key of theirs that is spelt alike.
        values: the recipe, whose parts have keys of their own.
    """
    if len(path) == 1 and slot_of(RecipeSettings, str(path[0])).optional and message.startswith("unknown "):
        named = message.partition("'")[2].partition("'")[0]
        return f"{message}; {path[0]}=null for none" if named.lower() in NOTHING else message
    if not message.startswith(UNKNOWN):
        return message
    word, section = str(path[-1]).lower().replace("-", "_"), ".".join(map(str, path[:-1]))
    remark = next((f" ({remark})" for part, remark in REMARKS.items() if part in word), "")
    return f"{UNKNOWN}{_near(word, section, message.removeprefix(UNKNOWN), values)}{remark}"


def _near(word: str, section: str, spelt_alike: str, values: dict[str, Any]) -> str:
    """Return the key of that name or meaning here; else elsewhere; else what is spelt alike."""
    meant, keys = {word, *SYNONYMS.get(word, ())}, list(_keys(RecipeSettings, values, ""))
    same = [key for key in keys if key.rpartition(".")[2] in meant]
    if any(key.rpartition(".")[0] == section for key in same):
        return spelt_alike
    if same:
        first = sorted(same, key=lambda key: (key.count("."), not key.startswith("train.")))[:3]
        return f", did you mean {' or '.join(repr(key) for key in first)}?"
    return spelt_alike or near_name(word, keys)


def _keys(settings: type[Settings], values: Any, prefix: str) -> Iterator[str]:
    """Yield every key of a recipe with these parts."""
    for key in settings.model_fields:
        yield f"{prefix}{key}"
        slot, said = slot_of(settings, key), values.get(key) if isinstance(values, dict) else None
        name = said.get("name") if isinstance(said, dict) else slot.usual
        inner = settings_of(slot.kind, name) if slot.kind else slot.section
        if inner is not None:
            yield from _keys(inner, said, f"{prefix}{key}.")
        elif slot.values is not None and slot.values.section is not None:
            yield from _keys(slot.values.section, None, f"{prefix}{key}.NAME.")
