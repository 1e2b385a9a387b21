"""Attention logits grow with the learning rate, long before the loss says that it is too high.

python examples/papers/wortsman_logits.py [--quick]

Wortsman et al. (2023), Small-scale proxies for large-scale Transformer training instabilities, ICLR 2024:
at high learning rates attention logits grow until training fails, in small networks as
in large ones; how they grow at lower rates foretells where; LayerNorm on queries and keys (QK-norm)
prevents it and widens the range of learning rates that train.

Here two blocks of width 64 learn to copy 16 random tokens. At rates of 0.003 to 0.03 the loss is at its
floor while the largest logit grows from about 15 to over 1,000; at 0.1 it is past 40,000, and nothing is learnt.
With QK-norm logits stay below 100 and 0.1 trains as well. At this size the network at 0.1 does not diverge from a
good place: it never gets to one. So what warns is the logits at lower rates, not a lead in steps. A
module of its own computes them here, so that shiftwatch sees them; a rule of one line then alarms where
their maximum passes 100.
"""

import numpy as np
import torch
from paper import (
    BLUE,
    FAINT,
    INK,
    VERMILION,
    Claim,
    at_least,
    at_most,
    legend,
    main,
    panels,
    plain,
)  # fmt: skip
from transformer import FLOOR, STEPS, train

from shiftwatch import Rule
from shiftwatch.integrations.torch import watch

RATES = (0.003, 0.01, 0.03, 0.1)
LIMIT = 100.0  # of a logit: where Kimi K2's QK-clip (2025) steps in
RULE = Rule("maximum", LIMIT, kind="exploding", layers="*.logits")


def sweep(normalised: bool, seeds) -> tuple[np.ndarray, list[list]]:
    """Loss, largest logit and entropy [rates, seeds, steps, 3]; alerts of the first seed, by rate."""
    monitors = []

    def watched(model, optimizer):
        monitors.append(watch(model, layers=["*.logits"], rules=[RULE], run=False))
        return monitors[-1]

    runs = [
        [train(rate, seed, normalised, watched=None if seed else watched) for seed in seeds]
        for rate in RATES
    ]
    return np.array(runs), [monitor.alerts for monitor in monitors]


def study(seeds):
    """Every rate, without and with QK-norm."""
    torch.set_num_threads(1)
    (bare, alerts), (norm, calm) = sweep(False, seeds), sweep(True, seeds)
    last = slice(-50, None)
    loss = {
        kind: runs[:, :, last, 0].mean(-1) - FLOOR
        for kind, runs in (("bare", bare), ("norm", norm))
    }
    largest = {
        kind: np.median(runs[:, :, last, 1], -1) for kind, runs in (("bare", bare), ("norm", norm))
    }
    third, fourth = alerts[2], alerts[3]
    claims = [
        at_most("loss over its floor, rates up to 0.03", loss["bare"][:3], 0.2),
        at_least("largest logit, rate 0.03 over 0.003", largest["bare"][2] / largest["bare"][0], 20),
        at_least("loss over its floor, rate 0.1", loss["bare"][3], 1),
        at_least("largest logit, rate 0.1", largest["bare"][3], 5000, ",.0f"),
        at_most("with QK-norm: loss over its floor, all rates", loss["norm"], 0.2),
        at_most("with QK-norm: largest logit, all rates", largest["norm"], 100),
        Claim(
            "shiftwatch alarms at rates 0.03 and 0.1 without QK-norm, at step",
            ", ".join(str(a[0].detected) if a else "none" for a in (third, fourth)),
            bool(third and fourth),
        ),
        at_most("alerts at the lower rates, and with QK-norm", [len(a) for a in alerts[:2] + calm], 0),
    ]  # fmt: skip
    return draw(bare, norm, loss, largest, fourth[:1]), claims


def draw(bare, norm, loss, largest, raised):
    """Loss and largest logit by learning rate; largest logit by step at two rates."""
    figure, (left, middle, right) = panels(3, "Attention logits warn of a learning rate too high")
    for kind, runs, colour, name in (
        ("bare", bare, VERMILION, "without QK-norm"),
        ("norm", norm, BLUE, "with QK-norm"),
    ):
        for seed in range(runs.shape[1]):
            look = {"color": colour, "alpha": 1 if seed == 0 else 0.35, "linewidth": 1.6}
            label = None if seed else name
            left.plot(RATES, loss[kind][:, seed] + FLOOR, "o-", markersize=4, **look, label=label)
            middle.plot(RATES, largest[kind][:, seed], "o-", markersize=4, **look)
            right.plot(np.arange(STEPS), runs[3, seed, :, 1], **look)
    left.axhline(FLOOR, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    left.annotate("floor", (RATES[0], FLOOR), xytext=(0, -10), textcoords="offset points",
                  fontsize=8.5, color=FAINT)  # fmt: skip
    left.set_ylim(1.2, 3.9)
    for axis in (left, middle):
        axis.set_xscale("log")
        axis.set_xticks(RATES, [f"{r:g}" for r in RATES])
        axis.minorticks_off()
    for axis in (middle, right):
        axis.set_yscale("log")
        axis.set_ylim(1, 1e5)
        axis.axhline(LIMIT, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    middle.annotate("alarm limit", (RATES[0], LIMIT), xytext=(0, 4), fontsize=8.5,
                    textcoords="offset points", color=FAINT)  # fmt: skip
    for alert in raised:
        right.annotate(
            f"alert at\nstep {alert.detected}", (alert.detected, LIMIT), xytext=(170, 150), fontsize=8.5,
            color=INK, arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.9},
        )  # fmt: skip
    legend(left, loc="upper left")
    plain(left, "loss at the end", "learning rate")
    plain(middle, "largest logit at the end", "learning rate")
    plain(right, "largest logit, rate 0.1", "step")
    return figure


if __name__ == "__main__":
    main(study)
