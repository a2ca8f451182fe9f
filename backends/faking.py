"""Building without memory: parameters that have a shape, a type and a device, and no values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn.modules.module import register_module_parameter_registration_hook

without_fakes = unset_fake_temporarily
"""Context in which new tensors are real again; operations on fake ones stay fake."""

KNOWN_SCALARS = {"fitted": True, "stream_std": 1.0}
"""Buffers that the program reads: a fake tensor has no value, unless it is made from one and never written to."""


def fake_mode() -> FakeTensorMode:
    """Return a mode in which every operation gives shapes alone.

    Fake tensors stay on the device that they are for, so that autocast and fused kernels are chosen as in a real run.
    """
    return _OneMode(allow_non_fake_inputs=True)


class _OneMode(FakeTensorMode):
    """A mode that stays one when tensors that belong to it are copied deeply."""

    def __deepcopy__(self, memo: dict[int, Any]) -> FakeTensorMode:
        del memo
        return self


@contextmanager
def parameters_faked(mode: FakeTensorMode, device: torch.device) -> Iterator[None]:
    """Turn every parameter into a fake one on a device as soon as a module has it.

    Only parameters: what networks compute while they are built (rates, positions) may be read there.
    """

    def faked(module: nn.Module, name: str, parameter: Tensor | None) -> Tensor | None:
        del module, name
        if parameter is None or isinstance(parameter, FakeTensor):
            return None
        return nn.Parameter(_faked(parameter.data, mode, device), requires_grad=parameter.requires_grad)

    # Declared as returning nothing, documented as returning what takes the parameter's place.
    hook: Any = faked
    handle = register_module_parameter_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def fake_buffers(module: nn.Module, mode: FakeTensorMode, device: torch.device) -> None:
    """Turn the buffers of a built module into fake ones on a device; those of one number keep it."""
    for owner in module.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None and not isinstance(buffer, FakeTensor):
                known = buffer.ndim == 0
                owner._buffers[name] = _known(buffer.item(), buffer, mode) if known else _faked(buffer, mode, device)


class StillFabric(Fabric):  # type: ignore[misc]
    """Fabric that leaves modules where they are: fake parameters cannot be moved, and need not be."""

    def to_device(self, obj: Any) -> Any:
        """Move anything but a module."""
        return obj if isinstance(obj, nn.Module) else super().to_device(obj)


def settle(module: nn.Module, mode: FakeTensorMode) -> None:
    """Give the buffers that the program reads the values of a fitted model."""
    for owner in module.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None and name in KNOWN_SCALARS:
                owner._buffers[name] = _known(KNOWN_SCALARS[name], buffer, mode)


def _faked(tensor: Tensor, mode: FakeTensorMode, device: torch.device) -> Tensor:
    with mode:
        return mode.from_tensor(tensor).to(device)


def _known(value: float, like: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        return torch.tensor(value, dtype=like.dtype)
