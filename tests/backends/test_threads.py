"""How threads wait for each other is settled before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from latsem.backends.threads import WAITING

LOADED = """
import os, sys
import {module}
before = "torch" in sys.modules
import torch
print(before, os.environ.get("GOMP_SPINCOUNT"))
"""


def loaded(module: str, **environment: str) -> tuple[list[str], str]:
    """Return whether a module loads torch and the count that it leaves, and what OpenMP says of its own settings."""
    clean = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        env={**clean, "OMP_DISPLAY_ENV": "verbose", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.split(), done.stderr


def test_threads_sleep_while_they_wait() -> None:
    left, said = loaded("latsem.recipes")
    assert left == ["False", "1000"]
    assert "GOMP_SPINCOUNT = '1000'" in said, "torch's OpenMP has not read it"


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7"), ("KMP_BLOCKTIME", "0")]
)
def test_what_the_environment_says_of_it_stays(name: str, value: str) -> None:
    left, said = loaded("latsem.recipes", **{name: value})
    assert left == ["False", value if name == "GOMP_SPINCOUNT" else "None"]
    assert "GOMP_SPINCOUNT = '1000'" not in said


def test_the_command_line_comes_to_it_first() -> None:
    left, said = loaded("latsem.recipes.replaying")
    assert left[1] == "1000" and "GOMP_SPINCOUNT = '1000'" in said
