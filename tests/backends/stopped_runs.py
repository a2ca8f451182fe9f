"""Runs that a signal stops after one of their steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from latsem.backends.errors import Interrupted
from latsem.backends.training import Trainer


def stopping_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come in a step."""
    original = Trainer._one_step

    def stopped(self: Trainer, batches: Any) -> dict[str, Tensor]:
        values = original(self, batches)
        if self.step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return values

    monkeypatch.setattr(Trainer, "_one_step", stopped)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, run: Callable[[], object]) -> str:
    """Run until a step and return what is said of it."""
    with monkeypatch.context() as patched, pytest.raises(Interrupted) as ended:
        stopping_at(step, patched)
        run()
    return str(ended.value)
