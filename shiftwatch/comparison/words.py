"""Differences and verdicts in sentences, as a reader would say them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shiftwatch import wording
from shiftwatch.comparison.schedules import Schedules
from shiftwatch.records import INPUT, Incident


def sentence(
    measure: str, layer: str, value: float, a: float, b: float, since: str, *, name_a: str
) -> str:
    """A difference in one sentence.

    Args:
        measure: a key of :data:`shiftwatch.comparison.LIMITS`.
        layer: name in B.
        value: the difference.
        a, b: the sizes that it compares, where it compares sizes; else NaN.
        since: from when on, ``"from step 1,200"``.
        name_a: what A is called.

    Example:
        >>> sentence("drift", "fc3", 2.0, 0.5, 2.0, "from step 1,200", name_a="good")
        'fc3 drifts 4× more from step 1,200: 2 standard deviations from its start, 0.5 in good'
        >>> sentence("dead_fraction", "act2", 0.29, 0.02, 0.31, "from step 240", name_a="good")
        '31 % of the units of act2 are dead from step 240, 2 % in good'
    """
    where = place(layer)
    whose = f"{where}'s"
    if measure == "nonfinite":
        return f"{_percent(b)} of {whose} values are not finite {since}, {_percent(a)} in {name_a}"
    if measure == "dead_fraction":
        return f"{_percent(b)} of the units of {where} are dead {since}, {_percent(a)} in {name_a}"
    if measure == "saturation":
        return f"{_percent(b)} of {whose} values are saturated {since}, {_percent(a)} in {name_a}"
    if measure == "drift":
        far = f"{_number(b)} standard deviations from its start, {_number(a)} in {name_a}"
        if value > 0:
            return f"{where} drifts {_times(b, a, 50)} more {since}: {far}"
        return f"{where} drifts {_times(a, b, 50)} less {since}: {far}"
    if measure == "mean_shift":
        way = "higher" if value > 0 else "lower"
        far = _number(abs(value)) if abs(value) < 1000 else "over 1,000"
        return f"{whose} values lie {far} standard deviations {way} {since}"
    if measure == "variance_shift":
        return (
            f"{whose} values spread {_times(b, a)} wider {since}"
            if value > 0
            else f"{whose} values spread {_times(a, b)} less {since}"
        )
    if measure == "js":
        return (
            f"{whose} values are distributed differently {since}: "
            f"JS divergence {_number(value)} of at most 0.69"
        )
    what = {
        "weight": f"{whose} weights are",
        "gradient": f"{whose} gradient, beside that of other layers, is",
        "update": f"{whose} updates, for the size of its weights, are",
    }[measure]
    return f"{what} {_factor(value)} {'larger' if value > 0 else 'smaller'} {since}"


def rates(found: Schedules, name_a: str) -> str:
    """How the learning rates differ, in one sentence.

    Example:
        >>> rates(Schedules(300, None, 300, (0.1, 0.01)), "good")
        'the learning rates differ from step 300: 0.01, 0.1 in good'
        >>> rates(Schedules(0, 900, 500, (0.1, 0.05)), "good")
        'the learning rates differ from the start to step 900, most at step 500: 0.05, 0.1 in good'
    """
    when = since(found.since, found.since == 0, found.until)
    most = "" if found.most == found.since else f", most at step {found.most:,}"
    one, other = (wording.number(rate, 3) for rate in found.sizes)
    return f"the learning rates differ {when}{most}: {other}, {one} in {name_a}"


def since(step: int, from_start: bool, until: int | None) -> str:
    """From when on, and until when.

    Example:
        >>> since(1200, False, None), since(0, True, 240)
        ('from step 1,200', 'from the start to step 240')
    """
    begin = "from the start" if from_start else f"from step {step:,}"
    return begin if until is None else f"{begin} to step {until:,}"


def first_incident(incidents: Sequence[Incident]) -> str:
    """The first incident that is more than a note, in a few words; ``""`` without any.

    Example:
        >>> first_incident([Incident(1, "fc2", 240, 250, "critical", ("dead",))])
        ': dead units in fc2 from step 240'
    """
    first = next((i for i in incidents if i.severity != "info"), None)
    if first is None:
        return ""
    kinds = [wording.kind_words(k) for k in first.kinds[:2]]
    what = " and ".join(kinds) or first.severity
    return f": {what} in {place(first.origin)} from step {first.step:,}"


def place(layer: str) -> str:
    """A layer's name in a sentence; of two runs the input is nobody's own.

    Example:
        >>> place("<input>"), place("fc2"), place("0")
        ('the input', 'fc2', 'layer 0')
    """
    return "the input" if layer == INPUT else wording.place(layer)


def _times(more: float, less: float, most: float = 1000) -> str:
    ratio = more / less if less > 0 else math.inf
    return f"{_number(ratio)}×" if ratio < most else f"over {most:,}×"


def _factor(log_ratio: float) -> str:
    return _times(math.exp(min(abs(log_ratio), 20.0)), 1.0)


def _percent(share: float) -> str:
    return f"{_number(100 * share)} %"


def _number(value: float) -> str:
    """Two digits, thousands apart."""
    if not math.isfinite(value):
        return "infinitely many" if value > 0 else "unknown"
    if abs(value) >= 1e6:
        return f"{value:.0e}"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:g}"
