"""The values that flow through shiftwatch: who was measured, what was seen, what was said.

Everything here is a frozen value. Modules further down the line (summaries, rules,
store, reporters, report) speak to each other in these words only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from shiftwatch.history import Run

#: The name that stands for the model's input wherever a layer's name is expected.
INPUT = "<input>"

#: Part of the model's input that holds whole numbers. They are names of things: of them nothing
#: but how many samples differ is read, and they have no mean, no size and no histogram.
IDS = "token ids"

#: Where a tensor sits relative to its layer.
TENSORS = ("output", "input", "gradient", "weight", "update")

#: What can be wrong, in the words that alerts use.
KINDS = (
    "nonfinite",
    "dead",
    "saturation",
    "mean_shift",
    "variance_shift",
    "distribution_shift",
    "exploding",
    "vanishing",
    "batchnorm",
    "frozen",
    "update",
    "collapse",
    "corruption",
)

#: From harmless to urgent. Infos are recorded and never raised.
SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True, order=True)
class Site:
    """One tensor of one layer: the thing that has a distribution.

    Args:
        layer: the model's own dotted name; ``"<input>"`` for the model's input.
        tensor: one of :data:`TENSORS`.
        part: which tensor, where a layer has several: ``""`` for the first or only one,
            else its path in the nested output (``"1.0"``, ``"hidden"``) or the
            parameter's name (``"bias"``).
        mode: ``"train"`` or ``"eval"``; the two never mix.

    Example:
        >>> Site("encoder.0", "output").key
        'encoder.0:output'
        >>> Site("rnn", "output", part="1.0", mode="eval").key
        'rnn:output[1.0]@eval'
    """

    layer: str
    tensor: str = "output"
    part: str = ""
    mode: str = "train"

    @property
    def label(self) -> str:
        """The tensor with its part, as tables show it: ``output`` or ``output[1.0]``."""
        return f"{self.tensor}[{self.part}]" if self.part else self.tensor

    @property
    def key(self) -> str:
        """Layer, tensor, part and mode in one word, unique within a run."""
        return f"{self.layer}:{self.label}" + ("@eval" if self.mode == "eval" else "")


@dataclass(frozen=True)
class Layer:
    """What an adapter knows about a layer: enough to judge it and to find an origin.

    Args:
        name: the model's own dotted name.
        module: its type's name, such as ``"Linear"``; ``""`` where there is no module.
        activation: a key of :data:`shiftwatch.activations.FLAT`, or ``""``.
        parameters: whether the layer has trainable parameters of its own.
        parents: names of the layers whose outputs feed this one; ``"<input>"`` where
            the model's input feeds it directly. In a plain chain, the layer before.
        norm: ``"batch"``, ``"layer"``, … for a normalisation, else ``""``.
        shape: that of its weight, ``()`` where it has none or nobody said.
    """

    name: str
    module: str = ""
    activation: str = ""
    parameters: bool = False
    parents: tuple[str, ...] = ()
    norm: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Alert:
    """Something broke: where, what, since when, how much, and what to look at first.

    Args:
        step: optimizer step, counted from 0, at which the condition began.
        layer: the model's own dotted name; ``"<input>"`` for the model's input.
        tensor: ``"output"``, ``"input"``, ``"gradient"``, ``"weight"`` or ``"update"``.
        kind: one of :data:`KINDS`.
        severity: ``"info"``, ``"warning"`` or ``"critical"``.
        metric: key of the metric that crossed its limit.
        value: the metric's value.
        limit: what it crossed.
        message: one line: where, what, how much, against what.
        advice: what to look at first.
        origin: layer where the incident starts; equal to ``layer`` if it starts here.
        incident: alerts of one cause share the number; 0 for an info, which is no alarm.
        detected: step at which it was raised, at or after ``step``.
    """

    step: int
    layer: str
    tensor: str
    kind: str
    severity: str
    metric: str
    value: float
    limit: float
    message: str
    advice: str
    origin: str
    incident: int
    detected: int

    def __str__(self) -> str:
        return self.message

    def _repr_html_(self) -> str:
        from shiftwatch.cards import alert_card

        return alert_card(self)


@dataclass(frozen=True)
class Incident:
    """One cause and all that followed from it.

    Args:
        number: counted from 1 within a run; alerts carry it.
        origin: layer where it started; ``"<input>"`` for a data fault.
        step: first step at which a condition of it held.
        detected: step at which its first alert was raised.
        severity: the worst among its alerts.
        kinds: kinds of its alerts, in the order raised.
        followers: layers that changed after the origin, in execution order; listed, not raised.
        cleared: step since which no condition holds any more; ``None`` while it is open.
    """

    number: int
    origin: str
    step: int
    detected: int
    severity: str
    kinds: tuple[str, ...]
    followers: tuple[str, ...] = ()
    cleared: int | None = None

    def _repr_html_(self) -> str:
        from shiftwatch.cards import incident_card

        return incident_card(self)


@dataclass(frozen=True)
class Event:
    """Something the run did on purpose, which explains a change.

    Args:
        step: optimizer step at which it was seen.
        kind: ``"learning_rate"``, ``"batch_size"``, ``"requires_grad"``, ``"mode"``,
            ``"resume"``, ``"dark"`` (a site can no longer be seen), …
        detail: one line for the report.
    """

    step: int
    kind: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What a reporter gets, once per window and once at the end.

    Args:
        first: first step of the window.
        step: last step of the window.
        sites: what the columns of ``metrics`` stand for.
        metrics: key to float64[sites]; NaN where a metric does not apply.
        alerts: raised since the last report, in order.
        incidents: opened or changed since the last report.
        overhead: share of the step time spent in shiftwatch so far, 0 to 1.
        losses: float64[steps of the window], the loss where it was given, else NaN.
        every: one step in so many is watched by now.
        final: whether this is the last report of the run.
        run: the whole history, readable as from ``shiftwatch.open``; in the final report only.

    A reporter is any callable of one Report. Its exceptions are logged once and end it,
    not the training.
    """

    first: int
    step: int
    sites: tuple[Site, ...]
    metrics: Mapping[str, np.ndarray]
    alerts: tuple[Alert, ...] = ()
    incidents: tuple[Incident, ...] = ()
    overhead: float = 0.0
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0))
    every: int = 1
    final: bool = False
    run: Run | None = None


def to_plain(record: Site | Layer | Alert | Incident | Event) -> dict[str, Any]:
    """Record as a dict of strings, numbers and lists, ready for JSON.

    Example:
        >>> to_plain(Site("fc1"))
        {'layer': 'fc1', 'tensor': 'output', 'part': '', 'mode': 'train'}
    """
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(record).items()}


def from_plain(kind: type[Any], plain: Mapping[str, Any]) -> Any:
    """Inverse of :func:`to_plain`; fields that a newer version added are dropped.

    Example:
        >>> from_plain(Site, {"layer": "fc1", "colour": "blue"})
        Site(layer='fc1', tensor='output', part='', mode='train')
    """
    fields = kind.__dataclass_fields__
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items() if k in fields}
    return kind(**known)
