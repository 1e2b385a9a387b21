"""Tracing: the forward passes from which it is read who feeds whom."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from shiftwatch.integrations.torch.graph import Graph

#: Forward passes per mode from which parents are read.
TRACED = 2


class Tracing:
    """Chooses the passes: the first of each mode, and in a step those in training where there are.

    Attributes:
        graph: what was read.
        on: whether any pass is left to read from.
        left: how many are, in evaluation (False) and in training (True).
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.on = True
        self.left = {True: TRACED, False: TRACED}
        self._mode: bool | None = None  # of the pass under way

    def chosen(self, training: bool) -> bool:
        """Whether the pass under way is one from which parents are read."""
        if self._mode is None or (training and not self._mode):
            if not self.left[training]:
                return False
            if self._mode is not None:
                self.graph.finish()
            self._mode = training
        return self._mode == training

    def begin(self, given: Sequence[Tensor]) -> None:
        """A chosen pass of the model's own forward starts."""
        if not self.graph.begin(given):
            self.on = False

    def end(self) -> bool:
        """The step has ended: whether others feed a layer than was known."""
        if self._mode is None:
            return False
        self.left[self._mode] -= 1
        changed = self.graph.finish()
        self._mode = None
        self.on = any(self.left.values())
        return changed
