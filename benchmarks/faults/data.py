"""What the networks learn: scikit-learn's digits in three forms, and text from a small chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shiftwatch.integrations.torch.demo import digits

SYMBOLS, LENGTH, LATENT = 24, 24, 8


@dataclass(frozen=True)
class Task:
    """What goes in, what should come out, and how far off it is.

    Args:
        samples: gives all inputs and targets, sample first; the same at every call.
        loss: of the model's output, its input and the targets; a scalar.
        classes: whether a target is one of ten digits.
        noise: shape of what a network makes samples from, without their number; empty where it
            is given samples.
    """

    name: str
    samples: Callable[[], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    classes: bool = False
    noise: tuple[int, ...] = ()

    @property
    def real(self) -> bool:
        """Whether inputs are real numbers, not symbols."""
        return self.samples()[0].is_floating_point()

    @property
    def predicts(self) -> bool:
        """Whether outputs are logits of the targets."""
        return self.loss is cross_entropy


def cross_entropy(output: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Of logits [..., classes] against classes [...]."""
    return F.cross_entropy(output.reshape(-1, output.shape[-1]), y.reshape(-1))


def reconstruction(output: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean square of what is missing."""
    return F.mse_loss(output.flatten(1), x.flatten(1))


@cache
def images() -> tuple[Tensor, Tensor]:
    """1,797 digits [n, 1, 8, 8] of mean 0 and deviation 1, and their classes."""
    return digits()


@cache
def rows() -> tuple[Tensor, Tensor]:
    """The same, each row of pixels an element of a sequence: [n, 8, 8]."""
    x, y = digits()
    return x[:, 0], y


@cache
def text() -> tuple[Tensor, Tensor]:
    """4,000 pieces of text [n, 24] and what follows each symbol.

    A chain of second order: any two symbols are followed by one of three, at odds of 6 : 3 : 1.
    """
    rng = np.random.default_rng(24)
    follow = rng.integers(0, SYMBOLS, (SYMBOLS, SYMBOLS, 3))
    out = np.zeros((4000, LENGTH + 1), np.int64)
    out[:, :2] = rng.integers(0, SYMBOLS, (4000, 2))
    chosen = rng.choice(3, out.shape, p=[0.6, 0.3, 0.1])
    for t in range(2, LENGTH + 1):
        out[:, t] = follow[out[:, t - 2], out[:, t - 1], chosen[:, t]]
    tokens = torch.from_numpy(out)
    return tokens[:, :-1], tokens[:, 1:]


IMAGES = Task("images", images, cross_entropy, classes=True)
ROWS = Task("rows", rows, cross_entropy, classes=True)
TEXT = Task("text", text, cross_entropy)
COPY = Task("copy", images, reconstruction)
FORGERY = Task("forgery", images, reconstruction, noise=(LATENT,))
