"""Source: what a framework's adapter hands over, and when it is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shiftwatch.activations import Flat
from shiftwatch.attended import Attended
from shiftwatch.course import Readings
from shiftwatch.probing import Probed
from shiftwatch.records import Event, Site
from shiftwatch.running import Running


@dataclass(frozen=True)
class Group:
    """Samples of sites that share a geometry, a row per recorded call.

    Args:
        sites: int64[L], columns given out by ``Monitor.register``.
        values: float32 or float64[rows, L, positions, units].
        steps: int64[rows, L], optimizer step of each row; -1 where it is not filled.
        flat: where the sites' activation is flat; ``None`` where they have none.
        tiny: smallest normal number of the tensors' own types, float64[L]; ``None`` for float32's.
        ids: whether the values are names of things, of which only contents are read.
    """

    sites: np.ndarray
    values: np.ndarray
    steps: np.ndarray
    flat: Flat | None = None
    tiny: np.ndarray | None = None
    ids: bool = False


@dataclass(frozen=True)
class Finding:
    """Non-finite values found by looking at every value of a tensor.

    Args:
        layer: where they began: the first whose result is not finite though what entered it is.
        site: the tensor they were counted in, of this layer or of what it feeds directly.
        size: values of the tensor.
        bad: how many of them are NaN or Inf.
        text: how many of what, where first, and what was seen beside it, for the alert.
    """

    layer: str
    site: Site
    size: int
    bad: int
    text: str


@dataclass(frozen=True)
class Sweep:
    """What a look at whole tensors brought, once a sign had asked for it.

    Args:
        sign: optimizer step at which the sign was seen, and the condition began.
        step: optimizer step whose tensors were looked at, ``sign`` or the next watched one.
        finding: the cause; ``None`` where it was not found.
        remark: then, what was seen instead; ``""`` where that is nothing to tell.
    """

    sign: int
    step: int
    finding: Finding | None = None
    remark: str = ""


@dataclass(frozen=True)
class Census:
    """Every value of a site over some steps, counted instead of sampled.

    Args:
        column: the site.
        steps: how many steps.
        count: finite values.
        nonfinite, zero: NaN and Inf; exact zeros.
        mean, std, low, high: of the finite values; NaN where there is none.
        flat: finite values where the site's activation is flat.
        active: int64[units], values of each unit that are not flat; of a site without
            activation, those that are not zero.
    """

    column: int
    steps: int
    count: int
    nonfinite: int
    zero: int
    mean: float
    std: float
    low: float
    high: float
    flat: int
    active: np.ndarray

    @property
    def dead(self) -> np.ndarray:
        """Units that were not active once: int64[any], ascending."""
        return np.flatnonzero(self.active == 0)


@dataclass(frozen=True)
class Batch:
    """All that was recorded over some consecutive watched steps.

    Args:
        groups: the samples.
        steps: int64[T], the watched steps, ascending.
        learning_rate: float64[T], the largest of the optimizer's; NaN where unknown.
        stepped: bool[T], whether the optimizer stepped (AMP skips some); True where unknown.
        tampered: float64[T, sites], change of a weight outside the optimizer since the step
            before: rms of the change over rms of the weight; 0 for none, NaN where unknown.
        batch_size: int64[T], 0 where unknown.
        events: what the run did on purpose.
        course: every step's readings, [T, sites], where the source took them as the steps
            ended and kept only some of the samples; ``None`` where all samples are in groups.
        sweeps: looks at whole tensors that ended.
        coming: whether the next watched step is looked at in full: what is known of
            non-finite values by now will be known better then.
        censuses: sites of which every value was counted.
        losses: float64[T], those that the source was given, see :class:`Source`; ``None`` for none.
        given: bool[T], in which steps that was.
        running: batch normalisations beside what entered them, of this window or one before.
        probes: what fixed inputs showed in these steps.
        settings: float64[T, 3], the largest of the optimizer's parameter groups: the steps
            that momentum averages, 1 / (1 - β), the share of a weight that decay takes per
            step, and how many steps it had counted and counts no more; ``None`` where unknown.
        attended: readings of attentions.
    """

    groups: tuple[Group, ...]
    steps: np.ndarray
    learning_rate: np.ndarray
    stepped: np.ndarray
    tampered: np.ndarray
    batch_size: np.ndarray
    events: tuple[Event, ...] = ()
    course: Readings | None = None
    sweeps: tuple[Sweep, ...] = ()
    coming: bool = False
    censuses: tuple[Census, ...] = ()
    losses: np.ndarray | None = None
    given: np.ndarray | None = None
    running: tuple[Running, ...] = ()
    probes: tuple[Probed, ...] = ()
    settings: np.ndarray | None = None
    attended: tuple[Attended, ...] = ()


class Source(Protocol):
    """An adapter's side of the bargain. Its calls come in this order, once per step.

    Optional, called after ``energy``: ``look(step, sign, broken)``, whether something
    non-finite was just seen in the samples, and whether the loss is not finite; the source
    may then look at whole tensors, see :class:`Sweep`. ``note_loss(loss)``, before
    ``end_step``: a loss that lies on a device, which comes with the batch. ``finish()``: all
    that was recorded must be in the next take, though the source may have to wait for it;
    without, a take may hold fewer steps than have ended: the earliest, or none. ``probes``: all
    that fixed inputs showed so far. ``replay(about)``: see ``Monitor.replay``. ``raised(incidents)``:
    these were judged, and are kept; they are reported next. ``span``: steps between two takes
    where each is preceded by ``finish``.
    """

    def end_step(self, step: int) -> None:
        """The optimizer step ``step`` has ended: sample the weights, close the row."""

    def energy(self) -> np.ndarray:
        """Mean square of the newest samples: float64[sites]; NaN where there are none, Inf
        where a value is, -Inf where one is NaN; of ids, how many of a few samples differ. A
        cheap first sign, judged by the monitor.
        """

    def keep(self) -> None:
        """Have the newest samples in the next take, even where it was not their turn."""

    @property
    def ring(self) -> int:
        """Steps between two takes."""

    @property
    def full(self) -> bool:
        """Whether a take is due before that."""

    def take(self) -> Batch:
        """Everything recorded since the last take; its arrays may be reused afterwards."""

    def arm(self, on: bool, rest: int) -> None:
        """Whether the coming step is watched; if not, how many are left out with it."""

    def seconds(self) -> float:
        """Time spent in hooks since the last call, in seconds."""

    def close(self) -> None:
        """Hooks off. May be called twice."""
