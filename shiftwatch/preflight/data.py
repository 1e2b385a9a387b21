"""Data: what enters the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shiftwatch.preflight.evidence import Evidence, Given
from shiftwatch.preflight.record import Finding
from shiftwatch.records import INPUT

#: Root mean square of the largest feature. Standardised data has 1, pixels from 0 to 16 have up to
#: 12, pixels from 0 to 255 some 100.
LARGE = 30.0
SMALL = 1e-3


def inputs(evidence: Evidence) -> Iterator[Finding]:
    """Inputs that are not normalised, do not vary, or are all the same."""
    given = [g for g in evidence.given if g.rank > 1]
    alike = [g for g in given if g.spread == 0]
    if alike and len(alike) == len(given):
        yield Finding(
            "warning", "collapse", INPUT, "sample_spread", 0.0, 0.0,
            f"all {evidence.samples} samples of the batch are the same",
            "What tells samples apart cannot be judged. Check the loader, or pass a real batch.",
        )  # fmt: skip
    if evidence.samples < 2:
        yield Finding(
            "info", "input", INPUT, "samples", float(evidence.samples), 2.0,
            "one sample only: what tells samples apart cannot be judged",
        )  # fmt: skip
    taken = evidence.entering or evidence.given
    numbers = [g for g in taken if g.number and g.rank > 1 and g.values.count]
    if not numbers:
        return
    sizes = [_largest(g) for g in numbers]
    worst = int(np.argmax(sizes))
    top, part = sizes[worst], numbers[worst]
    if top > LARGE or top < SMALL:
        low, high = part.values.low, part.values.high
        absorbed = normalised_first(evidence)
        yield Finding(
            "info" if absorbed else "warning", "input", INPUT, "rms", top,
            LARGE if top > LARGE else SMALL,
            f"the input is not normalised: values from {low:.3g} to {high:.3g}, mean "
            f"{part.values.mean:.3g}, standard deviation {part.values.std:.3g}"
            + (", which the normalisation behind it takes out" if absorbed else ""),
            "" if absorbed else "Bring each feature to mean 0 and standard deviation 1, or divide "
            "pixels by 255: initialisation takes inputs of size 1 for granted.",
        )  # fmt: skip
    else:
        message = f"size of the input, values from {part.values.low:.3g} to {part.values.high:.3g}"
        yield Finding("ok", "input", INPUT, "rms", top, LARGE, message)
    constant = sum(g.constant for g in numbers)
    width = sum(g.values.width for g in numbers if g.rank == 2)
    if 0 < constant < width:
        yield Finding(
            "info", "input", INPUT, "constant_features", float(constant), np.nan,
            f"{constant} of {width} features are constant in this batch",
        )  # fmt: skip


def normalised_first(evidence: Evidence) -> bool:
    """Whether all that takes the input is a normalisation, or is followed by BatchNorm alone."""
    after: dict[str, list[str]] = {}
    norms = {s.key: s.norm for s in evidence.starts if s.training or s.norm != "batch"}
    for s in evidence.starts:
        for parent in s.parents:
            after.setdefault(parent, []).append(s.key)
    taking = after.get(INPUT, [])
    return bool(taking) and all(
        norms.get(key) or (after.get(key) and all(norms.get(k) for k in after[key]))
        for key in taking
    )


def _largest(given: Given) -> float:
    """Root mean square of the largest feature or channel."""
    values = given.values
    squares = values.unit_square / np.maximum(values.unit_count, 1)
    return float(np.sqrt(squares.max()))
