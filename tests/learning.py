"""A little training that learns, and may be told at each step to do something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from shiftwatch import Monitor
from shiftwatch.integrations.torch import watch

#: An optimizer's class and its settings.
Kind = tuple[Any, dict[str, Any]]


def mlp() -> nn.Sequential:
    """Three linear layers and two rectifiers."""
    return nn.Sequential(
        nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )


class Training:
    """A net that learns a linear rule; the functions are told the step and may change what they like.

    Args:
        kinds: one optimizer, or two: of the first layer, and of the others.
        regression: whether it learns the rule's numbers, and not which is the largest.
        scale: of the loss that is differentiated.
        size: of the batch.
        before, after: called before each step with its optimizers, and between backward pass and
            optimizer with the model.
        options: of ``watch``.
    """

    def __init__(
        self,
        *kinds: Kind,
        model: Callable[[], nn.Module] = mlp,
        regression: bool = False,
        scale: Callable[[int], float] = lambda step: 1.0,
        size: Callable[[int], int] = lambda step: 64,
        before: Callable[[int, list[Any]], None] = lambda step, optimizers: None,
        after: Callable[[int, nn.Module], None] = lambda step, model: None,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.model, self.step, self.regression = model(), 0, regression
        self.scale, self.size, self.before, self.after = scale, size, before, after
        parts: Sequence[nn.Module] = (self.model,)
        if len(kinds) == 2:
            parts = (self.model[:2], self.model[2:])  # type: ignore[index]
        self.optimizers = [
            kind(part.parameters(), **told) for part, (kind, told) in zip(parts, kinds, strict=True)
        ]
        self.data = torch.Generator().manual_seed(1)
        self.rule = torch.randn(20, 4, generator=self.data)
        self.options = {"run": False, "strict": True, **options}

    def watch(self) -> Monitor:
        """A monitor of it."""
        return watch(self.model, optimizer=self.optimizers, **self.options)

    def go(self, monitor: Monitor, until: int) -> None:
        """All steps up to one."""
        for step in range(self.step, until):
            self.before(step, self.optimizers)
            x = torch.randn(self.size(step), 20, generator=self.data)
            made, wanted = self.model(x), x @ self.rule
            loss = (
                nn.functional.mse_loss(made, wanted)
                if self.regression
                else nn.functional.cross_entropy(made, wanted.argmax(1))
            )
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            (self.scale(step) * loss).backward()
            self.after(step, self.model)
            for optimizer in self.optimizers:
                optimizer.step()
            monitor.step(loss=loss)
        self.step = until


def train(*kinds: Kind, steps: int, **options: Any) -> Monitor:
    """A whole training, watched."""
    training = Training(*kinds, **options)
    with training.watch() as monitor:
        training.go(monitor, steps)
    return monitor
