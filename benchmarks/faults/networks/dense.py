"""Dense networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import Block


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
