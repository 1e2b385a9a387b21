"""Convolutional networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.data import LENGTH, SYMBOLS
from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import Block, Mean, normed
from benchmarks.faults.networks.transformer import LanguageModel, stacked, wider


class LeNet(nn.Module):
    """Two convolutions, three dense layers; activations and pools are function calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 16, 3, padding=1)
        self.fc1 = nn.Linear(64, 60)
        self.fc2 = nn.Linear(60, 42)
        self.fc3 = nn.Linear(42, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.adaptive_max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(F.relu(self.fc2(x)))
        return logits


def convolutions(
    channels: Sequence[int],
    activation: Make = nn.ReLU,
    norm: Norm | None = None,
    *,
    pool: Make | None = None,
    stride: int = 1,
    apart: bool = False,
) -> nn.Sequential:
    """Convolutions of 3 × 3, and a dense layer on what a pool of 2 × 2 leaves.

    Args:
        apart: every convolution but the first is one over each channel and one over all channels.
    """
    net = nn.Sequential()
    for i, (a, b) in enumerate(pairwise((1, *channels))):
        step = stride if i == 1 else 1
        if apart and i:
            net.append(nn.Conv2d(a, a, 3, step, 1, groups=a))
            net.append(nn.Conv2d(a, b, 1))
        else:
            net.append(nn.Conv2d(a, b, 3, step, 1))
        if norm is not None:
            net.append(norm(b))
        net.append(activation())
        if pool is not None and i == 0:
            net.append(pool())
    tail = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels[-1], 10))
    return nn.Sequential(*net, *tail)


def vgg(channels: Sequence[int], hidden: int, dropout: float) -> nn.Sequential:
    """Stages of two convolutions and a pool, then two dense layers (Simonyan & Zisserman 2015)."""
    net = nn.Sequential()
    for a, b in pairwise((1, *channels)):
        for inputs in (a, b):
            net.extend([nn.Conv2d(inputs, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()])
        net.append(nn.MaxPool2d(2))
    tail = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels[-1], hidden), nn.ReLU())
    return nn.Sequential(*net, *tail, nn.Dropout(dropout), nn.Linear(hidden, 10))


def network_in_network(channels: Sequence[int], activation: Make) -> nn.Sequential:
    """Strided convolutions, each followed by one of 1 × 1, and a mean (Lin et al. 2014)."""
    net = nn.Sequential()
    for a, b in pairwise((1, *channels)):
        net.extend([nn.Conv2d(a, b, 3, 2, 1), activation(), nn.Conv2d(b, b, 1), activation()])
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(channels[-1], 10))


def mobilenet(channels: Sequence[int]) -> nn.Sequential:
    """Convolutions over each channel, then over all, a norm after both (Howard et al. 2017).

    The second of them halves the image.
    """

    def normed(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
        return conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()

    net = nn.Sequential(*normed(nn.Conv2d(1, channels[0], 3, padding=1, bias=False)))
    for i, (a, b) in enumerate(pairwise(channels)):
        net.extend(normed(nn.Conv2d(a, a, 3, 2 if i == 1 else 1, 1, groups=a, bias=False)))
        net.extend(normed(nn.Conv2d(a, b, 1, bias=False)))
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(channels[-1], 10))


