"""What networks of several families are built of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.faults.networks.network import Make, Norm


class Block(nn.Module):
    """Something and a way around it; ``shortcut`` is the weight of the latter."""

    def __init__(self, inner: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.after = after
        self.shortcut = 1.0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut * x + self.inner(x)
        return y if self.after is None else self.after(y)


class Mean(nn.Module):
    """Mean over all but batch and channels."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims)


class Times(nn.Module):
    """All values times the same number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Scale(nn.Module):
    """Each channel times a number of its own, which begins small (Touvron et al. 2021).

    Args:
        after: dimensions that come after that of channels.
    """

    def __init__(self, channels: int, after: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, *after * [1]), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Pool(nn.Module):
    """Mean over a sequence, of which a dense layer says how much each element counts.

    [batch, element, width] to [batch, width], as attention pools (Lin et al. 2017).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.score(x).softmax(1) * x).sum(1)


class Excitation(nn.Module):
    """Channels that are opened and closed by what all of them hold (Hu et al. 2018)."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        activation: Make = nn.ReLU,
        gate: Make = nn.Hardsigmoid,
    ) -> None:
        super().__init__()
        self.mean = Mean(2, 3)
        self.squeeze = nn.Linear(channels, hidden)
        self.activation = activation()
        self.excite = nn.Linear(hidden, channels)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(self.excite(self.activation(self.squeeze(self.mean(x)))))
        return x * gate[:, :, None, None]


def normed(inputs: int, outputs: int, size: int, **options: int) -> tuple[nn.Module, ...]:
    """A convolution without bias and a batch norm."""
    made = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **options)
    return made, nn.BatchNorm2d(outputs)


def groups(number: int) -> Norm:
    """A GroupNorm of so many groups."""
    return lambda channels: nn.GroupNorm(number, channels)


def initialised(build: Make, weights: Callable[[Tensor], object]) -> nn.Module:
    """A model whose dense and convolutional layers begin with other weights, and without biases.

    Args:
        weights: fills a weight in place, as the functions of ``torch.nn.init`` do.
    """
    model = build()
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            weights(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def lecun(weight: Tensor) -> Tensor:
    """Normal, of variance 1 / inputs (LeCun et al. 1998), as self-normalising networks need it."""
    with torch.no_grad():
        return weight.normal_().div_(weight[0].numel() ** 0.5)
