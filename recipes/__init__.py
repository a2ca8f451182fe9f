"""Recipes: YAML files, and the code that reads, checks and assembles them."""

from ..backends.threads import let_waiting_threads_sleep

# Here, because every way to a run leads through this package before anything imports torch.
let_waiting_threads_sleep()

from .recipe import Recipe, load  # noqa: E402

__all__ = ["Recipe", "load"]
