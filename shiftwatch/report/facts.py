"""Facts: the alerts of an incident as a reader wants them, each fact told once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shiftwatch.records import Alert
from shiftwatch.wording import capital, number

# Negative numbers and powers of ten, but no part of a name, a range or another number.
_FIGURE = re.compile(
    r"(?<![\w.,/-])(?:-\d+(?:\.\d+)?(?:e[+-]?\d+)?|\d+(?:\.\d+)?e[+-]?\d+)(?![\w.]*\w)"
)


@dataclass(frozen=True)
class Fact:
    """Something that was seen once, whatever kinds of alert it raised.

    Args:
        alerts: that say it, in the order raised; at least one.
        label: tensor with its part, such as ``"weight[bias]"``.
        sentence: what was seen, without step, place and kind, which stand beside it.
    """

    alerts: tuple[Alert, ...]
    label: str
    sentence: str

    @property
    def step(self) -> int:
        """Step at which it began."""
        return self.alerts[0].step

    @property
    def layer(self) -> str:
        """Where it was seen."""
        return self.alerts[0].layer

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of its alerts, each once."""
        return tuple(dict.fromkeys(a.kind for a in self.alerts))

    @property
    def advice(self) -> tuple[str, ...]:
        """What to look at first, each once."""
        return tuple(dict.fromkeys(a.advice for a in self.alerts if a.advice))


def facts_of(alerts: Iterable[Alert]) -> list[Fact]:
    """Alerts that say the same of the same tensor at the same step, put together.

    Args:
        alerts: of one incident, in the order raised.

    Returns:
        Facts, in the order of their first alert.

    Example:
        >>> from shiftwatch.records import Alert
        >>> def alert(kind: str) -> Alert:
        ...     message = f"step 7 · fc output · {kind}: standard deviation fell ×9; began in in"
        ...     return Alert(7, "fc", "output", kind, "warning", "std", 1, 2, message, "", "in", 1, 8)
        >>> [fact] = facts_of([alert("variance_shift"), alert("vanishing")])
        >>> fact.kinds, fact.sentence
        (('variance_shift', 'vanishing'), 'Standard deviation fell ×9')
    """
    found: dict[tuple[int, str, str, str], list[Alert]] = {}
    for alert in alerts:
        found.setdefault((alert.step, alert.layer, *_read(alert)), []).append(alert)
    return [Fact(tuple(same), label, sentence) for (*_, label, sentence), same in found.items()]


def _read(alert: Alert) -> tuple[str, str]:
    """Tensor with its part, and what the message says beyond what stands beside it.

    A message of another form, as of a rule of the user's own, is left as it is.
    """
    start, kind = f"step {alert.step} · {alert.layer} ", f" · {alert.kind}: "
    label, found, words = alert.message.removeprefix(start).partition(kind)
    if not found or not alert.message.startswith(start) or " " in label:
        return alert.tensor, alert.message
    words = _FIGURE.sub(_readable, words.removesuffix(f"; began in {alert.origin}"))
    return label, capital(words)


def _readable(figure: re.Match[str]) -> str:
    """A figure in the words of a log, as people write it: ``×1.33e+03`` is ×1,330."""
    return number(float(figure[0]), 3)
