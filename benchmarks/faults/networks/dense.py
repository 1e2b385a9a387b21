"""Dense networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.networks.convolution import Joined
from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import Block, Mean, Times
from benchmarks.faults.networks.transformer import Gated, wider


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


class Opposed(nn.Module):
    """All values, and beside them their opposites."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, -x], -1)


class Reminded(nn.Module):
    """Dense layers, of which each sees the input besides what the one before made (Sinha et al. 2020)."""

    def __init__(self, width: int, layers: int, activation: Make) -> None:
        super().__init__()
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Linear(width + 64 if i else 64, width), activation())
            for i in range(layers)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        start = seen = x.flatten(1)
        for i, layer in enumerate(self.dense):
            seen = layer(torch.cat([seen, start], 1) if i else seen)
        logits: Tensor = self.head(seen)
        return logits


class Crossed(nn.Module):
    """Products of the input with what was made of it, and dense layers beside them.

    Deep & Cross, as Wang et al. (2021) have it for tables.
    """

    def __init__(self, crosses: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(nn.Linear(64, 64) for _ in range(crosses))
        self.deep = nn.Sequential()
        for a, b in pairwise((64, *widths)):
            self.deep.extend([nn.Linear(a, b), nn.ReLU()])
        self.head = nn.Linear(64 + widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        start = seen = x.flatten(1)
        for cross in self.crosses:
            seen = start * cross(seen) + seen
        logits: Tensor = self.head(torch.cat([seen, self.deep(start)], 1))
        return logits


class ScaledTanh(nn.Tanh):
    """A tangent that keeps means of 0 and deviations near 1 (LeCun et al. 1998)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * super().forward(2 / 3 * x)


class Experts(nn.Module):
    """Dense layers side by side, and a gate that says how much each counts (Jacobs et al. 1991)."""

    def __init__(self, experts: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.gate = nn.Linear(64, experts)
        self.experts = nn.ModuleList()
        for _ in range(experts):
            layers = nn.Sequential()
            for a, b in pairwise((64, *widths)):
                layers.extend([nn.Linear(a, b), nn.ReLU()])
            self.experts.append(layers)
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        shares = self.gate(x).softmax(1)
        found = torch.stack([expert(x) for expert in self.experts], 1)
        logits: Tensor = self.head((shares[:, :, None] * found).sum(1))
        return logits


class Near(nn.Module):
    """How near each value is to each of some places: [..., width] to [..., width × places]."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.register_buffer("places", torch.linspace(-2, 2, places), persistent=False)
        self.gap = 4 / (places - 1)

    def forward(self, x: Tensor) -> Tensor:
        return (-((x[..., None] - self.places) / self.gap).square()).exp().flatten(-2)


class Curves(nn.Module):
    """Each unit a sum of learnt functions, one of each value: a layer of FastKAN (Li 2024).

    Functions are sums of bells at fixed places, and a SiLU.
    """

    def __init__(self, inputs: int, outputs: int, places: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.near = Near(places)
        self.bells = nn.Linear(places * inputs, outputs)
        nn.init.trunc_normal_(self.bells.weight, std=0.1)
        self.activation = nn.SiLU()
        self.base = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bells(self.near(self.norm(x))) + self.base(self.activation(x))
        return out


class Paired(nn.Module):
    """Sums over all pairs of inputs of their product times that of their factors (Rendle 2010).

    Half of (Σ vᵢxᵢ)² - Σ (vᵢxᵢ)². One input more is always 1: its factor is the bias.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.factors = nn.Linear(inputs, outputs)
        for factors in self.factors.parameters():
            nn.init.normal_(factors, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.factors.weight, self.factors.bias
        alone = F.linear(x.square(), weight.square(), bias.square())
        out: Tensor = (self.factors(x).square() - alone) / 2
        return out


class Periodic(nn.Module):
    """Each of some numbers as waves of learnt frequencies: [batch, numbers] to [batch, numbers, 2 × waves].

    As Gorishniy et al. (2022) have it for tables.
    """

    def __init__(self, numbers: int, waves: int, deviation: float) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(numbers, waves) * deviation)

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * self.frequency * x[..., None]
        return torch.cat([angle.cos(), angle.sin()], -1)


class Affine(nn.Module):
    """Each value times a number of its own, and another one added: a norm without statistics."""

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), scale))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


class Scaled(nn.Linear):
    """A dense layer whose weights have a deviation of 1, over the root of what it is given (Jacot et al. 2018)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        nn.init.normal_(self.weight)
        nn.init.normal_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / self.in_features**0.5, self.bias)


class Weighed(nn.Module):
    """Each value times a number of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class Members(nn.Module):
    """One dense layer of several members, each of which scales what goes in and out: [batch, member, width].

    As Gorishniy et al. (2025) have it.

    Args:
        apart: whether members begin to differ here, by signs of what goes in.
    """

    def __init__(self, members: int, inputs: int, outputs: int, apart: bool) -> None:
        super().__init__()
        before = (
            torch.randint(2, (members, inputs)) * 2.0 - 1 if apart else torch.ones(members, inputs)
        )
        self.before = nn.Parameter(before)
        self.linear = nn.Linear(inputs, outputs)
        self.after = nn.Parameter(torch.ones(members, outputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x * self.before) * self.after
        return out


class Subtracting(nn.Module):
    """Each block takes what it explains from its input, and adds to what the head sees (N-BEATS).

    As Oreshkin et al. (2020) have it of forecasts.
    """

    def __init__(self, blocks: int, widths: Sequence[int], found: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(dense((64, *widths), outputs=64 + found) for _ in range(blocks))
        self.head = nn.Linear(found, 10)

    def forward(self, x: Tensor) -> Tensor:
        left, found = x.flatten(1), list[Tensor]()
        for block in self.blocks:
            explained, new = block(left).tensor_split([64], 1)
            left = left - explained
            found.append(new)
        logits: Tensor = self.head(torch.stack(found).sum(0))
        return logits


class Compared(nn.Module):
    """Each row of an image a feature of its own; products of all pairs, and dense layers before and after.

    DLRM, as Naumov et al. (2019) have it for recommendations.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.bottom = nn.Sequential(
            nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.ReLU()
        )
        self.rows = nn.ModuleList(nn.Linear(8, width) for _ in range(8))
        self.top = nn.Sequential(nn.Linear(width + 36, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.bottom(x.flatten(1))
        rows = [layer(row) for layer, row in zip(self.rows, x[:, 0].unbind(1), strict=True)]
        features = torch.stack([whole, *rows], 1)
        a, b = torch.tril_indices(9, 9, -1)
        pairs = (features @ features.transpose(1, 2))[:, a, b]
        logits: Tensor = self.head(self.top(torch.cat([whole, pairs], 1)))
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


def gated_ends(width: int, blocks: int, dropout: float) -> nn.Sequential:
    """Blocks that end in a gate beside a shortcut, a norm after them (Lim et al. 2021)."""
    parts: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width)]
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.Linear(width, width), nn.ELU(), nn.Linear(width, width), nn.Dropout(dropout),
            nn.Linear(width, 2 * width), nn.GLU(),
        )  # fmt: skip
        parts.append(Block(inner, nn.LayerNorm(width)))
    return nn.Sequential(*parts, nn.Linear(width, 10))


def gated_norms(width: int, blocks: int) -> nn.Sequential:
    """Dense layers, batch norms and gates, sums scaled back: the parts of TabNet (Arik & Pfister 2021)."""

    def gated(inputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, 2 * width), nn.BatchNorm1d(2 * width), nn.GLU())

    parts = (Block(gated(width), Times(0.5**0.5)) for _ in range(blocks))
    return nn.Sequential(nn.Flatten(), gated(64), *parts, nn.Linear(width, 10))


