"""Layers put together: sections by key, and parts by the rule of swaps.

The layers of a recipe are its base files, the file itself, and the command line. Sections merge key by key, and a
later layer wins; everything else replaces what was there.

A part is named by the last layer that names one. Of what the layers say of it, this holds:

- What a layer says belongs to the part that is named in that layer, or else in the layers below.
- What was said of the part that is chosen in the end holds, also where a layer between has chosen another one.
- What was said of other parts holds where the chosen part has the same setting and accepts the value, but for settings
  that mean something else in every part (`Settings.part_specific`): these have the default of the chosen part, and
  a note says so.

Within a layer the order is of no consequence: the command line may say a setting before the part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..components.settings import Settings
from .scalars import NULL, Plain
from .slots import ANYTHING, Slot, read_scalar, settings_of, slot_of
from .yaml_reader import KeyPath, Sourced, parse_flow

_JSON = TypeAdapter[Any](Any)


@dataclass(frozen=True)
class Given:
    """What a layer says at one place.

    Attributes:
        value: as it was written.
        layer: number of the layer; what was said in one has no order.
        source: where it was written.
        whole: whether it stands for all that there is to say, as a section written as one value does.
    """

    value: Any
    layer: int
    source: Sourced
    whole: bool = False

    def inside(self, key: str) -> Given:
        """Return what is said of a key."""
        return replace(self, value=self.value[key], whole=False)


def combine(layers: Sequence[Sequence[Sourced]], settings: type[Settings]) -> Sourced:
    """Return layers as one, with every value of the type of its field.

    Args:
        layers: the lowest first; each is one or several mappings, of which the general one comes first.
        settings: what the values are of.

    Raises:
        UserError: a list or mapping of the command line that is none.
    """
    combining = _Combining()
    given = [Given(each.values, number, each) for number, layer in enumerate(layers) for each in layer]
    values = combining.section(given, settings, ())
    for each in given:
        combining.places.update({path: place for path, place in each.source.places.items() if not path})
    return Sourced(values, combining.places, notes=tuple(combining.notes.values()))


@dataclass
class _Combining:
    places: dict[KeyPath, str] = field(default_factory=dict)
    notes: dict[KeyPath, str] = field(default_factory=dict)

    def section(self, given: Sequence[Given], settings: type[Settings] | None, path: KeyPath) -> dict[str, Any]:
        """Return mappings as one."""
        keys = dict.fromkeys(key for each in given for key in each.value)
        merged: dict[str, Any] = {}
        for key in keys:
            inside = [each.inside(key) for each in given if key in each.value]
            merged[key] = self.value(inside, slot_of(settings, key), (*path, key))
        return merged

    def value(self, given: Sequence[Given], slot: Slot, path: KeyPath) -> Any:
        """Return what holds at a place."""
        self._note_place(given[-1], path)
        written = [self._written(each, slot, path) for each in given]
        if slot.kind is not None:
            return self._part(written, slot, path)
        mappings = _last_mappings(written)
        if mappings and slot.values is not None:
            keys = dict.fromkeys(key for each in mappings for key in each.value)
            own = slot.values
            return {
                key: self.value([e.inside(key) for e in mappings if key in e.value], own, (*path, key)) for key in keys
            }
        if mappings:
            return self.section(mappings, slot.section, path)
        return self._single(written[-1], slot, path)

    def _single(self, given: Given, slot: Slot, path: KeyPath) -> Any:
        if isinstance(given.value, list):
            own = slot.items or ANYTHING
            items = [replace(given, value=item, whole=False) for item in given.value]
            return [self.value([item], own, (*path, index)) for index, item in enumerate(items)]
        return read_scalar(given.value, slot)

    def _written(self, given: Given, slot: Slot, path: KeyPath) -> Given:
        """Return a value as it was meant: text that holds a list or mapping as one, short forms in full."""
        value, whole = given.value, False
        if isinstance(value, Plain) and slot.structured and value[:1] in ("[", "{"):
            value = parse_flow(value, {}, ": ".join(filter(None, [given.source.place(path), _dotted(path)])))
        if isinstance(value, Plain) and value in (NULL, "") and not slot.scalars:
            value = None if slot.optional or slot.kind is None else value
        if slot.section is not None or slot.values is not None:
            # An empty section says nothing, as where all of its lines are comments.
            full = slot.section.in_full(value) if slot.section is not None else value
            whole, value = full is not value, {} if full is None and not slot.optional else full
        elif slot.kind is not None and isinstance(value, str):
            value = {"name": str(value)}
        return replace(given, value=value, whole=whole)

    def _part(self, given: Sequence[Given], slot: Slot, path: KeyPath) -> Any:
        if not isinstance(given[-1].value, dict):
            return given[-1].value
        named = list(_named(_last_mappings(given), slot.usual))
        name = named[-1][0]
        settings = settings_of(slot.kind or "", name)
        kept = [
            each if owner in (name, None) or settings is None else self._carried(each, owner, settings)
            for owner, each in named
        ]
        values = self.section(kept, settings, path)
        self._note_changes(named, name, settings, values, path)
        return {"name": name, **values} if name is not None else values

    def _carried(self, given: Given, owner: str, settings: type[Settings]) -> Given:
        """Return what was said of another part, and holds for this one."""
        said = _said(given, settings_of(settings.kind, owner))
        kept = {key: value for key, value in said.items() if self._fits(key, given, settings)}
        return replace(given, value=kept)

    @staticmethod
    def _fits(key: str, given: Given, settings: type[Settings]) -> bool:
        """Return whether a part has a setting that means the same in another, and accepts the value."""
        if key not in settings.model_fields or key in settings.part_specific:
            return False
        value = _Combining().value([given.inside(key)], slot_of(settings, key), (key,))
        try:
            settings.model_validate({key: value})
        except ValidationError as error:
            return not any(each["loc"][:1] == (key,) for each in error.errors())
        return True

    def _note_changes(
        self,
        named: Sequence[tuple[Any, Given]],
        name: Any,
        settings: type[Settings] | None,
        values: Mapping[str, Any],
        path: KeyPath,
    ) -> None:
        """Note what was set for another part and now has a default."""
        for owner, given in named:
            if owner == name or settings is None or owner is None:
                continue
            for key, value in _said(given, settings_of(settings.kind, owner)).items():
                if key in settings.model_fields and key not in values:
                    swap = f"{_dotted(path)}: '{name}' instead of '{owner}'"
                    self.notes[*path, key] = f"{swap}: {key} {_now(settings, key)} ({value} was set for '{owner}')"

    def _note_place(self, given: Given, path: KeyPath) -> None:
        """Note where a value was written, and everything in it."""
        if path not in given.source.places:
            return
        self.places = {other: place for other, place in self.places.items() if other[: len(path)] != path}
        self.places[path] = given.source.places[path]


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _last_mappings(given: Sequence[Given]) -> list[Given]:
    """Return the mappings that hold together: what stands for all, or is no mapping, replaces lower layers."""
    ends = [
        index + (not each.whole) for index, each in enumerate(given) if each.whole or not isinstance(each.value, dict)
    ]
    return list(given[max(ends, default=0) :])


def _named(given: Sequence[Given], usual: str | None) -> Iterator[tuple[Any, Given]]:
    """Yield what was said with the part that it was said of, without the name."""
    owner: Any = usual
    names = {each.layer: each.value["name"] for each in given if "name" in each.value}
    for each in given:
        owner = names.get(each.layer, owner)
        owner = str(owner) if isinstance(owner, Plain) else owner
        rest = {key: value for key, value in each.value.items() if key != "name"}
        yield owner, replace(each, value=rest)


def _said(given: Given, settings: type[Settings] | None) -> dict[str, Any]:
    """Return the settings that somebody has chosen: of a complete recipe, those that are not the default."""
    if not given.source.complete or settings is None:
        return dict(given.value)
    return {
        key: value
        for key, value in given.value.items()
        if key not in settings.model_fields or value != _default(settings, key)
    }


def _default(settings: type[Settings], key: str) -> Any:
    """Return the default of a setting as JSON."""
    return _JSON.dump_python(settings.model_fields[key].get_default(call_default_factory=True), mode="json")


def _now(settings: type[Settings], key: str) -> str:
    """Return what a setting is that nobody has set."""
    if settings.model_fields[key].is_required():
        return "has to be set"
    return f"is {_default(settings, key)}, its default"
