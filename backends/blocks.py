"""How the blocks of a network run: by which attention kernel, and with fewer activations kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from ..components.denoisers.blocks import Block
from .errors import UserError
from .settings import ActivationCheckpointing

aten = torch.ops.aten

COSTLY = frozenset({aten.mm, aten.addmm, aten.bmm, aten.baddbmm})
ATTENTION = ("scaled_dot_product", "efficient_attention", "flash")
"""What the names of attention kernels contain, those of xformers among them."""


@runtime_checkable
class Settling(Protocol):
    """A network that prepares for a device."""

    def settle(self, device: torch.device, dtype: torch.dtype) -> str:
        """Choose kernels for a device and the type of its products, and return what they say of themselves."""
        ...


def settle(network: object, device: torch.device, precision: str) -> str:
    """Let a network choose its attention kernel for a device, and return what is said of it.

    Raises:
        UserError: the kernel that the recipe names cannot run there.
    """
    if not isinstance(network, Settling):
        return "the network's own"
    try:
        return network.settle(device, torch.bfloat16 if precision == "bf16-mixed" else torch.float32)
    except ValueError as error:
        raise UserError(f"denoiser.attention: {error}; use sdpa, or auto") from None


def checkpoint_activations(network: nn.Module, how: ActivationCheckpointing) -> None:
    """Let blocks keep less than everything for the backward pass, which computes it again; in place.

    A number n keeps nothing but its input in every n-th block. `selective` keeps what matrix products and attention
    return, in all blocks, and computes what is cheap again: norms, modulation, activation functions.

    Raises:
        UserError: the network has no blocks.
    """
    if how == "none":
        return
    blocks = blocks_of(network)
    if not blocks:
        raise UserError(f"train.activation_checkpointing: a {type(network).__name__} has no blocks to apply it to")
    every = 1 if how == "selective" else how
    context: dict[str, Any] = {"context_fn": _selective_contexts} if how == "selective" else {}
    for block in blocks[::every]:
        block.forward = _checkpointed(block.forward, context)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the transformer's blocks in a network, in their order; none where it has no such."""
    return [module for module in network.modules() if isinstance(module, Block)]


def _checkpointed(forward: Callable[..., Any], context: dict[str, Any]) -> Callable[..., Any]:
    # A function of ours around torch's: the compiler passes over torch's own, and all that they call.
    def recomputed(*arguments: Any) -> Any:
        # Nothing in a block is random.
        return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **context)

    return recomputed


def _selective_contexts() -> Any:
    return create_selective_checkpoint_contexts(_keep_costly)


def _keep_costly(context: Any, operation: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    del context, arguments, options
    costly = operation.overloadpacket in COSTLY or any(part in str(operation) for part in ATTENTION)
    return CheckpointPolicy.MUST_SAVE if costly else CheckpointPolicy.PREFER_RECOMPUTE
