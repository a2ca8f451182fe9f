"""What the machine can do: precision, device, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from .settings import FabricSettings

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


def native_bf16(device_type: str) -> bool:
    """Return whether the hardware itself computes in bfloat16."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device_type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def resolve_precision(settings: FabricSettings, device_type: str) -> str:
    """Return the precision, with `auto` resolved for a kind of device."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16-mixed" if native_bf16(device_type) else "32-true"


def make_fabric(settings: FabricSettings) -> Fabric:
    """Return Fabric for the settings, not launched yet."""
    accelerator = settings.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    devices: Any = settings.devices
    if devices == "auto" and accelerator == "cpu":
        devices = 1
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=resolve_precision(settings, accelerator),
    )


def device_name(device: torch.device) -> str:
    """Return what a person calls the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def environment() -> dict[str, Any]:
    """Return versions, hardware and code revision, for the record of a run."""
    versions: dict[str, str | None] = {}
    for name in _REPORTED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "versions": versions,
        "revision": code_revision(),
    }


def code_revision() -> str | None:
    """Return the git revision of this code, with `+` if the working tree differs; None outside a checkout."""
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
