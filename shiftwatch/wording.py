"""Numbers, steps and verdicts in words: what the page says before anyone looks at a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftwatch.epochs import epochs
from shiftwatch.records import INPUT, Incident

if TYPE_CHECKING:
    from shiftwatch.history import Run

_KIND_WORDS = {
    "nonfinite": "non-finite values",
    "dead": "dead units",
    "saturation": "saturation",
    "mean_shift": "mean shift",
    "variance_shift": "variance shift",
    "distribution_shift": "distribution shift",
    "exploding": "exploding values",
    "vanishing": "vanishing values",
    "batchnorm": "BatchNorm out of step",
    "frozen": "frozen weights",
    "update": "unusual update size",
    "collapse": "collapse",
    "corruption": "corrupted weights",
}


def number(value: float, digits: int = 4) -> str:
    """A figure as people write it: some digits, thousands apart, powers of ten far out.

    Example:
        >>> number(12345.6), number(0.25), number(3e-7), number(float("nan"))
        ('12,346', '0.25', '3e−7', '–')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    if value == int(value) and size < 1e7:
        text = f"{int(value):,}"
    elif size >= 1e7 or size < 1e-4:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}e{int(exponent)}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{float(f'{value:.{digits}g}'):g}"
    return text.replace("-", "−")


def percent(share: float) -> str:
    """A share in percent, two digits.

    Example:
        >>> percent(0.0081), percent(0.5)
        ('0.81 %', '50 %')
    """
    return "–" if math.isnan(share) else f"{float(f'{share * 100:.2g}'):g} %"


def count(n: int, noun: str, plural: str = "") -> str:
    """A counted noun.

    Example:
        >>> count(1, "layer"), count(1200, "step")
        ('1 layer', '1,200 steps')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def kind_words(kind: str) -> str:
    """A kind of alert as a reader says it.

    Example:
        >>> kind_words("dead")
        'dead units'
    """
    return _KIND_WORDS.get(kind, kind.replace("_", " "))


def place(layer: str) -> str:
    """A layer's name in a sentence.

    Example:
        >>> place("<input>"), place("fc2"), place("0")
        ("the model's input", 'fc2', 'layer 0')
    """
    if layer == INPUT:
        return "the model's input"
    return f"layer {layer}" if layer.isdecimal() else layer


def capital(sentence: str) -> str:
    """A sentence that begins with a capital letter; the others stay as they are.

    Example:
        >>> capital("loss of fc1.Weight")
        'Loss of fc1.Weight'
    """
    return sentence[:1].upper() + sentence[1:]


def listed(words: list[str]) -> str:
    """Words in a row: ``a, b and c``.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def when(value: Any) -> str:
    """A moment from a run's meta data, ISO text or seconds since 1970, to the minute.

    Example:
        >>> when(0), when("2026-01-02T03:04:05"), when(None)
        ('1970-01-01 00:00 UTC', '2026-01-02 03:04', '')
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        try:
            return datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        except (OverflowError, OSError, ValueError):
            return ""
    if not isinstance(value, str):
        return ""
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return value
    return moment.strftime("%Y-%m-%d %H:%M") + (" UTC" if moment.tzinfo == timezone.utc else "")


def layers_of(run: Run) -> int:
    """Number of layers; the model's input is none."""
    return sum(name != INPUT for name in run.layers)


def raised(run: Run) -> list[Incident]:
    """Incidents that count as an alarm, by the step at which they began."""
    return sorted((i for i in run.incidents if i.severity != "info"), key=lambda i: i.step)


