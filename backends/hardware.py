"""What the machine can do: precision, device, versions."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import Strategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from ..components.measured import remembered, seconds_of
from ..components.messages import first_line
from ..components.torchvision_import import ensure_torchvision
from .errors import UserError
from .settings import FabricSettings
from .sharding.strategy import sharding_strategy

_REPORTED = (
    "latsem",
    "torch",
    "torchvision",
    "timm",
    "diffusers",
    "torchdiffeq",
    "lightning-fabric",
    "xformers",
    "safetensors",
    "numpy",
    "pydantic",
)


BF16_GAIN = 1.5
"""How much faster bfloat16 has to be: not all of a step are products, and its rounding is a price."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""The C library's names of options (malloc.h)."""
LARGE, NEVER = 2**20, 2**30
"""From how many bytes on a block is given back by itself, and one that no block of a step reaches: our choice."""


def native_bf16(device_type: str) -> bool:
    """Return whether the hardware itself computes in bfloat16, and gains by it.

    A CPU that has instructions for it need not: products in bfloat16 took a fifth of float32's time on an AMD Zen 5
    and 1.7 times as long on an Intel Xeon without AMX. So they are measured, once a machine.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device_type == "cpu" and bf16_gain() >= BF16_GAIN


def bf16_gain() -> float:
    """Return how many times faster than in float32 this machine's CPU multiplies matrices in bfloat16."""
    depends_on = {"processor": _processor(), "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    seconds = remembered({"what": "products by type", **depends_on}, _products_by_type)
    return seconds["float32"] / seconds["bfloat16"]


def precision_reason(settings: FabricSettings) -> str:
    """Return what `auto` went by, to be put behind it; nothing where that is the device alone."""
    if wanted_accelerator(settings) != "cpu":
        return ""
    return f": products in bfloat16 have {bf16_gain():.2f}x the speed of float32's here"


def _products_by_type() -> dict[str, float]:
    def product(dtype: torch.dtype) -> Callable[[], Tensor]:
        factors = torch.ones(512, 512, dtype=dtype)
        return lambda: factors @ factors

    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return seconds_of({name: product(dtype) for name, dtype in types.items()}, torch.device("cpu"))


def resolve_precision(settings: FabricSettings, device_type: str) -> str:
    """Return the precision, with `auto` resolved for a kind of device."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16-mixed" if native_bf16(device_type) else "32-true"


def wanted_accelerator(settings: FabricSettings) -> str:
    """Return the kind of device, with `auto` resolved."""
    if settings.accelerator != "auto":
        return settings.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def world_size(settings: FabricSettings) -> int:
    """Return the number of devices, over all nodes."""
    return devices_here(settings) * settings.num_nodes


def devices_here(settings: FabricSettings) -> int:
    """Return the number of devices of this machine: as set, or the processes that `torchrun` began, or all GPUs."""
    if settings.devices != "auto":
        return settings.devices
    if _begun_by_torchrun():
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return max(1, torch.cuda.device_count()) if wanted_accelerator(settings) == "cuda" else 1


def _begun_by_torchrun() -> int:
    """Return how many processes `torchrun` began on all machines; 0 if it began none."""
    launched = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    return int(os.environ["WORLD_SIZE"]) if launched else 0


def quiet_fabric() -> None:
    """Keep Fabric's notes on precision and processes off the error stream: the screen says both.

    Its warnings stay, and what it says of a process that died before it ends the others.
    """
    for place in ("rank_zero", "distributed"):
        logging.getLogger(f"lightning_fabric.utilities.{place}").setLevel(logging.WARNING)
    if "SLURM_JOB_ID" not in os.environ:
        # It would tell everybody whose machine has SLURM to use it.
        warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used")


def make_fabric(settings: FabricSettings) -> Fabric:
    """Return Fabric for the settings, not launched yet.

    Raises:
        UserError: they do not fit this machine, or what a batch system has begun.
    """
    quiet_fabric()
    accelerator = wanted_accelerator(settings)
    begun = _begun_by_torchrun()
    if begun and begun != world_size(settings):
        raise UserError(
            f"fabric: torchrun began {begun} process(es) for {world_size(settings)} device(s): leave fabric.devices to "
            "it, and say over how many machines it runs (fabric.num_nodes)"
        )
    if accelerator == "cpu":
        handle_freed_memory(kept=settings.strategy != "fsdp")
    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices_here(settings),
            num_nodes=settings.num_nodes,
            strategy=_strategy(settings, accelerator),
            precision=resolve_precision(settings, accelerator),
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise UserError(f"fabric: {first_line(error)}") from None


def _strategy(settings: FabricSettings, accelerator: str) -> str | Strategy:
    if settings.strategy != "fsdp":
        return settings.strategy
    return sharding_strategy(world_size(settings), accelerator)


def device_name(device: torch.device) -> str:
    """Return what a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def available_memory(device: torch.device) -> int:
    """Return the bytes that a process can have: all of a GPU's, or the machine's that are not in use."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    found = [int(text) for text in _memory_limits() if text.isdigit()]
    return min(found, default=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _memory_limits() -> Iterator[str]:
    machine, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if machine.exists():
        kilobytes = next(line for line in machine.read_text().splitlines() if line.startswith("MemAvailable"))
        yield str(1024 * int(kilobytes.split()[1]))
    if group.exists():
        yield group.read_text().strip()


def release_freed_memory() -> None:
    """Give freed memory back to the system, where the C library keeps it: what follows may not be able to use it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def handle_freed_memory(*, kept: bool) -> None:
    """Say whether the C library keeps large blocks that are freed, or gives each of them back to the system at once.

    Every step, and every call of a sampler, asks for the same blocks again. Pages that the system takes back it has to
    clear anew: 3 to 5 % of the time of a step of SiT-S/2, and a fifth of sampling 64 images by a network of width 256.
    `release_freed_memory` gives back what was kept, where something else follows.

    Weights that lie in parts are put together and let go in every block, which leaves gaps that nothing fits into: such
    a run took as much as one whose weights are whole.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(MMAP_THRESHOLD, NEVER if kept else LARGE)
        set_option(TRIM_THRESHOLD, NEVER if kept else LARGE)


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where a folder is, or would be."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def process_baseline() -> int:
    """Return the memory of this process with everything that a run loads and nothing that it builds."""
    ensure_torchvision()
    for module in ("timm.utils", "torch.utils.tensorboard"):
        importlib.import_module(module)
    _first_step()
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else 1024 * usage


def _first_step() -> None:
    """Train something small: the first step of a process loads kernels and modules."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 8 * 8, 64))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    torch.ones(512, 512) @ torch.ones(512, 512)


def environment() -> dict[str, Any]:
    """Return versions, hardware and code revision, for the record of a run."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "versions": {name: _installed(name) for name in _REPORTED},
        "revision": code_revision(),
    }


def code_version() -> str:
    """Return what results are told apart by: the code's git revision, or the installed version."""
    return code_revision() or f"latsem {_installed('latsem')}"


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def code_revision() -> str | None:
    """Return the git revision of this code, with `+` if the working tree differs; None outside a checkout.

    What is asked for first counts: a process goes on with the code that it began with, whatever is committed meanwhile.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(  # noqa: S603
                ["git", "-C", str(root), *what],  # noqa: S607
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout
            for what in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision.strip() + ("+" if changes.strip() else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
