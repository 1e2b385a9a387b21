"""Weights: units that can never come to differ, and parameters that learn nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from shiftwatch.preflight.evidence import Evidence, Weight
from shiftwatch.preflight.record import Finding, many


def symmetric(evidence: Evidence) -> Iterator[Finding]:
    """Layers whose units are copies of each other, in their weights and in their gradients.

    Such units stay copies for ever (the trap of zero and of constant initialisation). A zero
    that gets different gradients (LoRA's second matrix, the last layer of a residual
    branch) is no trap, and not named.
    """
    known = [w for w in evidence.weights if w.rows > 1 and w.trainable and w.gradient >= 0]
    if evidence.backward or not known:
        return
    hit = [
        w
        for w in known
        if w.wakes <= 0 and 2 * w.distinct <= w.rows and 2 * w.gradient_distinct <= w.rows
    ]
    if not hit:
        yield Finding("ok", "collapse", "", "distinct_units", np.nan, np.nan, "units differ")
        return
    first = hit[0]
    same = "zero" if first.rms == 0 else "the same"
    yield Finding(
        "critical", "collapse", first.layer, "distinct_units", float(first.distinct),
        float(first.rows),
        f"the weights of all units are {same} and so are their gradients: {first.rows} units act as "
        f"{first.distinct} and stay so{_also(hit)}",
        "Initialise at random: nothing else tells units apart.",
    )  # fmt: skip


def asleep(evidence: Evidence) -> Iterator[Finding]:
    """Parameters without gradient: unused, cut off, asleep for a step, or frozen on purpose."""
    frozen = [w for w in evidence.weights if not w.trainable]
    if frozen:
        size = sum(int(np.prod(w.shape)) for w in frozen)
        yield Finding(
            "info", "frozen", frozen[0].layer, "parameters", float(size), np.nan,
            f"no gradient is asked for {many(len(frozen), 'parameter')}{_also(frozen)}",
        )  # fmt: skip
    if evidence.backward:
        return
    trainable = [w for w in evidence.weights if w.trainable]
    unused = [w for w in trainable if np.isnan(w.gradient) and not w.gradient_bad]
    never = [w for w in trainable if w.wakes < 0]
    later = [w for w in trainable if w.wakes > 0]
    if unused:
        layers = {w.layer for w in unused}
        called = (
            "whose layers are never called"
            if layers <= set(evidence.uncalled)
            else "no part of the loss"
        )
        yield Finding(
            "warning", "frozen", unused[0].layer, "gradient", np.nan, np.nan,
            f"no gradient reaches {many(len(unused), 'parameter')}, {called}{_also(unused)}",
            "Call the layer in forward(), or remove it; look for detach(), no_grad() and .data. "
            "DistributedDataParallel raises an error on parameters that are not used.",
        )  # fmt: skip
    if never:
        yield Finding(
            "critical" if len(never) == len(trainable) else "warning", "frozen", never[0].layer,
            "gradient", 0.0, 0.0,
            f"the gradient of {never[0].name} is zero, and stays zero in the next steps{_also(never)}",
            "Something behind it lets nothing through: weights that are zero, dead units, or a "
            "product with zero.",
        )  # fmt: skip
    if later:
        steps = max(w.wakes for w in later)
        yield Finding(
            "info", "frozen", later[0].layer, "gradient", 0.0, 0.0,
            f"{many(len(later), 'gradient')} zero now, arriving {'a step' if steps == 1 else f'{steps} steps'}"
            f" later, as beside a branch that starts at zero{_also(later)}",
        )  # fmt: skip
    if not (unused or never):
        message = f"gradients of {many(len(trainable), 'parameter')}"
        yield Finding("ok", "frozen", "", "gradient", np.nan, np.nan, message)


def _also(hit: Sequence[Weight]) -> str:
    names = list(dict.fromkeys(w.layer for w in hit))[1:]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"; also in {', '.join(names[:3])}{more}" if names else ""
