"""Wiring: normalisations and dropout in places where they do little, or harm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shiftwatch.preflight.evidence import Evidence, Scores, Start
from shiftwatch.preflight.record import Finding, many
from shiftwatch.preflight.units import also

#: Values per channel and call that BatchNorm needs: with n of them, its deviation is off by about
#: one part in sqrt(2 n), a quarter at 8.
FEW = 8
#: Saturating activations in a row from which a normalisation is missed.
DEEP = 4
#: Standard deviation of scores before a softmax, over its axis: with 64 keys and Gaussian scores,
#: the largest weight is then 0.5 on average.
PEAKED = 4.0


def norms(evidence: Evidence) -> Iterator[Finding]:
    """Normalisations in a row, or missing before saturating activations; a bias that does nothing."""
    by_key = {s.key: s for s in evidence.starts}
    children: dict[str, list[Start]] = {}
    for s in evidence.starts:
        for parent in s.parents:
            children.setdefault(parent, []).append(s)
    normal = [s for s in evidence.starts if s.norm]

    def before(s: Start) -> Start | None:
        """What alone feeds it, and feeds nothing else."""
        parent = by_key.get(s.parents[0]) if len(s.parents) == 1 and s.direct else None
        alone = parent is not None and len(children[parent.key]) == 1
        return parent if alone and parent is not None and parent.key not in evidence.ends else None

    twice = [s for s in normal if (p := before(s)) is not None and p.norm]
    if twice:
        first = before(twice[0])
        assert first is not None
        yield Finding(
            "warning", "normalisation", twice[0].layer, "in_a_row", 2.0, 1.0,
            f"normalised twice in a row, by {first.layer} and by {twice[0].layer}{also(twice)}",
            "The second undoes the first's scale and bias. Remove one of them.",
        )  # fmt: skip
    bias = [p for s in normal if s.norm == "batch" and (p := before(s)) is not None and p.bias]
    if bias:
        yield Finding(
            "info", "normalisation", bias[0].layer, "bias", np.nan, np.nan,
            f"the bias before BatchNorm does nothing: bias=False saves it{also(bias)}",
        )  # fmt: skip
    flat = [s for s in evidence.starts if s.activation in ("sigmoid", "tanh") and not s.gate]
    inner = flat[:-1] if flat and flat[-1].key in evidence.ends else flat
    if len(inner) >= DEEP and not normal:
        yield Finding(
            "info", "normalisation", inner[0].layer, "depth", float(len(inner)), float(DEEP),
            f"{len(inner)} saturating activations and no normalisation before them{also(inner)}",
        )  # fmt: skip
    if normal and not twice:
        message = f"{many(len(normal), 'normalisation')}, none twice in a row"
        yield Finding("ok", "normalisation", "", "in_a_row", 1.0, 1.0, message)


def batchnorm(evidence: Evidence) -> Iterator[Finding]:
    """BatchNorm with few values per channel, or in evaluation mode; dropout before it."""
    layers = [s for s in evidence.starts if s.norm == "batch"]
    if not layers:
        return
    still = [s for s in layers if not s.training]
    if not evidence.training:
        yield Finding(
            "info", "batchnorm", "", "mode", np.nan, np.nan,
            "the model is in evaluation mode: call model.train() to see what training sees",
        )  # fmt: skip
    elif still:
        meant = all(not s.trainable for s in still)
        yield Finding(
            "info" if meant else "warning", "batchnorm", still[0].layer, "mode", float(len(still)),
            0.0,
            f"BatchNorm is in evaluation mode while the model trains{also(still)}",
            "" if meant else "It then normalises by its stored statistics and does not learn them. "
            "Call model.train(); to freeze it on purpose, switch off its parameters' gradients, too.",
        )  # fmt: skip
    active = [s for s in layers if s.training]
    if not active:
        return
    values = [s.rows / max(s.calls, 1) for s in active]
    few = [s for s, n in zip(active, values, strict=True) if n < FEW]
    if few:
        least = min(values)
        yield Finding(
            "warning", "batchnorm", few[0].layer, "values_per_channel", least, float(FEW),
            f"BatchNorm estimates from {least:.0f} values per channel{also(few)}",
            "Take larger batches, or GroupNorm or LayerNorm, which do not depend on the batch.",
        )  # fmt: skip
    elif not still:
        message = f"values per channel of {many(len(active), 'BatchNorm layer')}"
        yield Finding("ok", "batchnorm", "", "values_per_channel", min(values), float(FEW), message)
    by_key = {s.key: s for s in evidence.starts}
    behind = [
        s for s in active if len(s.parents) == 1 and s.direct
        and (p := by_key.get(s.parents[0])) is not None and p.dropout > 0
    ]  # fmt: skip
    if behind:
        yield Finding(
            "info", "batchnorm", behind[0].layer, "dropout", np.nan, np.nan,
            "dropout directly before BatchNorm: the variance it learns in training is not that of "
            f"evaluation (Li et al. 2019){also(behind)}",
        )  # fmt: skip


def modes(evidence: Evidence) -> Iterator[Finding]:
    """Dropout that is off while the model trains."""
    off = [s for s in evidence.starts if s.dropout > 0 and not s.training]
    if off and evidence.training:
        yield Finding(
            "info", "normalisation", off[0].layer, "mode", float(len(off)), 0.0,
            f"dropout is in evaluation mode while the model trains{also(off)}",
        )  # fmt: skip


def attention(evidence: Evidence) -> Iterator[Finding]:
    """Softmaxes inside the network that start peaked: scores without 1/sqrt(d), or too large."""
    scores = [s for s in evidence.scores if s.size > 1]
    if not scores:
        return
    worst: Scores = max(scores, key=lambda s: s.std)
    if worst.std > PEAKED:
        yield Finding(
            "info", "attention", worst.layer, "score_std", worst.std, PEAKED,
            f"the softmax over {worst.size} scores starts peaked; are they divided by sqrt(d)?",
        )  # fmt: skip
    else:
        message = "scores before softmax"
        yield Finding("ok", "attention", "", "score_std", worst.std, PEAKED, message)