def verdict(run: Run) -> tuple[str, str]:
    """Level (``"healthy"``, ``"warning"``, ``"critical"`` or ``"empty"``) and the sentence.

    Example:
        >>> from shiftwatch import Monitor
        >>> rng, monitor = np.random.default_rng(0), Monitor(run=False)
        >>> for step in range(64):
        ...     monitor.observe("fc1", rng.normal(size=(32, 4)))
        ...     monitor.step()
        >>> verdict(monitor.history)
        ('healthy', 'Healthy: no alert in 64 steps over 1 layer.')
    """
    windows = run.steps.size
    if not windows:
        return "empty", "Nothing recorded: no window of steps is complete."
    steps = int(run.steps[-1]) - int(run.first[0]) + 1
    span = f"{count(steps, 'step')} over {count(layers_of(run), 'layer')}"
    incidents = raised(run)
    alerts = [a for a in run.alerts if a.severity != "info"]
    if not incidents and not alerts:
        notes = f", {count(len(run.alerts), 'note')}" if run.alerts else ""
        return "healthy", f"Healthy: no alert{notes} in {span}."
    severities = {i.severity for i in incidents} | {a.severity for a in alerts}
    level = "critical" if "critical" in severities else "warning"
    if not incidents:
        first = min(alerts, key=lambda a: a.step)
        return level, (
            f"{count(len(alerts), 'alert')}. The first in {place(first.layer)} "
            f"at step {first.step:,}: {kind_words(first.kind)}."
        )
    first_incident = incidents[0]
    names = [kind_words(k) for k in first_incident.kinds]
    names = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"]
    kinds = listed(names) if names else ""
    followers = len(first_incident.followers)
    sentence = (
        f"{count(len(incidents), 'incident')}. It began in {place(first_incident.origin)} "
        f"at step {first_incident.step:,}" + (f": {kinds}" if kinds else "")
    )
    if followers:
        sentence += f"; {count(followers, 'layer')} followed"
    open_ones = sum(i.cleared is None for i in incidents)
    if not open_ones:
        sentence += ". All cleared" if len(incidents) > 1 else ". It cleared"
        sentence += f" by step {max(i.cleared or 0 for i in incidents):,}"
    elif open_ones < len(incidents):
        sentence += f". {open_ones} still open at the end"
    return level, sentence + "."


def loss_range(losses: np.ndarray) -> str:
    """First and last known loss, ``2.31 → 0.42``; empty without any.

    Example:
        >>> loss_range(np.array([np.nan, 2.0, 0.5]))
        '2 → 0.5'
    """
    known = losses[~np.isnan(losses)]
    if not known.size:
        return ""
    return f"{number(known[0], 3)} → {number(known[-1], 3)}"


def watched(meta: Mapping[str, Any]) -> str:
    """Which steps were watched, where it was not each of them.

    Example:
        >>> watched({"options": {"every": 1, "budget": 0.01}, "every": 250})
        'one step in 250 at the end, for a budget of 1 %'
        >>> watched({"options": {"every": 10, "budget": None}, "every": 10})
        'one step in 10'
    """
    options = meta.get("options") or {}
    every, budget = meta.get("every", options.get("every", 1)), options.get("budget")
    if not budget:
        return f"one step in {every:,}" if every > 1 else ""
    share = f"for a budget of {percent(budget)}"
    if "every" not in meta:  # not finished
        return f"as many steps as fit, {share}"
    return f"one step in {every:,} at the end, {share}" if every > 1 else f"every step, {share}"


def facts(run: Run) -> list[tuple[str, str]]:
    """Label and value of the small facts under the headline; unknown ones are left out."""
    last = int(run.steps[-1]) if run.steps.size else None
    overhead = float(run.overhead)
    attempts = len(run.attempts)
    attempt = run.attempt
    if attempts > 1 and attempt in run.attempts:
        attempt += f" ({run.attempts.index(attempt) + 1} of {attempts})"
    known = len(epochs(run))
    state = ""
    if not run.meta.get("finished", "started" not in run.meta):
        state = "ended by an error" if "steps" in run.meta else "not finished"  # said at the end
    pairs = [
        ("Steps", f"{int(run.first[0]):,}–{last:,}" if last is not None else ""),
        ("Epochs", f"{known:,}" if known else ""),
        ("Layers", f"{layers_of(run):,}"),
        ("Windows", f"{run.steps.size:,}"),
        ("Cost", f"{percent(overhead)} of step time" if math.isfinite(overhead) else ""),
        ("Watched", watched(run.meta)),
        ("Loss", loss_range(run.losses)),
        ("Attempt", attempt),
        ("Started", when(run.meta.get("started"))),
        ("State", state),
    ]
    return [(label, value) for label, value in pairs if value]


def run_name(run: Run) -> str:
    """Name of the run: its folder's, or one the run gave itself."""
    return str(run.meta.get("name") or (run.path.name if run.path is not None else "in memory"))
