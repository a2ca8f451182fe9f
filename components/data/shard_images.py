"""Which images of indexed shards make up a data set: one of each sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..messages import named, printable
from .tar_index import TarIndex


def shard_names(shards: Sequence[Path]) -> list[str]:
    """Return a name for each shard: its file's, with as many folders before it as it takes to tell all apart.

    Raises:
        ValueError: a shard is there twice, by another path or a link.
    """
    files = Counter(shard.resolve() for shard in shards)
    twice = [shard for shard in shards if files[shard.resolve()] > 1]
    if twice:
        raise ValueError(f"{twice[0]} and {twice[1]} are the same file: mend data.shards")
    names, depth = [shard.name for shard in shards], 1
    while len(set(names)) < len(names):
        depth += 1
        names = ["/".join(shard.absolute().parts[-depth:]) for shard in shards]
    return names


def chosen_rows(index: TarIndex, shard: str, wanted: str | None) -> list[int]:
    """Return the rows of an index whose images are taken.

    Args:
        wanted: extension of the images; without one, any that has no further dot.

    Raises:
        ValueError: a sample has several such images; names them and their places.
    """
    rows: dict[str, int] = {}
    for row, (key, extension) in enumerate(zip(index.keys, index.extensions, strict=True)):
        if extension != wanted if wanted is not None else "." in extension:
            continue
        if key in rows:
            places = [f"{index.extensions[each]} at byte {index.offsets[each]:,}" for each in (rows[key], row)]
            raise ValueError(
                f"{shard}: sample {printable(key)} has several images ({', '.join(places)}): name the extension that "
                "is meant: data.image"
            )
        rows[key] = row
    return list(rows.values())


def further_images(indexes: Iterable[TarIndex]) -> str:
    """Return how many images there are of extensions with a further dot, and which; empty if there are none."""
    found = Counter(extension for index in indexes for extension in index.extensions if "." in extension)
    examples = [f"{count:,} .{extension}" for extension, count in found.most_common()]
    return named(examples)
