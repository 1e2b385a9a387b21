"""Those that look on. Another monitor takes part by a function of the same form."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.faults.baselines import baselines
from benchmarks.faults.training import Attach
from shiftwatch.integrations.torch import watch
from shiftwatch.records import to_plain

#: What of an alert is kept.
FIELDS = ("step", "detected", "kind", "layer", "tensor", "severity", "origin", "incident", "metric")


@contextmanager
def silence(name: str = "shiftwatch") -> Iterator[None]:
    """Nothing is logged under this name meanwhile; its level is as before afterwards, come what may."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


class Shiftwatch:
    """Ours, with its defaults; strict, so that an error of its own is seen as one."""

    def __init__(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.monitor = watch(model, optimizer=list(optimizers), run=False, strict=True)

    def after_step(self, loss: Tensor, accuracy: float) -> None:
        """One step, with its loss."""
        self.monitor.step(loss=loss)

    def close(self) -> list[dict[str, Any]]:
        """Warnings and criticals."""
        self.monitor.close()
        plain = [to_plain(alert) for alert in self.monitor.alerts]
        numbers = ("value", "limit")
        return [
            {k: a[k] for k in FIELDS} | {k: float(f"{a[k]:.4g}") for k in numbers} for a in plain
        ]


#: Every observer by its name; the second speaks for all baselines.
OBSERVERS: dict[str, Attach] = {"shiftwatch": Shiftwatch, "baselines": baselines}
