"""Images in datasets of the Hugging Face format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..messages import first_line, named
from .encoded import EncodedImages, warn_of_empty_classes
from .files import changed_last, name_digest, open_regular
from .picture import LARGEST_FILE
from .settings import INSTALL_DATASETS, HuggingFaceSettings

LABELS = ("label", "labels", "class", "classes", "class_id", "class_label", "cls", "target")
"""Names by which a column of whole numbers is taken for classes, where none is said to be of them."""

STORED, BINARY = {"bytes", "path"}, ("binary", "large_binary")

ROWS = 4096
"""Rows of the table that are looked at together."""


class HuggingFaceDataset(EncodedImages):
    """The `huggingface` source: rows of a dataset, in the order of a digest of their numbers.

    Many datasets are sorted by class, and statistics and references are taken from the first images; the rows are on
    this machine's disk, where any order is cheap.
    """

    def __init__(self, settings: HuggingFaceSettings) -> None:
        table = _load(settings)
        where = f"in {settings.dataset} ({settings.split})"
        if not len(table):
            raise ValueError(f"no image {where}")
        image = _image_column(table.features, settings.image)
        if image is None:
            raise ValueError(f"{where} there is no column of images ({_listed(table.features)}); name one: data.image")
        names, self._labels = _labels(table, settings)
        self._numbers = [] if names or settings.labels == "none" else list(_whole_numbers(table.features))
        super().__init__(settings, where=where, found=len(table), class_names=names)
        self._rows = sorted(range(len(table)), key=lambda row: name_digest(str(row)))
        self._column = image
        self._table = _as_encoded(table.select_columns([image]), image)
        self._files = [Path(file["filename"]) for file in table.cache_files]

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> str:
        """Return the number of an image's row."""
        return f"row {self._rows[index]}"

    def read(self, index: int) -> bytes:
        """Return the bytes of an image, from the dataset itself or the file that it names.

        Raises:
            OSError, ValueError: there is none.
        """
        entry = self._table[self._rows[index]][self._column]
        if entry is None or (entry["bytes"] is None and entry["path"] is None):
            raise ValueError("no image")
        if entry["bytes"] is not None:
            encoded: bytes = entry["bytes"]
            return encoded
        with open_regular(Path(entry["path"])) as file:
            return file.read(LARGEST_FILE + 1)

    def label(self, index: int) -> int:
        """Return an image's class, 0 for unlabelled images."""
        return int(self._labels[self._rows[index]]) if self.num_classes else 0

    def describe(self) -> str:
        """Return how many images and classes were found, and which columns of numbers are not taken for labels."""
        numbers = named(self._numbers)
        return super().describe() + (f"; not taken for labels (data.label): {numbers}" if numbers else "")

    def contents(self) -> Iterable[str]:
        """Yield the name, size and label of every row's image.

        The library's own digest of a dataset is no help: it stays when files of a saved one are exchanged, and is
        another one for a copy.
        """
        labels = self._labels.tolist() if self.num_classes else [0] * len(self)
        for (size, path), label in zip(self._entries, labels, strict=True):
            name = "" if path is None else path.name
            yield f"{name} {path.stat().st_size if path is not None and path.is_file() else size} {label}"

    def changed(self) -> Sequence[int]:
        """Return when the files of the table, and those that its rows name, were changed last."""
        named = [path for _, path in self._entries if path is not None]
        return [changed_last(path.stat()) for path in [*self._files, *named] if path.is_file()]

    @cached_property
    def _entries(self) -> list[tuple[int, Path | None]]:
        """The bytes of every row's image, or the file that it names instead."""
        import pyarrow.compute as arrow  # noqa: PLC0415 - it comes with `datasets`

        entries: list[tuple[int, Path | None]] = []
        for part in self._table.with_format("arrow").iter(batch_size=ROWS):
            column = part[self._column].combine_chunks()
            sizes = arrow.binary_length(arrow.struct_field(column, "bytes")).to_pylist()
            paths = arrow.struct_field(column, "path").to_pylist()
            for size, path in zip(sizes, paths, strict=True):
                entries.append((size or 0, Path(path) if size is None and path is not None else None))
        return entries


