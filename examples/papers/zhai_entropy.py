"""Attention entropy collapses where training is unstable, and does not under σReparam.

python examples/papers/zhai_entropy.py [--quick]

Zhai et al. (2023), Stabilizing Transformer Training by Preventing Attention Entropy Collapse, ICML:
heads that come to look at one place only, whose entropy is near zero, go with a loss that is high,
jumps or diverges. Their remedy is σReparam: each weight is divided by its largest singular value and
multiplied by a gain that is learnt, which slows the growth of logits and so keeps entropy up.

Here two blocks of width 64 learn to copy 16 random tokens. At a learning rate of 0.03 the network learns,
but its entropy falls to a hundredth of a nat and its loss keeps jumping; at 0.1 the entropy is at zero and it
learns nothing. Under σReparam at 0.03 entropy stays at 0.5 to 1.3 nats by seed, and the loss rests at its floor.
At 0.1 entropy stays high for hundreds of steps, yet nothing is learnt: that alone is no cure.
"""

import numpy as np
import torch
from paper import (
    BLUE,
    FAINT,
    VERMILION,
    at_least,
    at_most,
    legend,
    main,
    panels,
    plain,
)  # fmt: skip
from torch import nn
from torch.nn.utils import parametrize
from transformer import FLOOR, STEPS, train

RATES = (0.03, 0.1)


class SigmaReparam(nn.Module):
    """A weight over its largest singular value, from one power iteration per use, times a gain."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.register_buffer("left", nn.functional.normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            right = nn.functional.normalize(weight.T @ self.left, dim=0)
            left = nn.functional.normalize(weight @ right, dim=0)
            self.left.copy_(left)
        return self.gain * weight / (left @ weight @ right)


def reparametrize(model: nn.Module) -> None:
    """Put every linear layer of the model under σReparam."""
    for layer in [m for m in model.modules() if isinstance(m, nn.Linear)]:
        parametrize.register_parametrization(layer, "weight", SigmaReparam(layer.weight))


def study(seeds):
    """Both rates, as it is and under σReparam."""
    torch.set_num_threads(1)
    bare = np.array([[train(rate, seed) for seed in seeds] for rate in RATES])
    sigma = np.array(
        [[train(rate, seed, change=reparametrize) for seed in seeds] for rate in RATES]
    )
    last = slice(-100, None)
    entropy = {kind: np.median(r[:, :, last, 2], -1) for kind, r in (("bare", bare), ("σ", sigma))}
    loss = {kind: r[:, :, last, 0].mean(-1) - FLOOR for kind, r in (("bare", bare), ("σ", sigma))}
    claims = [
        at_most("rate 0.03: entropy at the end, nats", entropy["bare"][0], 0.1),
        at_least("rate 0.03, σReparam: entropy at the end, nats", entropy["σ"][0], 0.2),
        at_least("rate 0.03: loss over its floor, without over with σReparam", loss["bare"][0] / loss["σ"][0], 1.2),
        at_most("rate 0.1: entropy at the end, nats", entropy["bare"][1], 0.01),
        at_least("rate 0.1: loss over its floor", loss["bare"][1], 1),
        at_least("rate 0.1, σReparam does not help: loss over its floor", loss["σ"][1], 1),
    ]  # fmt: skip
    return draw(bare, sigma), claims


def draw(bare, sigma):
    """Entropy above and loss below, by step, at both rates."""
    figure, axes = panels(
        2, "Attention entropy collapses, and less so under σReparam", rows=2, high=5.2, sharey="row"
    )
    for column, rate in enumerate(RATES):
        above, below = axes[:, column]
        for runs, colour, name in ((bare, VERMILION, "without σReparam"), (sigma, BLUE, "with")):
            for seed in range(runs.shape[1]):
                look = {"color": colour, "alpha": 1 if seed == 0 else 0.35, "linewidth": 1.4}
                label = None if seed else name
                above.plot(np.arange(STEPS), runs[column, seed, :, 2], **look, label=label)
                below.plot(np.arange(STEPS), runs[column, seed, :, 0], **look)
        below.axhline(FLOOR, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        above.set_ylim(0, 2.8)
        plain(
            above, f"learning rate {rate:g}", "", "" if column else "least entropy of a block, nats"
        )
        plain(below, "", "step", "" if column else "loss")
    axes[1, 1].annotate("floor of the loss", (0, FLOOR), xytext=(0, 5), fontsize=8.5,
                        textcoords="offset points", color=FAINT)  # fmt: skip
    axes[1, 0].set_ylim(1.3, 3.9)
    legend(axes[0, 0], loc="upper right")
    return figure


if __name__ == "__main__":
    main(study)
