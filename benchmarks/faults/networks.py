"""The networks: seven families, in three lists that share no architecture.

Modules are registered in the order in which they are called, so that a layer's neighbours are
known. What a fault may lay its hands on, such as a shortcut or a mask, is a plain attribute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.data import COPY, FORGERY, IMAGES, LATENT, LENGTH, ROWS, SYMBOLS, TEXT, Task

Make = Callable[[], nn.Module]
Norm = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Network:
    """An architecture and how it is usually trained.

    Args:
        build: makes the model; its weights come from torch's generator.
        rate: learning rate that suits it.
        momentum: of SGD; ``None`` for Adam.
        short: whether a step is so short that a run of over a thousand is affordable.
    """

    name: str
    family: str
    build: Make
    task: Task
    rate: float
    momentum: float | None = None
    short: bool = False


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


class Attention(nn.Module):
    """Several heads of attention; ``causal``, ``scale`` and ``axis`` are what can be got wrong."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.axis = heads, causal, -1
        self.scale = 1 / math.sqrt(width // heads)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * self.scale
        if self.causal:
            future = torch.ones(t, t, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -1e4)
        mixed = scores.softmax(self.axis) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, t, width))
        return out


class Transformer(nn.Module):
    """Blocks of attention and of dense layers, the norm before or after.

    Args:
        symbols: size of the alphabet; 0 where the input is rows of eight numbers.
        outputs: one prediction per element where there is an alphabet, else ten classes.
        tied: whether embedding and head share their weight.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        *,
        symbols: int = SYMBOLS,
        before: bool = True,
        tied: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.symbols = symbols
        self.embed = nn.Embedding(symbols, width) if symbols else nn.Linear(8, width)
        self.place = nn.Embedding(LENGTH, width)
        if symbols:
            nn.init.normal_(self.embed.weight, std=0.1)
        nn.init.normal_(self.place.weight, std=0.1)
        parts: list[nn.Module] = []
        for _ in range(blocks):
            mix = Attention(width, heads, causal=bool(symbols))
            dense = [nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)]
            if dropout:
                dense.append(nn.Dropout(dropout))
            for inner in ([mix], dense):
                norm = nn.LayerNorm(width)
                if before:
                    parts.append(Block(nn.Sequential(norm, *inner)))
                else:
                    parts.append(Block(nn.Sequential(*inner), norm))
        self.blocks = nn.Sequential(*parts)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols or 10, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        x = self.norm(self.blocks(self.embed(x) + self.place(places)))
        logits: Tensor = self.head(x if self.symbols else x.mean(1))
        return logits


class Recurrent(nn.Module):
    """A recurrent layer, and a dense one on its last output or its mean."""

    def __init__(
        self, cell: type[nn.RNNBase], width: int, *, mean: bool = False, **options: object
    ) -> None:
        super().__init__()
        self.rnn = cell(8, width, batch_first=True, **options)
        self.head = nn.Linear(width * (2 if self.rnn.bidirectional else 1), 10)
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        logits: Tensor = self.head(y.mean(1) if self.mean else y[:, -1])
        return logits


class Forgers(nn.Module):
    """Generator and discriminator under one roof; a call of it generates."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, noise: Tensor) -> Tensor:
        out: Tensor = self.generator(noise)
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


def autoencoder(widths: Sequence[int], activation: Make) -> nn.Sequential:
    """Down to the last width and back up to 64 pixels."""
    down = dense((64, *widths[:-1]), activation, outputs=widths[-1])
    up = dense((widths[-1], *reversed(widths[:-1])), activation, outputs=64)
    return nn.Sequential(down, up)