def _load(settings: HuggingFaceSettings) -> Any:
    """Return the rows of the split.

    Raises:
        ValueError: the package or the dataset is missing, or the split is; one line.
    """
    # Loaded here: it is an extra, and slow to import.
    try:
        import datasets  # noqa: PLC0415
    except ImportError:
        raise ValueError(f"'{settings.name}' {INSTALL_DATASETS}") from None
    path, split = settings.local, settings.split
    try:
        if path is None:
            return datasets.load_dataset(settings.dataset, settings.subset, split=split)
        if path.is_file():
            return datasets.load_dataset(path.suffix.lstrip(".").lower(), data_files={split: str(path)}, split=split)
        if not any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_dataset(str(path), settings.subset, split=split)
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # Networks, servers, files and formats each fail in their own way.
        raise ValueError(f"{settings.dataset} ({split}) cannot be loaded ({first_line(error)})") from None
    if isinstance(saved, datasets.Dataset):
        if saved.split is not None and str(saved.split) != split:
            raise ValueError(f"{settings.dataset} is split '{saved.split}', not '{split}': data.split")
        return saved
    if split not in saved:
        raise ValueError(f"{settings.dataset} has no split '{split}' (one of {', '.join(saved)}): data.split")
    return saved[split]


def _image_column(features: Any, wanted: str | None) -> str | None:
    """Return the wanted column if its values can be images, or the only one of images; None if there is none.

    Raises:
        ValueError: no such column, or several that it could be.
    """
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    # What `datasets` makes of an image, in a file that does not say so: one written by pandas, say.
    stored = [name for name, feature in features.items() if isinstance(feature, dict) and set(feature) == STORED]
    if wanted is None:
        return _only(images or stored, "image")
    binary = [name for name, feature in features.items() if getattr(feature, "dtype", "") in BINARY]
    if wanted not in (*images, *stored, *binary):
        raise ValueError(f"data.image: there is no column '{wanted}' of that kind ({_listed(features)})")
    return wanted


def _label_column(features: Any, wanted: str | None) -> str | None:
    """Return the wanted column, the only one of class labels, or whole numbers that are called labels.

    Raises:
        ValueError: no such column, or several that it could be.
    """
    if wanted is not None:
        if wanted not in features:
            raise ValueError(f"data.label: there is no column '{wanted}' of that kind ({_listed(features)})")
        return wanted
    labels = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    return _only(labels or [name for name in _whole_numbers(features) if name.lower() in LABELS], "label")


def _only(fitting: Sequence[str], key: str) -> str | None:
    if len(fitting) > 1:
        raise ValueError(f"data.{key}: one of {', '.join(fitting)} has to be named")
    return fitting[0] if fitting else None


def _whole_numbers(features: Any) -> Iterator[str]:
    """Yield the columns of plain whole numbers."""
    for name, feature in features.items():
        if type(feature).__name__ == "Value" and str(feature.dtype).startswith(("int", "uint")):
            yield name


def _as_encoded(table: Any, column: str) -> Any:
    """Return a table whose column holds images as bytes or paths."""
    import datasets  # noqa: PLC0415

    return table.cast_column(column, datasets.Image(decode=False))


def _labels(table: Any, settings: HuggingFaceSettings) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names of the classes and the class of every row, both empty for unlabelled images.

    Raises:
        ValueError: labels that are no classes, or missing in places.
    """
    none = np.zeros(0, np.int64)
    column = _label_column(table.features, settings.label) if settings.labels == "auto" else None
    if column is None:
        return (), none
    values = table.select_columns([column]).with_format("arrow")[:][column]
    try:
        labels = np.asarray(values.to_numpy() if values.null_count == 0 else none)
        whole = values.null_count == 0 and labels.dtype.kind in "iu" and int(labels.min()) >= 0
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise ValueError(
            f"data.label: column '{column}' holds something else than a class (a whole number from 0 on) in places; "
            "take another split, or the images without: data.labels=none"
        )
    names: Sequence[str] | None = getattr(table.features[column], "names", None)
    classes = len(names) if names else int(labels.max()) + 1
    if labels.max() >= classes:
        raise ValueError(f"data.label: column '{column}' holds class {labels.max()}, and names {classes} classes")
    warn_of_empty_classes(labels, classes, f"in {settings.dataset} ({settings.split})")
    return tuple(names or map(str, range(classes))), labels.astype(np.int64)


def _listed(features: Any) -> str:
    return ", ".join(f"{name}: {type(feature).__name__}" for name, feature in features.items())
