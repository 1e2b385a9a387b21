"""Dense networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import Block, Mean
from benchmarks.faults.networks.transformer import Gated


class Functional(nn.Module):
    """A dense network whose activations are function calls, which no hook sees."""

    def __init__(self, widths: Sequence[int], activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], 10)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.dense:
            x = self.activation(layer(x))
        logits: Tensor = self.head(x)
        return logits


class Cut(nn.Module):
    """Images [batch, 1, 8, 8] into 16 patches of 2 × 2: [batch, 16, 4]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)


class Across(nn.Module):
    """Layers that see what all elements of a sequence have at one place, not one element."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.transpose(1, 2)).transpose(1, 2)
        return out


class Maxout(nn.Module):
    """The larger of two dense layers, unit by unit (Goodfellow et al. 2013)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.linear(x).chunk(2, -1)
        return a.maximum(b)


class Spatial(nn.Module):
    """Half of the values, times what all elements of a sequence have of the other half.

    Begins as nearly that half alone, by weights near 0 and biases of 1 (Liu et al. 2021).
    """

    def __init__(self, width: int, elements: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width // 2)
        mix = nn.Linear(elements, elements)
        nn.init.normal_(mix.weight, std=0.01)
        nn.init.ones_(mix.bias)
        self.mix = Across(mix)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        out: Tensor = a * self.mix(self.norm(b))
        return out


class Highway(nn.Module):
    """A dense layer, and a gate between what it makes and what came in (Srivastava et al. 2015).

    Gates begin nearly closed, by biases of -1.
    """

    def __init__(self, width: int, activation: Make) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -1.0)
        self.opened = nn.Sigmoid()
        self.made = nn.Linear(width, width)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        share = self.opened(self.gate(x))
        out: Tensor = share * self.activation(self.made(x)) + (1 - share) * x
        return out


def dense(
    widths: Sequence[int],
    activation: Make = nn.ReLU,
    norm: Norm | None = None,
    dropout: float = 0.0,
    outputs: int = 10,
) -> nn.Sequential:
    """Linear layers, each but the last followed by norm, activation and dropout where given."""
    net = nn.Sequential(nn.Flatten())
    for a, b in pairwise(widths):
        net.append(nn.Linear(a, b))
        if norm is not None:
            net.append(norm(b))
        net.append(activation())
        if dropout:
            net.append(nn.Dropout(dropout))
    return net.append(nn.Linear(widths[-1], outputs))


def dropped(share: float) -> Norm:
    """Dropout, then a layer norm (Hiraoka et al. 2022)."""
    return lambda width: nn.Sequential(nn.Dropout(share), nn.LayerNorm(width))


def maxout(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Layers of maxout, each followed by dropout, for which it was made."""
    net = nn.Sequential(nn.Flatten())
    for a, b in pairwise(widths):
        net.extend([Maxout(a, b), nn.Dropout(dropout)])
    return net.append(nn.Linear(widths[-1], 10))


def highway(width: int, layers: int, activation: Make) -> nn.Sequential:
    """Dense layers that let pass what they do not change."""
    parts = [Highway(width, activation) for _ in range(layers)]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), *parts, nn.Linear(width, 10))


def residual_dense(width: int, blocks: int, dropout: float) -> nn.Sequential:
    """Blocks of two dense layers with ways around them, for tables (Gorishniy et al. 2021)."""
    parts: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width)]
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.BatchNorm1d(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10))


def gated_dense(width: int, blocks: int, dropout: float) -> nn.Sequential:
    """Blocks of gated layers with ways around them, norms without a mean (Shazeer 2020)."""
    parts: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width)]
    for _ in range(blocks):
        inner = nn.Sequential(nn.RMSNorm(width), Gated(width, 2 * width), nn.Dropout(dropout))
        parts.append(Block(inner))
    return nn.Sequential(*parts, nn.RMSNorm(width), nn.Linear(width, 10))


def mixer(width: int, blocks: int) -> nn.Sequential:
    """Dense layers across 16 patches and across their values, in turn (Tolstikhin et al. 2021)."""

    def wide(inputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(inputs, 2 * inputs), nn.GELU(), nn.Linear(2 * inputs, inputs)
        )

    parts: list[nn.Module] = [Cut(), nn.Linear(4, width)]
    for _ in range(blocks):
        for inner in (Across(wide(16)), wide(width)):
            parts.append(Block(nn.Sequential(nn.LayerNorm(width), inner)))
    return nn.Sequential(*parts, nn.LayerNorm(width), Mean(1), nn.Linear(width, 10))


def gmlp(width: int, blocks: int) -> nn.Sequential:
    """Dense layers of 16 patches whose gates see all of them (Liu et al. 2021)."""
    parts: list[nn.Module] = [Cut(), nn.Linear(4, width)]
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), Spatial(4 * width, 16),
            nn.Linear(2 * width, width),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, nn.LayerNorm(width), Mean(1), nn.Linear(width, 10))
