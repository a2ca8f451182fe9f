"""Counting without computing: bytes of live tensors, and arithmetic, of code that runs on fake tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

aten = torch.ops.aten

_REARRANGED = (aten.convolution.default, aten.convolution_backward.default)


class MemoryMeter(TorchDispatchMode):
    """Keeps the bytes of all live storages that operations made, or that it was told of, and their highest sum.

    It counts what the program holds, and of what operations take inside themselves the one thing that is as large: a
    CPU's convolutions copy what they read, or what they write, to another layout.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made."""
        del types
        made = func(*args, **(kwargs or {}))
        results = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.add(results)
        if func in _REARRANGED and results[0].device.type == "cpu":
            largest = max(leaf.nbytes for leaf in (*results, *tree_leaves(args)) if isinstance(leaf, Tensor))
            self.peak = max(self.peak, self.live + largest)
        return made

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that are there."""
        for tensor in tensors:
            self._add(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone(_: Any) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)
        self.live += size

    def forget(self) -> None:
        """Stop following what is there."""
        self._known.clear()

    @contextmanager
    def phase(self, peaks: dict[str, int], name: str) -> Iterator[None]:
        """Note the highest sum of a part of the program under its name."""
        self.peak = self.live
        yield
        peaks[name] = max(peaks.get(name, 0), self.peak)


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Return parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors, each storage once."""
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    del out_shape
    return sdpa_flop_count(query, key, value)


def count_flops(compute: Callable[[], object]) -> int:
    """Return the floating-point operations of matrix products, convolutions and attention: two a multiply-add."""
    # The fused attention of the CPU is unknown to torch's counter.
    own = {aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    counter = FlopCounterMode(display=False, custom_mapping=own)
    # The compiler gives up for good, and silently, on a function that it first meets while operations are counted.
    with torch.compiler.set_stance("force_eager"), torch.no_grad(), counter:
        compute()
    return int(counter.get_total_flops())
