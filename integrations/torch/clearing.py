"""Clearing: are the gradients of one step gone before the next?

A backward pass adds to the gradient that is there, in place, and raises its version by one;
``zero_grad`` leaves none, or raises the version once more. So a gradient that is the same
tensor after one forward pass and one version later was added to and never cleared.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

#: Optimizer steps in a row until it is no accident.
ROW = 3


class Clearing:
    """Follows the gradient of one parameter from optimizer step to optimizer step.

    Before it is certain, what one backward pass brings is compared with the gradient that it
    leaves: ``gradient.data.zero_()`` clears without a trace in the version.

    Attributes:
        passes: forward passes in training since the last optimizer step; counted by the caller.
    """

    __slots__ = ("_fresh", "_handle", "_kept", "_row", "_version", "passes")

    def __init__(self) -> None:
        self._kept = 0  # its id, for a weak reference would forbid to swap tensors
        self._version = self._row = self.passes = 0
        self._handle: Any = None  # of the hook that is there for one step
        self._fresh: Tensor | None = None

    def before(self, optimizer: Optimizer) -> bool:
        """The optimizer is about to step: whether this is the step that makes it certain.

        Only where one pass was made: of several it is not known how many were sent back.
        """
        parameter = _first(optimizer)
        grad = None if parameter is None else parameter.grad
        fresh, self._fresh = self._fresh, None
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        if grad is None or id(grad) != self._kept or self.passes != 1:
            self._row = 0
            return False
        self._row = self._row + 1 if grad._version - self._version == 1 else 0
        if self._row == ROW - 1 and parameter is not None:
            self._handle = parameter.register_hook(self._keep)
        if self._row != ROW:
            return False
        if fresh is None or torch.equal(fresh, grad):
            self._row = 0
            return False
        return True

    def after(self, optimizer: Optimizer) -> None:
        """The optimizer has stepped."""
        parameter = _first(optimizer)
        grad = None if parameter is None else parameter.grad
        self._kept = id(grad) if grad is not None else 0
        self._version = grad._version if grad is not None else 0
        self.passes = 0

    def _keep(self, gradient: Tensor) -> None:
        self._fresh = gradient.detach().clone()


def _first(optimizer: Optimizer) -> Tensor | None:
    """The first parameter that has a gradient; ``None`` where that is no plain tensor.

    Of those that the optimizer moves: it does not clear the gradients of others, nor use them.
    """
    for group in optimizer.param_groups:
        for held in group["params"]:
            if held.grad is not None:
                return held if type(held.grad) is Tensor else None
    return None
