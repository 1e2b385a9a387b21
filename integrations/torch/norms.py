"""Batch normalisations: the running statistics beside the samples of what entered.

Read once per window. The samples are there anyway: of the layer's own input, or of the output
of the layer before it, where that is the same tensor. Only the buffers are fetched on top,
from a device without waiting: there they are those of when the samples came home, up to 16
steps on, and the reading comes a window later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from shiftwatch.integrations.torch import slab
from shiftwatch.integrations.torch.hooks import ForwardHook
from shiftwatch.integrations.torch.lanes import Lanes
from shiftwatch.integrations.torch.nested import PLAIN
from shiftwatch.integrations.torch.slab import Tap, present
from shiftwatch.running import Running
from shiftwatch.source import Group


class Norms:
    """All batch normalisations among the watched layers.

    Args:
        hooks: those of the watched layers.
        lanes: the ways home from devices.

    Cost: per layer and window one pass over the samples of its input, some 16,000 values.
    """

    def __init__(self, hooks: Sequence[ForwardHook], lanes: Lanes) -> None:
        self._hooks = {h.name: h for h in hooks if isinstance(h.module, _BatchNorm)}
        self._lanes = lanes
        self._feeders: dict[str, Callable[[], Tap | None] | None] = {}
        self._known: dict[str, str] = {}
        self._away: list[tuple[Entered, Tensor, Any]] = []  # buffers on their way, and their event
        self._before: dict[int, np.ndarray] = {}  # running deviations as they were read last
        self._counts = [0] * len(self._hooks)
        self.urgent = False  # running statistics were changed by another hand

    def fed(self, name: str, parent: str, tap: Callable[[], Tap | None]) -> None:
        """Note whose tensor enters a layer unchanged; one that several feed is not read."""
        if name in self._hooks:
            alone = self._known.setdefault(name, parent) == parent
            self._feeders[name] = tap if alone else None

    def take(self, groups: Sequence[Group]) -> tuple[Running, ...]:
        """Readings of the window that ends, or of the one before where buffers lie on a device."""
        if not self._hooks or self._lanes.recording():
            return ()
        arrived = [(entered, host) for entered, host, done in self._away if done.query()]
        self._away.clear()
        where = {column: (g, i) for g in groups for i, column in enumerate(g.sites.tolist())}
        for hook in self._hooks.values():
            entered = self._entered(hook, where)
            buffers = None if entered is None else _buffers(hook.module)
            if entered is None or buffers is None:
                continue
            device = slab.elsewhere(buffers)
            host, done = (
                (buffers, None) if device is None else self._lanes.of(device).download(buffers)
            )
            if done is None:
                arrived.append((entered, host))
            else:
                self._away.append((entered, host, done))
        self.urgent = False
        found = []
        for entered, host in arrived:
            reading = entered.beside(host.numpy(), self._before.get(entered.column))
            self._before[entered.column] = reading.running_std
            found.append(reading)
        return tuple(found)

    def look(self) -> None:
        """A step has ended: did anybody but the layers themselves write into their statistics?

        A layer writes its running mean as often as its variance, and PyTorch counts. What wrote both
        alike is found when they are read. Cost: 0.5 µs a layer.
        """
        counts = [_surplus(hook.module) for hook in self._hooks.values()]
        self.urgent = self.urgent or counts != self._counts
        self._counts = counts

    def close(self) -> None:
        """Let go of the layers."""
        self._hooks, self._feeders, self._away = {}, {}, []

    def _entered(self, hook: ForwardHook, where: dict[int, tuple[Group, int]]) -> Entered | None:
        """What was sampled of a layer's input, where it was and channels are told apart."""
        module: Any = hook.module
        feeder, output = self._feeders.get(hook.name), hook.train.output
        tap = hook.train.input or (feeder() if feeder is not None else None)
        if tap is None or tap.plan is None or output is None or output.column < 0:
            return None
        plan = tap.plan
        if plan.axis != 1 or plan.shape[1] != module.num_features or tap.calls != output.calls:
            return None  # a layer that feeds several is pooled over all of them
        if tap.column not in where:
            return None
        group, place = where[tap.column]
        rows = group.values[group.steps[:, place] >= 0, place].astype(np.float64)
        if rows.size == 0 or rows.shape[2] != plan.units.size:
            return None
        momentum = math.nan if module.momentum is None else float(module.momentum)
        return Entered(
            output.column, rows.shape[0] * rows.shape[1], rows.mean((0, 1)), rows.var((0, 1)),
            plan.units, float(module.eps), momentum if module.training else 0.0, not module.training,
        )  # fmt: skip


class Entered(NamedTuple):
    """What was sampled of a layer's input: of ``units``, ``number`` values each."""

    column: int
    number: int
    mean: np.ndarray
    variance: np.ndarray
    units: np.ndarray
    eps: float
    momentum: float
    frozen: bool

    def beside(self, buffers: np.ndarray, before: np.ndarray | None) -> Running:
        """With the running mean and variance, [2, channels], and the deviations read before."""
        mean, variance = buffers[:, self.units].astype(np.float64)
        return Running(
            column=self.column,
            count=self.number,
            mean=self.mean,
            std=np.sqrt(self.variance + self.eps),
            running_mean=mean,
            running_std=np.sqrt(variance + self.eps),
            momentum=self.momentum,
            frozen=self.frozen,
            before=before,
        )


def _surplus(module: Any) -> int:
    """How much more often the running variance was written than the running mean."""
    mean, variance = module.running_mean, module.running_var
    if type(mean) not in PLAIN or type(variance) not in PLAIN:
        return 0
    return int(variance._version - mean._version)


def _buffers(module: Any) -> Tensor | None:
    """Running mean and variance, [2, channels]; ``None`` for a layer that keeps none."""
    both = module.running_mean, module.running_var
    if any(type(t) not in PLAIN or t.is_meta or not present(t) for t in both):
        return None
    with torch.no_grad(), torch.inference_mode(False):
        return torch.stack([t.detach().float() for t in both])