class Joined(nn.Module):
    """What comes in, and beside it what is made of it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


class Beside(nn.Module):
    """What several layers make of the same, their channels beside each other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception(channels: int, branch: int, dropout: float) -> nn.Sequential:
    """Windows of several sizes beside each other, twice (Szegedy et al. 2015), with batch norms."""

    def conv(inputs: int, outputs: int, size: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
            nn.BatchNorm2d(outputs), nn.ReLU(),
        )  # fmt: skip

    def windows(inputs: int) -> Beside:
        return Beside(
            conv(inputs, branch, 1),
            nn.Sequential(conv(inputs, branch, 1), conv(branch, 2 * branch, 3)),
            nn.Sequential(conv(inputs, branch // 2, 1), conv(branch // 2, branch, 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, branch, 1)),
        )

    parts = (conv(1, channels, 3), nn.MaxPool2d(2), windows(channels), windows(5 * branch))
    return nn.Sequential(*parts, Mean(2, 3), nn.Dropout(dropout), nn.Linear(5 * branch, 10))


def squeezenet(
    channels: int, squeezed: int, expanded: Sequence[int], dropout: float
) -> nn.Sequential:
    """Few channels, then windows of two sizes beside each other, again and again (Iandola et al. 2016)."""

    def conv(inputs: int, outputs: int, size: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.ReLU())

    net = nn.Sequential(conv(1, channels, 3), nn.MaxPool2d(2))
    for half in expanded:
        net.append(conv(channels, squeezed, 1))
        net.append(Beside(conv(squeezed, half, 1), conv(squeezed, half, 3)))
        channels = 2 * half
    return nn.Sequential(*net, nn.Dropout(dropout), Mean(2, 3), nn.Linear(channels, 10))


class Half(nn.Module):
    """Half of the channels as they are, and beside them what is made of the others."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([a, self.inner(b)], 1)


def shufflenet(channels: int, units: int) -> nn.Sequential:
    """Half of the channels pass each unit, then all are shuffled (Ma et al. 2018).

    The first unit halves the image and doubles the channels.
    """

    def conv(
        outputs: int, size: int, inputs: int = channels, stride: int = 1
    ) -> tuple[nn.Module, ...]:
        groups = channels if size > 1 and inputs > 1 else 1
        made = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        return made, nn.BatchNorm2d(outputs)

    def worked(stride: int) -> nn.Sequential:
        return nn.Sequential(
            *conv(channels, 1),
            nn.ReLU(),
            *conv(channels, 3, stride=stride),
            *conv(channels, 1),
            nn.ReLU(),
        )

    net = nn.Sequential(*conv(channels, 3, 1), nn.ReLU())
    smaller = nn.Sequential(*conv(channels, 3, stride=2), *conv(channels, 1), nn.ReLU())
    net.extend([Beside(smaller, worked(2)), nn.ChannelShuffle(2)])
    for _ in range(units - 1):
        net.extend([Half(worked(1)), nn.ChannelShuffle(2)])
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(2 * channels, 10))


def alexnet(channels: Sequence[int], hidden: int, dropout: float) -> nn.Sequential:
    """Rectified channels inhibit their neighbours before pools; three dense layers (Krizhevsky et al. 2012)."""
    net = nn.Sequential()
    for a, b in pairwise((1, *channels[:2])):
        net.extend([nn.Conv2d(a, b, 3, padding=1), nn.ReLU()])
        net.extend([nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2, 1)])
    for a, b in pairwise(channels[1:]):
        net.extend([nn.Conv2d(a, b, 3, padding=1), nn.ReLU()])
    tail = (
        nn.AdaptiveMaxPool2d(2), nn.Flatten(),
        nn.Dropout(dropout), nn.Linear(4 * channels[-1], hidden), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip
    return nn.Sequential(*net, *tail)


def ghostnet(width: int, wide: int, blocks: int) -> nn.Sequential:
    """Half of all channels are made from the others, each from one of them (Han et al. 2020)."""

    def ghost(inputs: int, outputs: int, *activation: nn.Module) -> nn.Sequential:
        half = outputs // 2
        first = (nn.Conv2d(inputs, half, 1, bias=False), nn.BatchNorm2d(half), *activation)
        cheap = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        return nn.Sequential(
            *first, Joined(nn.Sequential(cheap, nn.BatchNorm2d(half), *activation))
        )

    net = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    for _ in range(blocks):
        net.append(Block(nn.Sequential(ghost(width, wide, nn.ReLU()), ghost(wide, width))))
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(width, 10))


def tutorial(channels: Sequence[int], hidden: int, dropout: float) -> nn.Sequential:
    """Two convolutions, a pool, two dense layers, dropout before both: PyTorch's first example."""
    net = nn.Sequential()
    for a, b in pairwise((1, *channels)):
        net.extend([nn.Conv2d(a, b, 3, padding=1), nn.ReLU()])
    tail = (
        nn.AdaptiveMaxPool2d(3), nn.Dropout(dropout), nn.Flatten(),
        nn.Linear(9 * channels[-1], hidden), nn.ReLU(), nn.Dropout(2 * dropout), nn.Linear(hidden, 10),
    )  # fmt: skip
    return nn.Sequential(*net, *tail)


def darknet(width: int) -> nn.Sequential:
    """Twice as many channels after each pool; windows, a narrow layer, windows (Redmon & Farhadi 2017)."""

    def conv(inputs: int, outputs: int, size: int = 3) -> tuple[nn.Module, ...]:
        made = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        return made, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)

    net = nn.Sequential(*conv(1, width), nn.MaxPool2d(2))
    for _ in range(2):
        net.extend([*conv(width, 2 * width), *conv(2 * width, width, 1), *conv(width, 2 * width)])
        width *= 2
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(width, 10))


