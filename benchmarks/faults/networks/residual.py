"""Convolutional networks with ways around their blocks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.networks.convolution import Beside
from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import (
    Block,
    Excitation,
    Mean,
    Scale,
    Times,
    groups,
    normed,
)


def residual(
    width: int,
    blocks: int,
    norm: Norm = nn.BatchNorm2d,
    activation: Make = nn.ReLU,
    *,
    before: bool = True,
) -> nn.Sequential:
    """Blocks of convolutions with ways around them; norm and activation come before or after."""

    def conv() -> nn.Module:
        return nn.Conv2d(width, width, 3, padding=1)

    parts: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1)]
    for _ in range(blocks):
        if before:
            inner = nn.Sequential(norm(width), activation(), conv())
            parts.append(Block(inner))
        else:
            inner = nn.Sequential(conv(), norm(width), activation(), conv(), norm(width))
            parts.append(Block(inner, activation()))
    return nn.Sequential(*parts, Mean(2, 3), nn.Linear(width, 10))


def inverted(width: int, blocks: int) -> nn.Sequential:
    """Wide blocks between narrow ends, with convolutions over each channel (Sandler et al. 2018)."""
    stem = (nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
    parts: list[nn.Module] = [*stem]
    wide = 3 * width
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.Conv2d(width, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, width, 1), nn.BatchNorm2d(width),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, Mean(2, 3), nn.Linear(width, 10))


def convnext(width: int, blocks: int) -> nn.Sequential:
    """Patches, and blocks with a norm and an activation each (Liu et al. 2022)."""
    parts: list[nn.Module] = [nn.Conv2d(1, width, 2, 2), groups(1)(width)]
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), groups(1)(width),
            nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, Mean(2, 3), nn.LayerNorm(width), nn.Linear(width, 10))


class Standardised(nn.Conv2d):
    """A convolution whose weights are used with mean 0 and deviation 1 / inputs^½, output by output.

    As Qiao et al. (2019) and Kolesnikov et al. (2020) have it beside group norms.
    """

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        flat = F.layer_norm(flat, flat.shape[1:]) / flat.shape[1] ** 0.5
        weight = flat.view_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def bottleneck(width: int, narrow: int, blocks: int) -> nn.Sequential:
    """Blocks that are narrow inside, group norms, standardised weights (Kolesnikov et al. 2020)."""
    norm = groups(4)
    parts: list[nn.Module] = [Standardised(1, width, 3, padding=1)]
    for _ in range(blocks):
        inner = nn.Sequential(
            norm(width), nn.ReLU(), Standardised(width, narrow, 1),
            norm(narrow), nn.ReLU(), Standardised(narrow, narrow, 3, padding=1),
            norm(narrow), nn.ReLU(), Standardised(narrow, width, 1),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, norm(width), nn.ReLU(), Mean(2, 3), nn.Linear(width, 10))


def excited(widths: tuple[int, int]) -> nn.Sequential:
    """Inverted blocks whose channels are weighed, two widths (MobileNetV3, Howard et al. 2019)."""

    def inner(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        wide = 2 * inputs
        return nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.Hardswish(), Excitation(wide, wide // 4),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    first, second = widths
    stem = (nn.Conv2d(1, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.Hardswish())
    parts = (
        Block(inner(first, first, 1)),
        inner(first, second, 2),
        Block(inner(second, second, 1)),
    )
    return nn.Sequential(*stem, *parts, Mean(2, 3), nn.Dropout(0.1), nn.Linear(second, 10))


def preactivation(widths: tuple[int, int], dropout: float = 0.0) -> nn.Sequential:
    """Blocks of two convolutions with norm and activation before each, two widths (He et al. 2016).

    Args:
        dropout: between the two (Zagoruyko & Komodakis 2016); 0 for none.
    """

    def conv(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
        found = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return nn.BatchNorm2d(inputs), nn.ReLU(), found

    def block(width: int) -> Block:
        between = [nn.Dropout(dropout)] if dropout else []
        return Block(nn.Sequential(*conv(width, width), *between, *conv(width, width)))

    first, second = widths
    parts = (
        nn.Conv2d(1, first, 3, padding=1, bias=False),
        block(first),
        nn.Sequential(*conv(first, second, 2)),
        block(second),
    )
    tail = (nn.BatchNorm2d(second), nn.ReLU(), Mean(2, 3), nn.Linear(second, 10))
    return nn.Sequential(*parts, *tail)


def regnet(width: int, wide: int, blocks: int) -> nn.Sequential:
    """Blocks whose middle has groups of four and channels that are weighed (Radosavovic et al. 2020)."""
    parts: list[nn.Module] = [
        nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    ]  # fmt: skip
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide // 4, bias=False), nn.BatchNorm2d(wide),
            nn.ReLU(), Excitation(wide, width // 4),
            nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        parts.append(Block(inner, nn.ReLU()))
    return nn.Sequential(*parts, Mean(2, 3), nn.Linear(width, 10))


def convmixer(width: int, blocks: int) -> nn.Sequential:
    """Patches; a way around convolutions over each channel, none around those over all of them.

    As Trockman & Kolter (2022) have it: every convolution is followed by an activation and a norm.
    """

    def conv(inputs: int, size: int, **options: int) -> nn.Sequential:
        found = nn.Conv2d(inputs, width, size, **options)
        return nn.Sequential(found, nn.GELU(), nn.BatchNorm2d(width))

    parts: list[nn.Module] = [conv(1, 2, stride=2)]
    for _ in range(blocks):
        parts.extend([Block(conv(width, 3, padding=1, groups=width)), conv(width, 1)])
    return nn.Sequential(*parts, Mean(2, 3), nn.Linear(width, 10))


class Stairs(nn.Module):
    """Channels in parts: the first as it is, of each other one and what came before a convolution."""

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.number, part = parts, channels // parts
        self.parts = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(part, part, 3, padding=1, bias=False), nn.BatchNorm2d(part), nn.ReLU()
            )
            for _ in range(parts - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *others = x.chunk(self.number, 1)
        found = [first]
        for part, other in zip(self.parts, others, strict=True):
            found.append(part(other + found[-1] if len(found) > 1 else other))
        return torch.cat(found, 1)


def res2net(width: int, parts: int, blocks: int) -> nn.Sequential:
    """Blocks whose middle sees ever wider windows, part by part (Gao et al. 2021)."""
    net = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            Stairs(width, parts),
            nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        net.append(Block(inner, nn.ReLU()))
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(width, 10))


class Pooling(nn.AvgPool2d):
    """The mean of a pixel's neighbourhood of 3 × 3, less the pixel."""

    def __init__(self) -> None:
        super().__init__(3, 1, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - x


def poolformer(width: int, blocks: int) -> nn.Sequential:
    """Patches that overlap, and blocks as of transformers, with pools for attention (Yu et al. 2022)."""
    norm = groups(1)
    parts: list[nn.Module] = [nn.Conv2d(1, width, 5, 2, 2)]
    for _ in range(blocks):
        wide = (nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1))
        for inner in ((Pooling(),), wide):
            parts.append(Block(nn.Sequential(norm(width), *inner, Scale(width))))
    return nn.Sequential(*parts, norm(width), Mean(2, 3), nn.Linear(width, 10))


