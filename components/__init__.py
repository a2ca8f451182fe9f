"""The interchangeable parts of joint image-feature diffusion: one folder a kind, one file a part."""

from .registry import available, create, register
from .settings import Settings

__all__ = ["Settings", "available", "create", "register"]
