"""What the start-up screen says about a run before its first step."""

from __future__ import annotations

from .assembly import Assembly
from .loader import BatchPlan


def screen_rows(assembly: Assembly, plan: BatchPlan, device: str, precision: str) -> dict[str, str]:
    """Return the rows of the screen, with everything that `auto` became."""
    train = assembly.train
    parameters = sum(p.numel() for p in assembly.model.parameters() if p.requires_grad)
    epochs = train.steps * train.batch_size / len(assembly.source)
    streams = assembly.streams.items()
    return {
        "device": device,
        "precision": precision + (" (auto)" if assembly.fabric.precision == "auto" else ""),
        "attention": assembly.attention,
        "parameters": f"{parameters / 1e6:.2f} M trained",
        "tokens": ", ".join(f"{name} {s.tokens} of {s.patch}x{s.patch}x{s.channels}" for name, s in streams),
        "streams": "; ".join(
            f"{name} scale {s.scale:g}, loss weight {assembly.model.weight(name):.3g}" for name, s in streams
        ),
        "images": assembly.source.describe(),
        "encoding": "on line" if assembly.feed_name == "images" else f"cached in {assembly.feed_name}",
        "batch": f"{plan} (devices x micro x accumulation)",
        "steps": f"{train.steps:,} = {epochs:.1f} epochs",
        "seed": str(train.seed),
    }
