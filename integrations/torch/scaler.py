"""Scaler: the gradient scaler of a training, known by its own frame, and its scale."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import torch
from torch import Tensor

#: The frame that stands between a training and its optimizer's step under a gradient scaler,
#: and how many frames away it may be: those of schedulers and wrappers lie between.
_SCALED_STEP = torch.amp.GradScaler.step.__code__
_DEEP = 13


class Scaler:
    """By what the gradients of a step are too large.

    Attributes:
        met: weak reference to the user's gradient scaler; ``None`` until it was met.
        scale: of the step under way, on a device where it lies there; ``None`` where nobody
            noted it.
    """

    __slots__ = ("met", "scale")

    def __init__(self) -> None:
        self.met: Any = None
        self.scale: float | Tensor | None = None

    def look(self) -> bool:
        """An optimizer's hook is told of its step: does a gradient scaler have it step?

        Returns:
            Whether one was met for the first time.
        """
        frame: Any = sys._getframe(2)
        for _ in range(_DEEP):
            if frame is None:
                break
            if frame.f_code is _SCALED_STEP:
                first = self.met is None
                self.met = weakref.ref(frame.f_locals["self"])
                self.note()
                return first
            frame = frame.f_back
        if self.met is not None:  # a step without it: a loss that was not scaled
            self.scale = 1.0
        return False

    def note(self) -> None:
        """Remember the scale of the backward pass under way."""
        if self.scale is None:
            scaler = self.met()
            enabled = scaler is not None and scaler.is_enabled()
            scale = scaler._get_scale_async() if enabled else None  # it has one only then
            if scale is None:
                self.scale = 1.0
            else:  # on a device, without waiting for it
                self.scale = float(scale) if scale.is_cpu else scale.clone()