def convolutional_autoencoder(width: int) -> nn.Sequential:
    """Two strided convolutions down to 2 × 2 pixels, two transposed ones back."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.SiLU(), nn.Conv2d(width, 8, 3, 2, 1),
        nn.ConvTranspose2d(8, width, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1),
    )  # fmt: skip


def forgers(width: int, activation: Make) -> Forgers:
    """Dense generator and dense discriminator."""
    generator = dense((LATENT, width, width), activation, outputs=64)
    discriminator = dense((64, width, width // 2), partial(nn.LeakyReLU, 0.2), outputs=1)
    return Forgers(generator, discriminator)


def groups(number: int) -> Norm:
    """A GroupNorm of so many groups."""
    return lambda channels: nn.GroupNorm(number, channels)


DESIGN = (
    Network("dense relu", "dense", partial(dense, (64, 96, 96, 64)), IMAGES, 0.05, 0.9, short=True),
    Network("dense tanh", "dense", partial(dense, (64, 80, 80, 80), nn.Tanh), IMAGES, 2e-3, short=True),
    Network("dense sigmoid", "dense", partial(dense, (64, 96, 64), nn.Sigmoid), IMAGES, 5e-3, short=True),
    Network(
        "dense gelu batchnorm", "dense", partial(dense, (64, 96, 64), nn.GELU, nn.BatchNorm1d), IMAGES, 0.05, 0.9
    ),
    Network("dense dropout", "dense", partial(dense, (64, 128, 64), dropout=0.2), IMAGES, 2e-3),
    Network("functional", "dense", partial(Functional, (64, 96, 64), F.relu), IMAGES, 0.05, 0.9),
    Network("cnn", "convolution", partial(convolutions, (10, 20, 20)), IMAGES, 2e-3),
    Network(
        "cnn batchnorm", "convolution", partial(convolutions, (12, 16, 24), norm=nn.BatchNorm2d), IMAGES, 0.05, 0.9
    ),
    Network("resnet", "residual", partial(residual, 12, 3), IMAGES, 0.03, 0.9),
    Network("gpt", "transformer", partial(Transformer, 32, 2, 4), TEXT, 2e-3),
    Network("lstm", "recurrent", partial(Recurrent, nn.LSTM, 48), ROWS, 3e-3),
    Network("autoencoder", "autoencoder", partial(autoencoder, (48, 8), nn.GELU), COPY, 2e-3, short=True),
    Network("gan", "gan", partial(forgers, 48, nn.ReLU), FORGERY, 1e-3),
)  # fmt: skip

CALIBRATION = (
    Network("dense deep", "dense", partial(dense, (64, 64, 64, 64, 64, 64)), IMAGES, 1e-3, short=True),
    Network("dense gelu", "dense", partial(dense, (64, 112, 112, 56), nn.GELU), IMAGES, 0.05, 0.9, short=True),
    Network(
        "dense tanh layernorm", "dense", partial(dense, (64, 72, 72), nn.Tanh, nn.LayerNorm), IMAGES, 2e-3
    ),
    Network(
        "dense batchnorm dropout", "dense",
        partial(dense, (64, 128, 96), nn.ReLU, nn.BatchNorm1d, 0.3), IMAGES, 2e-3,
    ),
    Network("functional tanh", "dense", partial(Functional, (64, 64, 64, 48), torch.tanh), IMAGES, 0.05, 0.9),
    Network("cnn tanh", "convolution", partial(convolutions, (8, 16), nn.Tanh), IMAGES, 0.05, 0.9),
    Network(
        "cnn batchnorm gelu", "convolution",
        partial(convolutions, (12, 24, 24, 24), nn.GELU, nn.BatchNorm2d, pool=partial(nn.MaxPool2d, 2)),
        IMAGES, 2e-3,
    ),
    Network("resnet after", "residual", partial(residual, 14, 2, before=False), IMAGES, 2e-3),
    Network("gpt tied", "transformer", partial(Transformer, 24, 3, 2, tied=True, dropout=0.1), TEXT, 2e-3),
    Network("gru", "recurrent", partial(Recurrent, nn.GRU, 40, num_layers=2), ROWS, 3e-3),
    Network("autoencoder tanh", "autoencoder", partial(autoencoder, (56, 32, 6), nn.Tanh), COPY, 2e-3, short=True),
    Network("gan elu", "gan", partial(forgers, 64, nn.ELU), FORGERY, 5e-4),
)  # fmt: skip

TEST = (
    Network("dense silu", "dense", partial(dense, (64, 72, 72, 72, 72), nn.SiLU), IMAGES, 2e-3, short=True),
    Network("dense relu narrow", "dense", partial(dense, (64, 48, 40, 32)), IMAGES, 0.1, 0.0, short=True),
    Network("dense leaky layernorm", "dense", partial(dense, (64, 88, 64), nn.LeakyReLU, nn.LayerNorm), IMAGES, 2e-3),
    Network(
        "dense relu batchnorm deep", "dense",
        partial(dense, (64, 64, 64, 48, 48), nn.ReLU, nn.BatchNorm1d), IMAGES, 0.03, 0.9,
    ),
    Network("dense elu dropout", "dense", partial(dense, (64, 104, 104), nn.ELU, None, 0.25), IMAGES, 0.03, 0.9),
    Network("functional gelu", "dense", partial(Functional, (64, 80, 56), F.gelu), IMAGES, 2e-3),
    Network("cnn silu", "convolution", partial(convolutions, (14, 14, 28), nn.SiLU, stride=2), IMAGES, 2e-3),
    Network(
        "cnn apart", "convolution", partial(convolutions, (16, 24, 24), norm=groups(4), apart=True), IMAGES, 2e-3
    ),
    Network(
        "cnn batchnorm strided", "convolution",
        partial(convolutions, (16, 32), norm=nn.BatchNorm2d, stride=2), IMAGES, 0.05, 0.9,
    ),
    Network("resnet groupnorm", "residual", partial(residual, 16, 4, groups(2), nn.SiLU), IMAGES, 2e-3),
    Network("gpt after", "transformer", partial(Transformer, 40, 1, 4, before=False), TEXT, 2e-3),
    Network("encoder", "transformer", partial(Transformer, 24, 2, 3, symbols=0), ROWS, 2e-3),
    Network("lstm both ways", "recurrent", partial(Recurrent, nn.LSTM, 24, mean=True, bidirectional=True), ROWS, 3e-3),
    Network("autoencoder convolutional", "autoencoder", partial(convolutional_autoencoder, 12), COPY, 2e-3),
    Network("autoencoder relu", "autoencoder", partial(autoencoder, (64, 12), nn.ReLU), COPY, 2e-3, short=True),
    Network("gan tanh", "gan", partial(forgers, 40, nn.Tanh), FORGERY, 1e-3),
)  # fmt: skip

#: The three lists by their names.
NETWORKS = {"design": DESIGN, "calibration": CALIBRATION, "test": TEST}

#: Every network by its name.
BY_NAME = {network.name: network for networks in NETWORKS.values() for network in networks}


@cache
def skeleton(network: Network) -> nn.Module:
    """A model of this architecture to look at, not to train."""
    return network.build()