class Attended(nn.Module):
    """Channels, then pixels, that are opened and closed by means and largest values (Woo et al. 2018)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.which = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.where = nn.Conv2d(2, 1, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        which = self.which(x.mean((2, 3))) + self.which(x.amax((2, 3)))
        x = x * which.sigmoid()[:, :, None, None]
        where = self.where(torch.stack([x.mean(1), x.amax(1)], 1))
        out: Tensor = x * where.sigmoid()
        return out


def attended(channels: Sequence[int], hidden: int) -> nn.Sequential:
    """Convolutions, each with a norm, a rectifier and attention; halved after the first."""
    net = nn.Sequential()
    for i, (a, b) in enumerate(pairwise((1, *channels))):
        conv = nn.Conv2d(a, b, 3, padding=1, bias=False)
        net.extend([conv, nn.BatchNorm2d(b), nn.ReLU(), Attended(b, hidden)])
        if not i:
            net.append(nn.MaxPool2d(2))
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(channels[-1], 10))


def keras(channels: Sequence[int], hidden: int) -> nn.Sequential:
    """Three convolutions with pools between, two dense layers: TensorFlow's first example of images."""
    net, inputs = nn.Sequential(), 1
    for width in channels[:-1]:
        net.extend([nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)])
        inputs = width
    tail = (
        nn.Conv2d(inputs, channels[-1], 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(4 * channels[-1], hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip
    return nn.Sequential(*net, *tail)


class InTurn(nn.Module):
    """What comes in, and what each of several layers makes of what the one before made, joined at last."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return torch.cat(found, 1)


def vovnet(channels: int, growth: Sequence[int], outputs: Sequence[int]) -> nn.Sequential:
    """Three convolutions in turn, all of which one of 1 × 1 sees; halved between stages (Lee et al. 2019)."""

    def conv(inputs: int, outputs: int, size: int) -> nn.Sequential:
        return nn.Sequential(*normed(inputs, outputs, size), nn.ReLU())

    net = nn.Sequential(conv(1, channels, 3))
    for i, (width, wide) in enumerate(zip(growth, outputs, strict=True)):
        if i:
            net.append(nn.MaxPool2d(2))
        inner = (conv(width if j else channels, width, 3) for j in range(3))
        net.extend([InTurn(*inner), conv(channels + 3 * width, wide, 1)])
        channels = wide
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(channels, 10))


class Points(nn.Module):
    """Images as sets of points, each with its place and its value: [batch, 3, pixels]."""

    def forward(self, x: Tensor) -> Tensor:
        down, across = (torch.arange(size) - (size - 1) / 2 for size in x.shape[2:])
        places = torch.stack(torch.meshgrid(down, across, indexing="ij")) / 2
        return torch.cat([places.expand(len(x), -1, -1, -1), x], 1).flatten(2)


def pointnet(channels: Sequence[int], hidden: int, dropout: float) -> nn.Sequential:
    """The same layers for every point, and the largest of what they find (Qi et al. 2017)."""
    net = nn.Sequential(Points())
    for a, b in pairwise((3, *channels)):
        net.extend([nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU()])
    tail = (
        nn.AdaptiveMaxPool1d(1), nn.Flatten(),
        nn.Linear(channels[-1], hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden, 10),
    )  # fmt: skip
    return nn.Sequential(*net, *tail)


class Turning(nn.Module):
    """Images are moved, turned and enlarged before they are looked at, each as a small net says.

    As Jaderberg et al. (2015) have it; all are left as they are at first.
    """

    def __init__(self, channels: Sequence[int], hidden: int, dropout: float) -> None:
        super().__init__()
        where = nn.Linear(hidden, 6)
        nn.init.zeros_(where.weight)
        where.bias.detach().copy_(torch.eye(2, 3).flatten())
        self.locate = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 10, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(40, hidden), nn.ReLU(), where,
        )  # fmt: skip
        self.look = nn.Sequential()
        for a, b in pairwise((1, *channels)):
            self.look.extend([nn.Conv2d(a, b, 3, padding=1), nn.ReLU()])
        self.look.extend([nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Dropout(dropout)])
        self.head = nn.Linear(4 * channels[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        where = self.locate(x).float().unflatten(1, (2, 3))
        grid = F.affine_grid(where, list(x.shape), align_corners=False)
        logits: Tensor = self.head(self.look(F.grid_sample(x, grid, align_corners=False)))
        return logits


class Foldable(nn.Module):
    """Windows of two sizes, and where sizes agree what comes in, each with a norm, added.

    They could be folded into one convolution after training (Ding et al. 2021).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()

        def conv(size: int) -> nn.Sequential:
            made = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
            return nn.Sequential(made, nn.BatchNorm2d(outputs))

        self.window, self.pixel = conv(3), conv(1)
        kept = inputs == outputs and stride == 1
        self.kept = nn.BatchNorm2d(inputs) if kept else None
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.window(x) + self.pixel(x)
        out: Tensor = self.activation(y if self.kept is None else y + self.kept(x))
        return out


def repvgg(channels: Sequence[int]) -> nn.Sequential:
    """Stages of two such layers, of which the first halves the image in all but the first."""
    net = nn.Sequential()
    for i, (a, b) in enumerate(pairwise((1, *channels))):
        net.extend([Foldable(a, b, 2 if i else 1), Foldable(b, b)])
    return nn.Sequential(*net, Mean(2, 3), nn.Linear(channels[-1], 10))


def densenet(channels: int, growth: int, stages: Sequence[int]) -> nn.Sequential:
    """Each layer sees those before it; halved between stages (Huang et al. 2017)."""

    def conv(inputs: int, outputs: int, size: int) -> nn.Sequential:
        return nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
        )  # fmt: skip

    net = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False))
    for i, layers in enumerate(stages):
        if i:
            net.extend([conv(channels, channels // 2, 1), nn.AvgPool2d(2)])
            channels //= 2
        for _ in range(layers):
            net.append(Joined(conv(channels, growth, 3)))
            channels += growth
    tail = (nn.BatchNorm2d(channels), nn.ReLU(), Mean(2, 3), nn.Linear(channels, 10))
    return nn.Sequential(*net, *tail)


def dilated(width: int, dilations: Sequence[int], activation: Make) -> nn.Sequential:
    """Convolutions that see ever further, with a norm of each image by itself (Yu & Koltun 2016)."""
    net = nn.Sequential()
    for i, gap in enumerate(dilations):
        conv = nn.Conv2d(width if i else 1, width, 3, padding=gap, dilation=gap)
        net.extend([conv, nn.InstanceNorm2d(width, affine=True), activation()])
    return nn.Sequential(*net, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


class GatedText(nn.Module):
    """Of text: convolutions that see the past alone, half of each a gate (Dauphin et al. 2017)."""

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.blocks = nn.Sequential()
        for gap in dilations:
            inner = nn.Sequential(
                nn.ConstantPad1d((gap, 0), 0.0), nn.Conv1d(width, 2 * width, 2, dilation=gap),
                nn.GLU(1), nn.Conv1d(width, width, 1),
            )  # fmt: skip
            self.blocks.append(Block(inner))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.blocks(self.embed(x).transpose(1, 2))
        logits: Tensor = self.head(self.norm(seen.transpose(1, 2)))
        return logits


class TemporalText(nn.Module):
    """Of text: blocks of two convolutions that see the past alone, ever further (Bai et al. 2018)."""

    def __init__(self, width: int, dilations: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = nn.Sequential()
        for gap in dilations:
            inner = nn.Sequential()
            for _ in range(2):
                past = nn.ConstantPad1d((2 * gap, 0), 0.0)
                conv = nn.Conv1d(width, width, 3, dilation=gap)
                inner.extend([past, conv, nn.ReLU(), nn.Dropout(dropout)])
            self.blocks.append(Block(inner, nn.ReLU()))
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.blocks(self.embed(x).transpose(1, 2))
        logits: Tensor = self.head(seen.transpose(1, 2))
        return logits


class Wave(nn.Module):
    """A convolution that sees the past alone, half of it gates, and one over all channels."""

    def __init__(self, width: int, gap: int) -> None:
        super().__init__()
        self.past = nn.ConstantPad1d((gap, 0), 0.0)
        self.conv = nn.Conv1d(width, 2 * width, 2, dilation=gap)
        self.activation = nn.Tanh()
        self.gate = nn.Sigmoid()
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.conv(self.past(x)).chunk(2, 1)
        out: Tensor = self.out(self.activation(values) * self.gate(gates))
        return out


class WaveNet(nn.Module):
    """Of text: what each layer makes is added to what goes on, and to what two dense layers see.

    As van den Oord et al. (2016) have it of sound.
    """

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.waves = nn.ModuleList(Wave(width, gap) for gap in dilations)
        self.first = nn.ReLU()
        self.dense = nn.Linear(width, width)
        self.second = nn.ReLU()
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.embed(x).transpose(1, 2)
        found = torch.zeros_like(seen)
        for wave in self.waves:
            made = wave(seen)
            seen, found = seen + made, found + made
        found = self.dense(self.first(found).transpose(1, 2))
        logits: Tensor = self.head(self.second(found))
        return logits


class Past(nn.Conv1d):
    """A convolution over [batch, element, channel] that sees the past alone."""

    def forward(self, x: Tensor) -> Tensor:
        before = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(F.pad(x.transpose(1, 2), (before, 0))).transpose(1, 2)


def bytenet(width: int, dilations: Sequence[int]) -> nn.Sequential:
    """Of text: blocks that are narrow where they see the past, norms before (Kalchbrenner et al. 2016)."""
    narrow = width // 2
    parts: list[nn.Module] = [nn.Embedding(SYMBOLS, width)]
    for gap in dilations:
        inner = nn.Sequential(
            nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, narrow),
            nn.LayerNorm(narrow), nn.ReLU(), Past(narrow, narrow, 3, dilation=gap),
            nn.LayerNorm(narrow), nn.ReLU(), nn.Linear(narrow, width),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, nn.ReLU(), nn.Linear(width, SYMBOLS))


class Light(nn.Conv1d):
    """A mean of the past, weighed alike in all channels of a head; [batch, element, channel]."""

    def __init__(self, heads: int, window: int) -> None:
        super().__init__(heads, heads, window, groups=heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        by_head = x.transpose(1, 2).reshape(-1, self.groups, x.shape[1])
        past = F.pad(by_head, (self.kernel_size[0] - 1, 0))
        mixed = F.conv1d(past, self.weight.softmax(-1), groups=self.groups)
        return mixed.view(len(x), -1, x.shape[1]).transpose(1, 2)


class LightText(nn.Module):
    """Of text: blocks as of transformers, with light convolutions for attention (Wu et al. 2019)."""

    def __init__(self, width: int, blocks: int, heads: int, window: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = stacked(
            blocks, width,
            lambda: [
                nn.Linear(width, 2 * width), nn.GLU(), Light(heads, window), nn.Linear(width, width)
            ],
            lambda: wider(width, 3, nn.ReLU()),
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(x))))
        return logits


def slicenet(width: int, gaps: Sequence[int]) -> nn.Sequential:
    """Of text: blocks of convolutions over each channel, then over all, a norm after both.

    They see the past alone, ever further (Kaiser et al. 2018).
    """
    parts: list[nn.Module] = [nn.Embedding(SYMBOLS, width)]
    for gap in gaps:
        inner = nn.Sequential()
        for _ in range(2):
            past = Past(width, width, 3, dilation=gap, groups=width)
            inner.extend([nn.ReLU(), past, nn.Linear(width, width), nn.LayerNorm(width)])
        parts.append(Block(inner))
    return nn.Sequential(*parts, nn.ReLU(), nn.Linear(width, SYMBOLS))


class Quasi(nn.Module):
    """Convolutions that see the past alone, and a mean of what they make that fades as gates say.

    [batch, element, channel], a layer of Bradbury et al. (2017).
    """

    def __init__(self, inputs: int, width: int, window: int) -> None:
        super().__init__()
        self.conv = Past(inputs, 3 * width, window)
        self.activation = nn.Tanh()
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.conv(x).tensor_split([self.conv.out_channels // 3], -1)
        new = self.activation(values)
        forget, shown = self.gate(gates).chunk(2, -1)
        state, states = torch.zeros_like(new[:, 0]), list[Tensor]()
        for t in range(new.shape[1]):
            state = forget[:, t] * state + (1 - forget[:, t]) * new[:, t]
            states.append(state)
        return shown * torch.stack(states, 1)


def qrnn(width: int, layers: int, dropout: float) -> nn.Sequential:
    """Of text: such layers, windows of two, with dropout between."""
    parts: list[nn.Module] = [nn.Embedding(SYMBOLS, width)]
    for _ in range(layers):
        parts.extend([Quasi(width, width, 2), nn.Dropout(dropout)])
    return nn.Sequential(*parts, nn.Linear(width, SYMBOLS))


class Sine(nn.Module):
    """The sine of a value, enlarged first (Sitzmann et al. 2020)."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: Tensor) -> Tensor:
        return (self.frequency * x).sin()


class Long(nn.Module):
    """A convolution over all the past, whose weights a small net makes of how long ago it was.

    They fade, in each channel faster; [batch, element, channel].
    """

    def __init__(self, width: int, waves: int, hidden: int) -> None:
        super().__init__()
        ago = torch.arange(LENGTH)[:, None] / LENGTH
        angles = 2 * math.pi * ago * torch.arange(1, waves + 1)
        self.register_buffer(
            "ago", torch.cat([ago, angles.sin(), angles.cos()], 1), persistent=False
        )
        fading = (-ago * torch.linspace(1, 8, width)).exp()
        self.register_buffer("fading", fading, persistent=False)
        self.weigh = nn.Sequential(
            nn.Linear(1 + 2 * waves, hidden), Sine(4.0), nn.Linear(hidden, width)
        )
        self.now = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        length, x = x.shape[1], x.float()
        weights = (self.weigh(self.ago) * self.fading)[:length]
        both = torch.fft.rfft(x, 2 * length, 1) * torch.fft.rfft(weights, 2 * length, 0)
        return torch.fft.irfft(both, 2 * length, 1)[:, :length] + self.now * x


class Hyena(nn.Module):
    """A long convolution between two gates, all three seen through short ones (Poli et al. 2023)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 3 * width)
        self.short = Past(3 * width, 3 * width, 3, groups=3 * width)
        self.long = Long(width, 4, 16)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b, values = self.short(self.linear(x)).chunk(3, -1)
        out: Tensor = self.proj(a * self.long(b * values))
        return out


class HyenaText(LanguageModel):
    """Of text: blocks as of transformers, with such convolutions for attention."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = stacked(
            blocks, width, lambda: [Hyena(width)], lambda: wider(width, 2, nn.GELU())
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS)
