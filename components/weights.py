"""Weights of a file against those of a network: the same names, the same shapes, and nothing left over.

Every network that is loaded here is compared by this file, whatever it is: an autoencoder, an encoder, an extractor, a
checkpoint of latsem, or one of another project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

NAMED = 3

INSERTED = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing put into names, before the module that they wrap."""

COUNTER = "num_batches_tracked"
"""A batch norm's number of steps: files of before 2018 lack it, and nothing that is evaluated reads it."""

FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def without_inserted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names that they have in the network as it was written.

    Raises:
        ValueError: two of them have the same name then.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = name
        for inserted in INSERTED:
            plain = plain.replace(inserted, "")
        if plain in found:
            raise ValueError(f"holds {plain[:100]!r} twice, as it is and as a wrapper names it")
        found[plain] = tensor
    return found


def prefixes(names: Iterable[str], wanted: Collection[str]) -> Counter[str]:
    """Return what stands before the names of a network, and how many of its names are found behind it.

    A prefix is empty, or ends in a dot: `module.`, `vae.`, `model.first_stage_model.`.
    """
    counts: Counter[str] = Counter()
    for name in names:
        start = 0
        while start >= 0:
            if name[start:] in wanted:
                counts[name[:start]] += 1
            start = name.find(".", start) + 1 or -1
    return counts


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def unwrapped(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors of one network by its own names, whatever wrapper or larger model they were saved from.

    Of a larger model, tensors beside the network are left out; without a prefix, everything stays.

    Raises:
        ValueError: the network is there more than once.
    """
    tensors = without_inserted(tensors)
    counts = prefixes(tensors, wanted)
    most = max(counts.values(), default=0)
    best = [prefix for prefix, count in counts.items() if count == most]
    if not best or "" in best:
        return tensors
    if len(best) > 1:
        listed = ", ".join(repr(prefix) for prefix in sorted(best)[:NAMED])
        raise ValueError(f"holds the network {len(best)} times, below {listed}: save one of them alone")
    return below(tensors, best[0])


def differences(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return how weights differ from those of a network, with the first names of each kind; empty if they fit.

    A tensor that repeats values (its memory is smaller than its shape) does not count as weights.
    """
    missing = [name for name in wanted if name not in tensors and not name.endswith(COUNTER)]
    unknown = [name for name in tensors if name not in wanted]
    there = [name for name in wanted if name in tensors]
    shapes = [
        f"{name!r} ({_sides(tensors[name])} for {_sides(wanted[name])})"
        for name in there
        if tensors[name].shape != wanted[name].shape
    ]
    kinds = [name for name in there if not _same_kind(tensors[name], wanted[name])]
    problems = [
        f"{what} {listed(names, quoted=names is not shapes)}"
        for what, names in (
            ("misses", missing),
            ("holds the unknown", unknown),
            ("has another shape of", shapes),
            ("has another type of", kinds),
        )
        if names
    ]
    return "; ".join(problems)


def listed(names: Iterable[str], *, quoted: bool = True) -> str:
    """Return the first names, and how many there are if there are more."""
    every = list(names)
    shown = ", ".join(repr(name)[:100] if quoted else name[:160] for name in every[:NAMED])
    return shown + (f" ... ({len(every)})" if len(every) > NAMED else "")


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, harmless: tuple[str, ...] = ()) -> None:
    """Give a network weights that were published or saved elsewhere, in the network's own type.

    Args:
        harmless: beginnings of names that may be there and are left out, a part of training that nothing here needs.

    Raises:
        ValueError: a tensor is missing, unknown, of another shape or type, or not finite; one line.
    """
    wanted = network.state_dict()
    found = unwrapped(tensors, wanted.keys())
    found = {name: tensor for name, tensor in found.items() if name in wanted or not name.startswith(harmless)}
    problem = differences(found, wanted)
    if problem:
        raise ValueError(problem)
    broken = [name for name, tensor in found.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"holds values that are not finite in {listed(broken)}")
    network.load_state_dict(found, strict=False)


def _same_kind(tensor: Tensor, wanted: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        return False
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return False
    return tensor.dtype in FLOATS if wanted.is_floating_point() else tensor.dtype == wanted.dtype


def _sides(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