def opposed(widths: Sequence[int]) -> nn.Sequential:
    """Rectifiers of values and of their opposites, so that no sign is lost (Shang et al. 2016)."""
    net, inputs = nn.Sequential(nn.Flatten()), 64
    for width in widths:
        net.extend([nn.Linear(inputs, width), Opposed(), nn.ReLU()])
        inputs = 2 * width
    return net.append(nn.Linear(inputs, 10))


def independent(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Norm and dropout stand before dense layers, behind rectifiers (Chen et al. 2019)."""
    net = nn.Sequential(nn.Flatten())
    for a, b in pairwise(widths):
        net.extend([nn.Linear(a, b), nn.ReLU(), nn.BatchNorm1d(b), nn.Dropout(dropout)])
    return net.append(nn.Linear(widths[-1], 10))


def simba(width: int, blocks: int) -> nn.Sequential:
    """Blocks of a norm and two dense layers with ways around them, and a norm (Lee et al. 2025)."""
    parts = (
        Block(nn.Sequential(nn.LayerNorm(width), *wider(width, 4, nn.ReLU())))
        for _ in range(blocks)
    )
    ends = (nn.LayerNorm(width), nn.Linear(width, 10))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), *parts, *ends)


def kan(widths: Sequence[int], places: int) -> nn.Sequential:
    """Layers of learnt functions (Liu et al. 2025), and a dense one."""
    layers = (Curves(a, b, places) for a, b in pairwise(widths))
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], 10))


def wide_and_deep(widths: Sequence[int]) -> nn.Sequential:
    """The head sees the input itself besides what dense layers make of it (Cheng et al. 2016)."""
    deep = nn.Sequential()
    for a, b in pairwise((64, *widths)):
        deep.extend([nn.Linear(a, b), nn.ReLU()])
    return nn.Sequential(nn.Flatten(), Joined(deep), nn.Linear(64 + widths[-1], 10))


def factored(factors: int, hidden: int, dropout: float) -> nn.Sequential:
    """Products of all pairs of inputs, dense layers on them, and the input beside (He & Chua 2017)."""
    deep = nn.Sequential(
        Paired(64, factors), nn.BatchNorm1d(factors), nn.Dropout(dropout),
        nn.Linear(factors, hidden), nn.ReLU(), nn.Dropout(dropout),
    )  # fmt: skip
    return nn.Sequential(nn.Flatten(), Joined(deep), nn.Linear(64 + hidden, 10))


def periodic(waves: int, each: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Every pixel as waves, the same dense layer on those of each, then dense layers on all."""
    first = (nn.Flatten(), Periodic(64, waves, 0.2), nn.Linear(2 * waves, each), nn.ReLU())
    return nn.Sequential(*first, *dense((64 * each, *widths), dropout=dropout))


def resmlp(width: int, blocks: int) -> nn.Sequential:
    """A dense layer across 16 patches, then two across their values, no norms (Touvron et al. 2023).

    What blocks add counts little at first.
    """
    parts: list[nn.Module] = [Cut(), nn.Linear(4, width)]
    for _ in range(blocks):
        for inner in ((Across(nn.Linear(16, 16)),), wider(width, 4, nn.GELU())):
            parts.append(Block(nn.Sequential(Affine(width), *inner, Affine(width, 0.1))))
    return nn.Sequential(*parts, Affine(width), Mean(1), nn.Linear(width, 10))


def policy(widths: Sequence[int]) -> nn.Sequential:
    """As agents have it: orthogonal weights, all but equal odds at first (Huang et al. 2022)."""
    net = dense((64, *widths), nn.Tanh)
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, 0.01 if layer is layers[-1] else 2**0.5)
        nn.init.zeros_(layer.bias)
    return net


def realmlp(widths: Sequence[int]) -> nn.Sequential:
    """Every pixel is weighed first, weights have a deviation of 1 (Holzmüller et al. 2024)."""
    net = nn.Sequential(nn.Flatten(), Weighed(64))
    for a, b in pairwise((64, *widths)):
        net.extend([Scaled(a, b), nn.SELU()])
    return net.append(Scaled(widths[-1], 10))


def tabm(members: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Many networks in one, which share weights; the head sees the mean of what they make."""
    net = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 64)))
    for i, (a, b) in enumerate(pairwise((64, *widths))):
        net.extend([Members(members, a, b, i == 0), nn.ReLU(), nn.Dropout(dropout)])
    return net.extend([Mean(1), nn.Linear(widths[-1], 10)])


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
