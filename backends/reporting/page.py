"""Templates filled in: one self-contained page that fetches nothing and runs no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .numbers import number, spread_beside
from .svg import LARGE, NARROW, draw, goal_swatch, swatch

FILE = "report.html"


def render(template: str, **values: Any) -> str:
    """Return a template of this package as HTML; text is escaped, whatever it holds."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, beside=spread_beside)
    environment.globals.update(draw=draw, swatch=swatch, goal_swatch=goal_swatch, LARGE=LARGE, NARROW=NARROW)
    return environment.get_template(template).render(**values)
