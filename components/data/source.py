"""What every data source gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Source(Protocol):
    """A fixed set of images.

    A source may also have `blocks`, see `blocks_of`, images that it leaves out, see `lost_by`, and files, see
    `changed_at`, `encoded_bytes` and `reads_at_once`.

    Attributes:
        num_classes: number of classes, 0 for unlabelled images.
        image_size: side of the square images, pixels.
        class_names: a name for each class.
        variants: how many versions of an image augmentation makes; the seed chooses number `seed % variants`.
    """

    num_classes: int
    image_size: int
    class_names: tuple[str, ...]
    variants: int

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def item(self, index: int, seed: int) -> tuple[Tensor, int]:
        """Return image `(3, H, W)` uint8 and label; the same index and (augmentation) seed give the same pixels."""
        ...

    def key(self, index: int) -> str:
        """Return a name by which an image is known, whatever else is in the set."""
        ...

    def fingerprint(self) -> str:
        """Return a digest that changes when the images, their order or their preparation do."""
        ...

    def describe(self) -> str:
        """Return one line for the start-up screen: what was found."""
        ...


def blocks_of(source: Source) -> Sequence[int] | None:
    """Return the sizes of consecutive groups of images that are cheap to read together; None: there are no such groups.

    A source says so by an attribute `blocks`; together they are all its images, in order.
    """
    blocks: Sequence[int] | None = getattr(source, "blocks", None)
    return blocks


def lost_by(source: Source) -> dict[str, str]:
    """Return names of the images that a source has left out so far, each with the reason, which may be empty.

    A source that can leave out some says so by a set `unreadable`, takes the names of others by `lose(name)`, and may
    keep reasons in a dict `reasons`.
    """
    reasons: dict[str, str] = getattr(source, "reasons", {})
    return {name: reasons.get(name, "") for name in getattr(source, "unreadable", ())}


def lose(source: Source, name: str, reason: str = "") -> None:
    """Tell a source that an image was found unusable by another process.

    Raises:
        OSError: it is one too many.
    """
    told = getattr(source, "lose", None)
    if reason and isinstance(reasons := getattr(source, "reasons", None), dict):
        reasons[name] = reason
    if told is not None:
        told(name)


def changed_at(source: Source) -> Sequence[int]:
    """Return when the files of a source were changed last, nanoseconds; empty where it has none.

    A source that lies in files says so by a method `changed()`.
    """
    told: Callable[[], Sequence[int]] | None = getattr(source, "changed", None)
    return told() if told is not None else ()


def encoded_bytes(source: Source, index: int) -> bytes:
    """Return what an image is made of: its file's bytes where a source has a method `encoded(index)`, else pixels."""
    told: Callable[[int], bytes] | None = getattr(source, "encoded", None)
    return told(index) if told is not None else source.item(index, 0)[0].numpy().tobytes()


def reads_at_once(source: Source) -> int:
    """Return how many threads may read images of a source together; it says so by an attribute `reads_at_once`."""
    return int(getattr(source, "reads_at_once", 1))
