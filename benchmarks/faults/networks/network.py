"""What a network is: how its model is made, what it learns, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch import nn

from benchmarks.faults.data import Task

Make = Callable[[], nn.Module]
Norm = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Network:
    """An architecture and how it is usually trained.

    Args:
        build: makes the model; its weights come from torch's generator.
        rate: learning rate that suits it.
        momentum: of SGD; ``None`` for Adam.
        short: whether a step is so short that a run of over a thousand is affordable.
        decay: of the weights; with Adam it is decoupled, as in AdamW.
    """

    name: str
    family: str
    build: Make
    task: Task
    rate: float
    momentum: float | None = None
    short: bool = False
    decay: float = 0.0


@cache
def skeleton(network: Network) -> nn.Module:
    """A model of this architecture to look at, not to train."""
    return network.build()