def xception(width: int, wide: int, blocks: int) -> nn.Sequential:
    """Convolutions over each channel, then over all, with nothing between (Chollet 2017)."""

    def apart(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
        each = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        return each, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)

    parts: list[nn.Module] = [
        nn.Conv2d(1, width // 2, 3, padding=1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width),
    ]  # fmt: skip
    for _ in range(blocks):
        twice = (nn.ReLU(), *apart(width, width), nn.ReLU(), *apart(width, width))
        parts.append(Block(nn.Sequential(*twice)))
    tail = (nn.ReLU(), *apart(width, wide), nn.ReLU(), Mean(2, 3), nn.Linear(wide, 10))
    return nn.Sequential(*parts, *tail)


class LargeKernel(nn.Module):
    """What comes in times what a wide window says of it, which is seen in three steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.far = nn.Conv2d(width, width, 3, padding=2, dilation=2, groups=width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.mix(self.far(self.near(x)))
        return out


def van(width: int, blocks: int) -> nn.Sequential:
    """Blocks as of transformers, with wide windows for attention (Guo et al. 2023)."""
    wide = 3 * width
    parts: list[nn.Module] = [nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width)]
    for _ in range(blocks):
        mix = (
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            LargeKernel(width),
            nn.Conv2d(width, width, 1),
        )
        each = (
            nn.Conv2d(width, wide, 1), nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.GELU(),
            nn.Conv2d(wide, width, 1),
        )  # fmt: skip
        for inner in (mix, each):
            parts.append(Block(nn.Sequential(nn.BatchNorm2d(width), *inner, Scale(width))))
    return nn.Sequential(*parts, Mean(2, 3), nn.LayerNorm(width), nn.Linear(width, 10))


def cspnet(width: int, blocks: int) -> nn.Sequential:
    """Half of the channels pass blocks, the others go around all of them (Wang et al. 2020)."""

    def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
        made = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return nn.Sequential(made, nn.BatchNorm2d(outputs), nn.SiLU())

    inner = (
        Block(nn.Sequential(conv(width, width, 1), conv(width, width, 3))) for _ in range(blocks)
    )
    wide = 2 * width
    worked = nn.Sequential(conv(wide, width, 1), *inner)
    stage = (Beside(worked, conv(wide, width, 1)), conv(wide, wide, 1))
    stem = (conv(1, width, 3), conv(width, wide, 3, 2))
    return nn.Sequential(*stem, *stage, Mean(2, 3), nn.Linear(wide, 10))


def nfnet(width: int, narrow: int, blocks: int, share: float) -> nn.Sequential:
    """No norms: what blocks add counts little, what they are given is scaled to a deviation of 1.

    Weights are standardised; rectifiers are followed by what restores their deviation (Brock et al. 2021).
    """

    def active() -> tuple[nn.Module, ...]:
        return nn.ReLU(), Times((2 / (1 - 1 / math.pi)) ** 0.5)

    parts: list[nn.Module] = [Standardised(1, width, 3, padding=1)]
    for i in range(blocks):
        inner = nn.Sequential(
            Times((1 + i * share**2) ** -0.5), *active(), Standardised(width, narrow, 1),
            *active(), Standardised(narrow, narrow, 3, padding=1),
            *active(), Standardised(narrow, width, 1), Times(share),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, *active(), Mean(2, 3), nn.Linear(width, 10))


def efficientnet(widths: tuple[int, int], dropout: float) -> nn.Sequential:
    """Inverted blocks whose channels are weighed, SiLUs throughout (Tan & Le 2019)."""

    def inner(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        wide = 4 * inputs
        return nn.Sequential(
            *normed(inputs, wide, 1), nn.SiLU(),
            *normed(wide, wide, 3, stride=stride, groups=wide), nn.SiLU(),
            Excitation(wide, inputs // 2, nn.SiLU, nn.Sigmoid), *normed(wide, outputs, 1),
        )  # fmt: skip

    first, second = widths
    parts = (
        *normed(1, first, 3), nn.SiLU(), Block(inner(first, first, 1)),
        inner(first, second, 2), Block(inner(second, second, 1)),
    )  # fmt: skip
    tail = (*normed(second, 2 * second, 1), nn.SiLU(), Mean(2, 3), nn.Dropout(dropout))
    return nn.Sequential(*parts, *tail, nn.Linear(2 * second, 10))


def resnext(width: int, paths: int, blocks: int) -> nn.Sequential:
    """Blocks of many narrow paths, which a convolution in groups makes at once (Xie et al. 2017).

    After the first half of them the image is halved and channels are doubled.
    """

    def block(width: int) -> Block:
        inner = nn.Sequential(
            *normed(width, width, 1), nn.ReLU(), *normed(width, width, 3, groups=paths), nn.ReLU(),
            *normed(width, width, 1),
        )  # fmt: skip
        return Block(inner, nn.ReLU())

    net = nn.Sequential(*normed(1, width, 3), nn.ReLU())
    net.extend(block(width) for _ in range(blocks))
    net.extend([*normed(width, 2 * width, 3, stride=2), nn.ReLU()])
    net.extend(block(2 * width) for _ in range(blocks))
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(2 * width, 10))


def resnet_9(widths: tuple[int, int, int]) -> nn.Sequential:
    """Three convolutions, pools, and two blocks, for fast training (Coleman et al. 2017, Page 2018)."""

    def conv(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(*normed(inputs, outputs, 3), nn.ReLU())

    first, second, third = widths
    parts = (
        conv(1, first),
        conv(first, second), nn.MaxPool2d(2), Block(nn.Sequential(conv(second, second), conv(second, second))),
        conv(second, third), nn.MaxPool2d(2), Block(nn.Sequential(conv(third, third), conv(third, third))),
    )  # fmt: skip
    tail = (nn.AdaptiveMaxPool2d(1), nn.Flatten(), Times(0.125), nn.Linear(third, 10, bias=False))
    return nn.Sequential(*parts, *tail)


class Selective(nn.Module):
    """Windows of two sizes, of which all channels together say how much each counts (Li et al. 2019)."""

    def __init__(self, channels: int, paths: int, hidden: int) -> None:
        super().__init__()
        options = {"groups": paths, "bias": False}
        near = nn.Conv2d(channels, channels, 3, padding=1, **options)
        far = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, **options)
        self.windows = nn.ModuleList(
            nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU()) for conv in (near, far)
        )
        self.squeeze = nn.Linear(channels, hidden)
        self.activation = nn.ReLU()
        self.select = nn.Linear(hidden, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([window(x) for window in self.windows], 1)
        held = self.activation(self.squeeze(both.sum(1).mean((2, 3))))
        shares = self.select(held).unflatten(1, (2, -1)).softmax(1)
        return (shares[..., None, None] * both).sum(1)


def sknet(width: int, narrow: int, blocks: int) -> nn.Sequential:
    """Blocks whose middle chooses how far it sees."""
    net = nn.Sequential(*normed(1, width, 3, stride=2), nn.ReLU())
    for _ in range(blocks):
        inner = nn.Sequential(
            *normed(width, narrow, 1), nn.ReLU(), Selective(narrow, 4, narrow // 2),
            *normed(narrow, width, 1),
        )  # fmt: skip
        net.append(Block(inner, nn.ReLU()))
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(width, 10))
