"""Recipes: YAML files, and the code that reads, checks and assembles them."""

from .recipe import Recipe, load

__all__ = ["Recipe", "load"]
