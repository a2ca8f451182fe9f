"""A device that a run is planned for, and need not be here: `h100:8`, `8x80GB`, `a100-40:4`, `cpu:64GB`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..components.settings import near_name
from .errors import UserError

MEMORY = {
    "t4": 16,
    "v100": 16,
    "v100-32": 32,
    "a10": 24,
    "l4": 24,
    "rtx3090": 24,
    "rtx4090": 24,
    "rtx5090": 32,
    "a40": 48,
    "a6000": 48,
    "l40s": 48,
    "a100-40": 40,
    "a100": 80,
    "h100": 80,
    "h20": 96,
    "h200": 141,
    "b200": 180,
}
"""GB of memory, as NVIDIA's data sheets state it."""

WITHOUT_BF16 = ("t4", "v100", "v100-32")
"""Volta and Turing, which have no instructions for bfloat16."""

USABLE = 0.98
"""Share of the stated memory that is counted on (our choice): error correction and the driver keep some of it."""

_FORM = re.compile(
    r"(?:(?P<times>\d+)x)?(?:(?P<name>[a-z][\w-]*)|(?P<size>[\d.]+(?:gb|gib)))"
    r"(?::(?P<count>\d+))?(?::(?P<memory>[\d.]+(?:gb|gib)))?"
)
_UNITS = {"gb": 10**9, "gib": 2**30}


@dataclass(frozen=True)
class PlannedDevice:
    """A kind of device.

    Attributes:
        name: what it is called.
        accelerator: `cuda` or `cpu`.
        memory: bytes of one; None if they are not known.
        bf16: whether it computes in bfloat16; None for a CPU: that of this machine decides.
        count: how many there are on a machine; None if that is left to the recipe.
    """

    name: str
    accelerator: str
    memory: int | None = None
    bf16: bool | None = True
    count: int | None = None

    def changes(self) -> list[str]:
        """Return the changes of a recipe that run it on such a machine."""
        devices = [] if self.count is None else [f"fabric.devices={self.count}"]
        return [f"fabric.accelerator={self.accelerator}", *devices]


def parse_device(text: str) -> PlannedDevice:
    """Return a device by its name or its memory, with a number of them.

    Raises:
        UserError: it is not written so, or no device of that name is known.
    """
    found = _FORM.fullmatch(text.lower().replace(" ", ""))
    count = found and (found["times"] or found["count"])
    if found is None or (found["times"] and found["count"]) or (count and not int(count)):
        raise UserError(f"--device: '{text}': is written h100:8, 8x80GB, a100:4:40GB or cpu:64GB")
    memory = _bytes(found["memory"] or found["size"], text)
    number = int(count) if count else None
    name = found["name"]
    if name is None:
        return PlannedDevice(f"GPU of {found['size'].upper()}", "cuda", memory, count=number)
    if name == "cpu":
        return PlannedDevice("CPU", "cpu", memory, None, number)
    if name not in MEMORY and memory is None:
        known = ", ".join(MEMORY)
        raise UserError(
            f"--device: '{text}': no such device{near_name(name, MEMORY)} (known: {known}; of any other: 8x80GB)"
        )
    stated = int(USABLE * MEMORY[name] * 10**9) if memory is None else memory
    return PlannedDevice(name.upper(), "cuda", stated, name not in WITHOUT_BF16, number)


def _bytes(size: str | None, text: str) -> int | None:
    if size is None:
        return None
    number, unit = re.fullmatch(r"([\d.]+)(gb|gib)", size).groups()  # type: ignore[union-attr]
    try:
        return int(float(number) * _UNITS[unit])
    except ValueError:
        raise UserError(f"--device: '{text}': {number} is no number of {unit.upper()}") from None
