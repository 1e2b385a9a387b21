"""Signal: does what tells samples apart, and the gradient, survive the depth?

In networks whose activations keep their scale (Glorot & Bengio 2010, He et al. 2015) the
variance between samples is the same in all layers, and so is the norm of the gradient. Each
layer multiplies them by its gain, so a gain of 0.3 is harmless in three layers and fatal in ten.

The limits come from training plain networks as PyTorch initialises them (width 64, 2 to 14 hidden
layers of ReLU, GELU, tanh or sigmoid, two seeds) on scikit-learn's digits for 400 steps. Where the
spread of the last hidden layer was over a hundredth of the first one's, all 36 runs, of SGD at 0.1
with momentum 0.9 and of Adam at 1e-3, reached 0.9 of the training set; under a thousandth none of
the 24 runs of SGD passed 0.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from shiftwatch.preflight.chain import chain
from shiftwatch.preflight.evidence import Evidence, Start
from shiftwatch.preflight.record import Finding, many
from shiftwatch.records import INPUT

#: Spread of the last hidden layer over the first one's, and gradient of the first over the last's.
LOST = 1e-3
FADED = 1e-2
GONE = 1e-6
#: Root mean square of an output over that of the model's input (or 1, where that is smaller).
GREAT = 100.0
#: Gradient of the first layer over that of the last.
STEEP = 1000.0
#: Spread over root mean square of an output: under it samples are alike.
ALIKE = 1e-4


def nonfinite(evidence: Evidence) -> Iterator[Finding]:
    """The first layer whose output, or whose gradient, is not finite."""
    bad = [g for g in evidence.given if g.number and g.values.broken]
    if bad:
        values = bad[0].values
        count = float(values.size - values.count)
        share = f"{count:,.0f} of {values.size:,} values of the input"
        yield Finding(
            "critical", "nonfinite", INPUT, "nonfinite", count, 0.0, f"{share} are NaN or Inf",
            "Clean the data: a division by zero or a missing value in preprocessing is usual.",
        )  # fmt: skip
        return
    broken = next((w for w in evidence.weights if not np.isfinite(w.rms)), None)
    start = next((s for s in evidence.starts if s.output.broken), None)
    if broken is not None:
        yield Finding(
            "critical", "nonfinite", broken.layer, "nonfinite", np.nan, 0.0,
            f"the parameter {broken.name} is not finite", "Initialise or load it anew.",
        )  # fmt: skip
    elif start is not None:
        count = float(start.output.size - start.output.count)
        yield Finding(
            "critical", "nonfinite", start.layer, "nonfinite", count, 0.0,
            f"{count:,.0f} of {start.output.size:,} values are NaN or Inf, those of the layers before are finite",
            "Look for a division by zero, a logarithm of zero, or an overflow in half precision.",
        )  # fmt: skip
    elif (
        steep := next((s for s in reversed(evidence.starts) if s.gradient_bad), None)
    ) is not None:
        yield Finding(
            "critical", "nonfinite", steep.layer, "nonfinite", float(steep.gradient_bad), 0.0,
            f"{steep.gradient_bad:,} values of the gradient are NaN or Inf, though outputs are finite",
            "Look for the derivative of a square root or a norm at zero, or of a masked branch.",
        )  # fmt: skip
    elif (weight := next((w for w in evidence.weights if w.gradient_bad), None)) is not None:
        yield Finding(
            "critical", "nonfinite", weight.layer, "nonfinite", float(weight.gradient_bad), 0.0,
            f"the gradient of {weight.name} is not finite, though outputs are",
            "Look for the derivative of a square root or a norm at zero.",
        )  # fmt: skip


def forward(evidence: Evidence) -> Iterator[Finding]:
    """Signals that fade or grow on their way to the output; a normalisation starts anew."""
    hidden = [s for s in _hidden(evidence) if np.isfinite(s.spread)]
    parts = [p for p in _segments(hidden) if p[0].spread > 0]
    ratios = [min(s.spread for s in p) / p[0].spread for p in parts]
    ratio = min(ratios, default=np.nan)
    if 0 < ratio < LOST:
        part = parts[int(np.argmin(ratios))]
        spreads = np.array([s.spread for s in part])
        steps = _gains(evidence, part, spreads)
        culprit = _culprit(steps, -1, part[-1])
        yield Finding(
            "critical" if ratio < GONE else "warning", "vanishing", culprit.layer,
            "signal_ratio", ratio, LOST,
            f"the signal fades with depth: what tells samples apart is {spreads[0]:.2g} after "
            f"{part[0].key} and {spreads.min():.2g} at the end of the hidden layers, "
            f"{_each(steps)} per layer",
            _cure(evidence, culprit),
        )  # fmt: skip
        return
    given = [g.values.rms for g in evidence.entering if g.number and g.rank > 1]
    base = max([1.0, *given])
    sizes = [s.rms / base for s in evidence.starts]
    top = max(sizes, default=np.nan)
    if top > GREAT:
        links = _hidden(evidence, last=True)
        steps = _gains(evidence, links, np.array([s.rms for s in links]))
        at = next(s for s, size in zip(evidence.starts, sizes, strict=True) if size > GREAT)
        culprit = _culprit(steps, 1, at)
        yield Finding(
            "critical" if top > GREAT**2 else "warning", "exploding", culprit.layer, "rms_ratio",
            top, GREAT,
            f"outputs grow with depth: they pass {GREAT:.0f} times the input's size in {at.key}"
            + (f", {_each(steps)} per layer" if steps else ""),
            _cure(evidence, culprit),
        )  # fmt: skip
        return
    if ratio < FADED:
        yield Finding(
            "info", "vanishing", "", "signal_ratio", ratio, LOST,
            f"the signal fades over {many(sum(s.weighty for s in hidden), 'hidden layer')}; plain SGD is slow here",
        )  # fmt: skip
        return
    said = (
        f"signal over {many(sum(s.weighty for s in hidden), 'hidden layer')}"
        if np.isfinite(ratio)
        else "size of outputs"
    )
    value, limit = (ratio, LOST) if np.isfinite(ratio) else (top, GREAT)
    yield Finding("ok", "vanishing", "", "signal_ratio", value, limit, said)


def backward(evidence: Evidence) -> Iterator[Finding]:
    """Gradients that fade or grow on their way to the input."""
    if evidence.backward:
        yield Finding(
            "info", "vanishing", "", "gradient_ratio", np.nan, LOST,
            f"gradients were not judged: {evidence.backward}",
        )  # fmt: skip
        return
    links = [s for s in chain(evidence) if s.gradient > 0]
    weighty = [i for i, s in enumerate(links) if s.weighty]
    links = links[weighty[0] :] if weighty else []
    deep = len(weighty)
    if any(s.norm for s in links):  # between these the scale of values is free, and with it this
        links = [s for s in links if s.norm]
    if len(links) < 2:
        return
    norms = np.array([s.gradient for s in links])
    last = float(norms[-1])
    low, high = norms.min() / last, norms.max() / last
    steps = _gains(evidence, links, norms)
    if low < LOST or high > STEEP:
        fades = low < LOST
        culprit = _culprit(steps, 1 if fades else -1, links[0])
        word, way = ("vanishing", "fades") if fades else ("exploding", "grows")
        ratio = low if fades else high
        severe = ratio < GONE or ratio > STEEP**2
        yield Finding(
            "critical" if severe else "warning", word, culprit.layer, "gradient_ratio", float(ratio),
            LOST if fades else STEEP,
            f"the gradient {way} on its way back: {last:.2g} at {links[-1].key}, "
            f"{norms.min() if fades else norms.max():.2g} in the first layers, "
            f"{_each([(s, 1 / g) for s, g in steps])} per layer",
            _saturating(evidence) if fades else _cure(evidence, culprit),
        )  # fmt: skip
        return
    worst = low if low * high < 1 else high
    yield Finding(
        "ok", "vanishing", "", "gradient_ratio", float(worst), LOST if worst == low else STEEP,
        f"gradient over {many(deep, 'layer')}",
    )  # fmt: skip


def alike(evidence: Evidence) -> Iterator[Finding]:
    """Layers, first of all the last one, whose output does not depend on the input."""
    if evidence.samples < 2 or any(g.spread == 0 for g in evidence.given):
        return
    links = [s for s in chain(evidence) if np.isfinite(s.spread)]
    if not links:
        return
    shares = np.array([s.spread / s.rms if s.rms > 0 else 0.0 for s in links])
    if shares[-1] >= ALIKE:
        message = "outputs depend on the input"
        yield Finding("ok", "collapse", "", "sample_spread", float(shares[-1]), ALIKE, message)
        return
    first = links[len(shares) - int(np.argmax(np.append(shares[::-1], 1.0) >= ALIKE))]
    heads = [s for s in links if s.weighty][-1:]
    zeros = [w for w in evidence.weights if w.layer == first.layer and w.rows]
    begun = [w for w in zeros if w.rms == 0 and w.gradient > 0]
    if first in heads and zeros and len(begun) == len(zeros):
        yield Finding(
            "info", "collapse", first.layer, "sample_spread", float(shares[-1]), ALIKE,
            "the output is the same for all samples: the last layer starts at zero, and gets a gradient",
        )  # fmt: skip
        return
    yield Finding(
        "critical" if shares[-1] < GONE else "warning", "collapse", first.layer,
        "sample_spread", float(shares[-1]), ALIKE,
        f"the output hardly depends on the input: samples differ by {shares[-1]:.1g} of its size",
        "From here on all samples give (almost) the same values. Look for weights that are zero or "
        "too small, dead or saturated units, or an input that is not used.",
    )  # fmt: skip


def gains(evidence: Evidence) -> dict[str, float]:
    """Gain of each layer with weights on the chain, by key: its spread over that of the one before."""
    weighty = [s for s in chain(evidence) if s.weighty and s.spread > 0]
    pairs = pairwise(weighty)
    return {after.key: after.spread / before.spread for before, after in pairs}


def _hidden(evidence: Evidence, last: bool = False) -> list[Start]:
    """The chain from the first layer with weights to before the last one, or to it."""
    links = chain(evidence)
    weighty = [i for i, s in enumerate(links) if s.weighty]
    return links[weighty[0] : weighty[-1] + last] if len(weighty) > 1 else []


def _segments(links: Sequence[Start]) -> list[list[Start]]:
    """Stretches of two and more layers, each from a normalisation to before the next one."""
    cuts = [0, *(i for i, s in enumerate(links) if s.norm and i), len(links)]
    parts = [list(links[a:b]) for a, b in pairwise(cuts)]
    return [p for p in parts if len(p) > 1]


def _gains(
    evidence: Evidence, links: Sequence[Start], sizes: np.ndarray
) -> list[tuple[Start, float]]:
    """From layer with weights to layer with weights: by how much sizes change, and who does it.

    That is the later one, or, where branches lie between the two, the first in these. What a
    layer does to the gradient on its way back is laid at its door likewise.
    """
    kept = [(s, float(x)) for s, x in zip(links, sizes, strict=True) if s.weighty]
    if links and (not kept or kept[-1][0] is not links[-1]):
        kept.append((links[-1], float(sizes[-1])))  # the activation that ends the stretch
    place = {s.key: i for i, s in enumerate(evidence.starts)}
    steps = []
    for (before, x), (after, y) in pairwise(kept):
        between = evidence.starts[place[before.key] + 1 : place[after.key] + 1]
        if x > 0 and y > 0:
            steps.append((next((s for s in between if s.weighty), after), y / x))
    return steps


def _culprit(steps: Sequence[tuple[Start, float]], sign: int, otherwise: Start) -> Start:
    """The layer that does twice as much of it as all others, else the first that takes part."""
    sizes = np.maximum([sign * np.log(gain) for _, gain in steps], 0.0)
    if not np.any(sizes > 0.1):
        return otherwise
    top = int(np.argmax(sizes))
    if sizes[top] <= 2 / 3 * sizes.sum():
        top = int(np.argmax(sizes > 0.5 * np.median(sizes[sizes > 0])))
    return steps[top][0]


def _each(steps: Sequence[tuple[Start, float]]) -> str:
    """Geometric mean of the gains: ``× 0.31``."""
    return f"× {float(np.exp(np.mean([np.log(g) for _, g in steps]))):.2g}" if steps else "× 1"


def _cure(evidence: Evidence, start: Start) -> str:
    """Which weights would keep the variance here."""
    weight = next((w for w in evidence.weights if w.layer == start.layer and w.rows), None)
    if weight is None:
        return "Normalise before this layer, or initialise the layers around it anew."
    nonlinear = {s.activation for s in evidence.starts} & {"relu", "gelu", "silu", "elu", "relu6"}
    name, keep = ("He", 2.0) if nonlinear else ("Glorot", 1.0)
    std = (keep / max(weight.fan_in, 1)) ** 0.5
    return (
        f"{weight.name} has a standard deviation of {weight.std:.2g}; {name} initialisation, which "
        f"keeps the variance, has {std:.2g}. Or normalise between the layers."
    )


def _saturating(evidence: Evidence) -> str:
    """What to do against a gradient that vanishes."""
    if any(s.activation == "sigmoid" for s in evidence.starts):
        return (
            "A sigmoid's slope is 0.25 at most: use ReLU, GELU or tanh in hidden layers, or "
            "normalise before it."
        )
    return (
        "Initialise larger (He for ReLU, Glorot for tanh), normalise between the layers, or add "
        "residual connections."
    )
