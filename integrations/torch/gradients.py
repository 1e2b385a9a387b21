"""Gradients: looked at before the optimizer steps; in full where a bad one arrived."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from shiftwatch.integrations.torch.looks import (
    SMALL,
    Seen,
    finite,
    flags,
    read,
    readable,
    square,
)
from shiftwatch.integrations.torch.modules import axis_of
from shiftwatch.integrations.torch.weights import Owned
from shiftwatch.records import INPUT, Site
from shiftwatch.source import Finding


def first(held: Sequence[Owned], order: Mapping[str, int]) -> list[Owned]:
    """Those that every bad gradient arrives at, by the ``order`` in which layers are called.

    Of the first two layers the largest that is small, for a bias misses an input that is
    not finite; else the smallest of all.
    """
    sizes: list[tuple[int, int, int]] = []
    for i, own in enumerate(held):
        grad = own.gradient
        if type(grad) is Tensor and grad.layout == torch.strided:
            sizes.append((order.get(own.layer, len(order)), grad.numel(), i))
    small: dict[int, int] = {}
    for place, size, i in sorted(sizes, key=lambda s: (s[0], -s[1])):
        if size <= SMALL:
            small.setdefault(place, i)
    least = [min(sizes, key=lambda s: s[1])[2]] if sizes else []
    return [held[i] for i in list(small.values())[:2] or least]


def sum_is_finite(own: Owned) -> bool:
    """Whether the gradient of a parameter is finite at first sight."""
    held: Any = own.module._parameters[own.key]
    total = square(held.grad)
    return total is not None and math.isfinite(total)


def broken(signals: Sequence[Owned]) -> bool:
    """Whether the gradient of one of these is not finite. Cost: a sum of each."""
    for own in signals:
        grad = own.gradient
        if grad is None or not grad.is_cpu or not readable(grad):
            continue
        if not math.isfinite(grad.sum()) and not finite(grad):  # the sum may overflow
            return True
    return False


def origin(
    given: Sequence[tuple[str, weakref.ref[Tensor]]],
    held: Sequence[Owned],
    order: Mapping[str, int],
) -> tuple[Finding, bool] | None:
    """Look at all gradients that the optimizer is about to use, from the loss backwards.

    Returns:
        The finding, and whether it is the loss's own gradient; ``None`` where all is finite.
    """
    entered = [
        Seen(INPUT, "input", path, t.numel(), flags(t, axis_of("rank", t)))
        for path, ref in given
        if (t := ref()) is not None and t.is_floating_point()
    ]
    read(entered)
    harm = [s for s in entered if s.count.nan or s.count.high]
    if harm:  # a layer that saturates lets Inf through as a finite value, forward
        text = f"{harm[0].words}, seen in the gradients first"
        site = Site(INPUT, "input", harm[0].part if harm[0] is not entered[0] else "")
        return Finding(INPUT, site, harm[0].size, harm[0].count.bad, text), False
    layers: dict[str, list[Seen]] = {}
    for own in held:
        grad = own.gradient
        if grad is None or not readable(grad):
            continue
        seen = Seen(own.layer, "gradient", own.part or own.key, grad.numel(), None)
        seen.flags = flags(grad, None if grad.dim() == 0 else 0)
        layers.setdefault(own.layer, []).append(seen)
    read([s for group in layers.values() for s in group])
    line = sorted(layers, key=lambda n: order.get(n, len(order)), reverse=True)
    bad = [n for n in line if any(s.count.bad for s in layers[n])]
    if not bad:
        return None
    worst = next(s for s in layers[bad[0]] if s.count.bad)
    behind = line[: line.index(bad[0])]
    text = f"{worst.words} in the gradient of its {worst.part}"
    if not behind:
        text += ": so it comes from the loss, though the outputs are finite"
        layer = bad[0]
    else:
        near = behind[-1]
        low, high = order.get(bad[0], -1), order.get(near, len(order))
        between = [n for n, place in order.items() if low < place < high and n not in layers]
        layer = between[0] if len(between) == 1 else bad[0]
        text += f"; those of {near}, next towards the loss, are finite"
        text += f"; between them: {', '.join(between)}" if between else ""
    site = Site(bad[0], "gradient")
    return Finding(layer, site, worst.size, worst.count.bad, text), not behind
