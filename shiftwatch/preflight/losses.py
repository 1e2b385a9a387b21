"""Losses: does the loss get what it takes, and is it what chance gives?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shiftwatch.preflight.evidence import Evidence
from shiftwatch.preflight.record import Finding

#: What a loss makes a network's last activation into: applied twice, or cutting off logits.
_WRONG = {
    "cross_entropy": {"softmax", "sigmoid", "relu"},
    "binary_cross_entropy_with_logits": {"sigmoid", "softmax", "relu", "log_softmax"},
    "nll_loss": {"softmax", "sigmoid", "relu"},
}
#: Nats over chance that a loss may be at start: logits of standard deviation s cost s^2 / 2, and He
#: initialisation of the last layer, too, 1.
OVER = 3.0
#: Root mean square of a regression's output over that of its target.
BEYOND = 10.0


def losses(evidence: Evidence) -> Iterator[Finding]:
    """An activation that the loss applies itself, and a loss far above chance."""
    for loss in evidence.losses[:1]:
        wrong = loss.last in _WRONG.get(loss.function, ())
        name = loss.function
        if wrong:
            advice = {
                "nll_loss": "nll_loss takes log-probabilities: use log_softmax, or cross_entropy on "
                "the bare output.",
                "cross_entropy": "cross_entropy applies log_softmax itself: give it the bare output. "
                "Applied twice, the loss cannot fall under that of nearly uniform answers, and "
                "gradients shrink.",
            }.get(name, f"{name} applies the sigmoid itself: give it the bare output.")
            yield Finding(
                "warning", "loss", loss.layer, "last_activation", np.nan, np.nan,
                f"{name} gets the output of a {loss.last}", advice,
            )  # fmt: skip
        over = loss.value - loss.chance
        if np.isfinite(over) and min(over, loss.excess) > OVER:
            yield Finding(
                "warning", "loss", loss.layer, "excess_loss", over, OVER,
                f"the loss starts {over:.2g} nats over {loss.chance:.2g}, which is chance: the logits "
                "are too large",
                "Initialise the last layer smaller, or find what makes its input large: the first "
                "steps will only shrink the logits.",
            )  # fmt: skip
        elif np.isfinite(over) and not wrong:
            message = f"loss over chance, {loss.chance:.2g} nats"
            yield Finding("ok", "loss", loss.layer, "excess_loss", over, OVER, message)
        ratio = loss.output / loss.target if loss.target > 0 else np.nan
        if loss.target > BEYOND:
            yield Finding(
                "info", "loss", loss.layer, "target_rms", loss.target, BEYOND,
                f"the target is not normalised: its root mean square is {loss.target:.3g}",
            )  # fmt: skip
        if ratio > BEYOND:
            yield Finding(
                "warning", "loss", loss.layer, "output_ratio", ratio, BEYOND,
                f"outputs start {ratio:.2g} times as large as the target",
                "Initialise the last layer smaller, or normalise before it.",
            )  # fmt: skip
    known = any(s.output.broken for s in evidence.starts)
    if evidence.criterion and not np.isfinite(evidence.loss) and not known:
        yield Finding(
            "critical", "nonfinite", "", "loss", evidence.loss, np.nan, "the loss is not finite",
            "Look for a logarithm of zero in the loss, targets out of range, or a mean of nothing.",
        )  # fmt: skip
