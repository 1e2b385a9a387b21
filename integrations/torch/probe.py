"""The probe: fixed inputs, shown to the model as its weights learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch.hooks import ForwardHook, Hook
from shiftwatch.integrations.torch.modules import axis_of
from shiftwatch.integrations.torch.nested import copied, floating, plain, tensors
from shiftwatch.integrations.torch.untouched import call, untouched
from shiftwatch.probing import Probed, Sample, probed
from shiftwatch.records import Site
from shiftwatch.sampling import chosen, fractions, geometry, offsets

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource

#: Values sampled of a layer's output.
SIZE = 8192
#: Calls of one layer that are sampled in a pass.
CALLS = 4
#: The first probe after the very first one; each next is at twice as many steps, up to ``every``.
SOON = 16


@dataclass(frozen=True)
class Probe:
    """Inputs that stay the same, and how often they are shown.

    Args:
        batch: what the model is called with: a tensor, a tuple or list of arguments, or a mapping of
            named ones, without labels. 64 to 256 rows say enough.
        every: steps between two probes. Before the first of these, while weights move most, they
            come at 16, 32, 64, … steps.

    Raises:
        TypeError: where the batch holds no tensor.
        ValueError: where ``every`` is no number of steps.

    Example:
        >>> [step for step in range(1200) if Probe(torch.ones(2, 4)).due(step)]
        [0, 16, 32, 64, 128, 256, 500, 1000]
    """

    batch: Any
    every: int = 500

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(
                f"every must be a whole number of steps, at least 1; got {self.every!r}."
            )
        if next(tensors(self.batch), None) is None:
            raise TypeError(
                "probe must hold what the model is called with: a tensor, a tuple of arguments or a "
                f"mapping of named ones; got {type(self.batch).__name__} without a tensor."
            )

    def due(self, step: int) -> bool:
        """Whether a probe is due after so many steps."""
        doubled = SOON <= step < self.every and step & (step - 1) == 0
        return step % self.every == 0 or doubled


class Prober:
    """Shows a probe's batch when it is due.

    The pass is made in the mode that each module trains in, as Ioffe & Szegedy mean the
    distributions of training: a BatchNorm normalises by the probe batch itself, dropout drops the
    same values each time, and what is frozen in evaluation mode stays so. While the model as a
    whole is in another mode than at first, the probe waits. The pass is outside of autocast
    unless the optimizer's step is in it.

    Cost: a forward pass, and on a CPU 0.6 ms per layer for sorting what was sampled of it.

    Args:
        source: whose layers.
        hooks: these.
        probe: what to show, and when. The batch is copied.

    Attributes:
        seen: all probes so far.
    """

    def __init__(self, source: TorchSource, hooks: list[ForwardHook], probe: Probe) -> None:
        self._source, self._hooks = source, hooks
        self._probe = Probe(copied(probe.batch), probe.every)
        self._axes: dict[Site, int | None] = {}
        self._first: Mapping[Site, Sample] = {}
        self._before: Mapping[Site, Sample] = {}
        self._mode, self._due, self._closed = True, 0, False
        self._fresh: list[Probed] = []
        self.seen: list[Probed] = []

    def before(self) -> None:
        """An optimizer is about to step, perhaps for the first time."""
        if not self.seen:
            began = clock()
            self._show(self._source.monitor.steps)
            self._source.spent += clock() - began

    def after(self, step: int) -> None:
        """So many optimizer steps are done. Called within the monitor's, which takes the time."""
        if step >= self._due or not self.seen:
            self._show(step)

    def take(self) -> tuple[Probed, ...]:
        """The probes since the last take."""
        fresh, self._fresh = self._fresh, []
        return tuple(fresh)

    def close(self) -> None:
        """Let go of the layers; what was seen stays."""
        self._closed, self._hooks = True, []
        self._first, self._before = {}, {}

    def _show(self, step: int) -> None:
        source = self._source
        if self._closed or (self.seen and source.root.training != self._mode):
            return
        try:
            reason = unfit(source.root)
            if reason:
                raise Unfit(reason)
            now = self._look()
            seen = probed(step, now, self._first or now, self._before or None)
        except Exception as error:
            self.close()
            if source.strict and not isinstance(error, Unfit):
                raise
            why = str(error)
            if not isinstance(error, Unfit):
                why = f"{type(error).__name__}: {error}. Give probe= what the model is called with"
            source.monitor.dark("probe", why)
            return
        if not self.seen:
            self._first, self._mode = now, source.root.training
        self._before = now
        self._due = next(
            s for s in range(step + 1, step + self._probe.every + 1) if self._probe.due(s)
        )
        self.seen.append(seen)
        self._fresh.append(seen)

    def _look(self) -> dict[Site, Sample]:
        """One pass, every watched layer's output sampled."""
        root = self._source.root
        taken: dict[Site, list[Tensor]] = {}
        with untouched(root), torch.no_grad():
            handles = [
                hook.module.register_forward_hook(Look(self._source, hook, taken, self._axes))
                for hook in self._hooks
            ]
            try:
                call(root, self._probe.batch)
            finally:
                for handle in handles:
                    handle.remove()
        return {
            site: Sample.of(np.concatenate([t.cpu().numpy() for t in parts]))
            for site, parts in taken.items()
        }


class Unfit(Exception):
    """A model that cannot be probed; the text says why."""


class Look(Hook):
    """After a layer, in a probe's pass: samples what it put out, at the same positions each time."""

    __slots__ = ("axes", "layer", "taken")

    def __init__(
        self, source: TorchSource, layer: ForwardHook, taken: dict[Site, list[Tensor]],
        axes: dict[Site, int | None],
    ) -> None:  # fmt: skip
        super().__init__(source)
        self.layer, self.taken, self.axes = layer, taken, axes

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        for path, tensor in floating(output):
            tensor = plain(tensor).detach()
            if not tensor.dim() or not tensor.numel() or tensor.layout != torch.strided:
                continue
            site = Site(self.layer.name, "output", path)
            axis = self.axes.setdefault(site, axis_of(self.layer.axis, tensor))
            parts = self.taken.setdefault(site, [])
            if len(parts) < CALLS:
                parts.append(_sampled(tensor, axis))


def _sampled(tensor: Tensor, axis: int | None) -> Tensor:
    """float32[positions, units] of a tensor, on its device."""
    tensor = tensor.contiguous()
    positions, units = geometry(tensor.shape, axis, SIZE)
    fraction = fractions(positions, units, np.random.default_rng((positions, units)))
    some = chosen(1 if axis is None else tensor.shape[axis], units)
    index = offsets(fraction, tensor.shape, tensor.stride(), axis, some)
    return tensor.view(-1)[torch.from_numpy(index).to(tensor.device)].float()


def unfit(root: nn.Module) -> str:
    """Why a pass of this process alone would harm the others; ``""`` where it would not."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return ""
    if torch.distributed.get_world_size() == 1:
        return ""
    talkative = {"FullyShardedDataParallel", "FSDPModule", "SyncBatchNorm", "DTensor"}
    for part in (*root.modules(), *root.parameters()):
        if talkative & {kind.__name__ for kind in type(part).__mro__}:
            return (
                f"{type(part).__name__} talks to the other processes in each pass, and they do not"
            )
    return ""


def wanted(probe: Any) -> Probe | None:
    """What the option ``probe=`` of ``watch`` asks for."""
    return probe if probe is None or isinstance(probe, Probe) else Probe(probe)
