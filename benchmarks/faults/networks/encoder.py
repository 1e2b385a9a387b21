"""Encoders of rows of pixels, as the first transformers had them, and of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from benchmarks.faults.networks.dense import Across
from benchmarks.faults.networks.parts import Block, Pool, Scale, Times
from benchmarks.faults.networks.transformer import Attention, stacked, wider


class Encoder(nn.Module):
    """Places are waves, norms come after blocks (Vaswani et al. 2017); attention pools the rows.

    Args:
        width: even.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.register_buffer("places", waves(8, width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=False), nn.Dropout(dropout)],
            lambda: [*wider(width, 3, nn.ReLU()), nn.Dropout(dropout)],
            before=False,
        )  # fmt: skip
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        self.pool = Pool(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.dropout(self.embed(x) + self.places[: x.shape[1]])
        logits: Tensor = self.head(self.pool(self.blocks(seen)))
        return logits


class Bert(nn.Module):
    """A token before the rows collects what they say, norms come after blocks (Devlin et al. 2019).

    Weights begin with one deviation: theirs, 0.02 at a width of 768, times the root of how much
    narrower this is.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        std = 0.02 * math.sqrt(768 / width)
        self.token = nn.Parameter(torch.randn(1, 1, width) * std)
        self.embed = nn.Linear(8, width)
        self.place = nn.Embedding(9, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=False), nn.Dropout(dropout)],
            lambda: [*wider(width, 4, nn.GELU()), nn.Dropout(dropout)],
            before=False,
        )  # fmt: skip
        self.pool = nn.Linear(width, width)
        self.activation = nn.Tanh()
        self.head = nn.Linear(width, 10)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1)
        seen = self.dropout(self.norm(seen + self.place(torch.arange(seen.shape[1]))))
        logits: Tensor = self.head(self.activation(self.pool(self.blocks(seen)[:, 0])))
        return logits


class Compact(nn.Module):
    """Convolution and pool make 16 elements of an image, attention pools them (Hassani et al. 2021)."""

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.activation = nn.ReLU()
        self.down = nn.MaxPool2d(2)
        self.place = nn.Embedding(16, width)
        nn.init.trunc_normal_(self.place.weight, std=0.2)
        self.dropout = nn.Dropout(dropout)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=False), nn.Dropout(dropout)],
            lambda: [
                nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout),
                nn.Linear(2 * width, width), nn.Dropout(dropout),
            ],
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.pool = Pool(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.down(self.activation(self.conv(x))).flatten(2).transpose(1, 2)
        seen = self.dropout(seen + self.place(torch.arange(seen.shape[1])))
        logits: Tensor = self.head(self.pool(self.norm(self.blocks(seen))))
        return logits


class Along(nn.BatchNorm1d):
    """A batch norm of [batch, element, width], over batch and elements."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Series(nn.Module):
    """Of rows: learnt places, and batch norms after blocks, as suits time series (Zerveas et al. 2021)."""

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Embedding(8, width)
        nn.init.uniform_(self.place.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=False), nn.Dropout(dropout)],
            lambda: [*wider(width, 2, nn.GELU()), nn.Dropout(dropout)],
            Along, before=False,
        )  # fmt: skip
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.dropout(self.embed(x) + self.place(torch.arange(x.shape[1])))
        logits: Tensor = self.head(self.blocks(seen).mean(1))
        return logits


class Conformer(nn.Module):
    """Of rows: dense layers, attention, convolutions, dense layers, then a norm (Gulati et al. 2020).

    Each has a norm before it and a way around; what dense layers make counts half.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()

        def half() -> tuple[nn.Module, ...]:
            return *wider(width, 2, nn.SiLU()), nn.Dropout(dropout), Times(0.5)

        def convolutions() -> tuple[nn.Module, ...]:
            inner = nn.Sequential(
                nn.Conv1d(width, 2 * width, 1), nn.GLU(1),
                nn.Conv1d(width, width, 3, padding=1, groups=width), nn.BatchNorm1d(width), nn.SiLU(),
                nn.Conv1d(width, width, 1),
            )  # fmt: skip
            return Across(inner), nn.Dropout(dropout)

        self.embed = nn.Linear(8, width)
        self.register_buffer("places", waves(8, width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential()
        for _ in range(blocks):
            mix = (Attention(width, heads, causal=False), nn.Dropout(dropout))
            for inner in (half(), mix, convolutions(), half()):
                self.blocks.append(Block(nn.Sequential(nn.LayerNorm(width), *inner)))
            self.blocks.append(nn.LayerNorm(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.dropout(self.embed(x) + self.places[: x.shape[1]])
        logits: Tensor = self.head(self.blocks(seen).mean(1))
        return logits


class Remembered(nn.Module):
    """What came in and what is made of it, joined as a GRU joins its state and its input.

    Begins by keeping most of what came in, by biases of -2 (Parisotto et al. 2020).
    """

    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.reset, self.share = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        nn.init.constant_(self.share.bias, -2.0)
        self.made = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        both = torch.cat([y, x], -1)
        reset, share = self.reset(both).sigmoid(), self.share(both).sigmoid()
        out: Tensor = (1 - share) * x + share * self.made(torch.cat([y, reset * x], -1)).tanh()
        return out


class GTrXL(nn.Module):
    """Of rows, each of which sees those above: norms before branches, gates for shortcuts.

    As Parisotto et al. (2020) have it for agents.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.register_buffer("places", waves(8, width), persistent=False)
        self.blocks = nn.Sequential()
        for _ in range(blocks):
            mix, wide = (Attention(width, heads, causal=True),), wider(width, 2, nn.ReLU())
            for inner in (mix, wide):
                branch = nn.Sequential(nn.LayerNorm(width), *inner, nn.ReLU())
                self.blocks.append(Remembered(width, branch))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.embed(x) + self.places[: x.shape[1]]
        logits: Tensor = self.head(self.blocks(seen).mean(1))
        return logits


class Fourier(nn.Module):
    """What came in and its Fourier transform over elements and width, the real part; a norm after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x + torch.fft.fft2(x.float()).real)
        return out


class FNet(nn.Module):
    """Of rows: Fourier transforms for attention, norms after blocks (Lee-Thorp et al. 2022)."""

    def __init__(self, width: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Embedding(8, width)
        nn.init.normal_(self.place.weight, std=0.1)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential()
        for _ in range(blocks):
            wide = nn.Sequential(*wider(width, 3, nn.GELU()), nn.Dropout(dropout))
            self.blocks.extend([Fourier(width), Block(wide, nn.LayerNorm(width))])
        self.pool = nn.Linear(width, width)
        self.activation = nn.Tanh()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(self.embed(x) + self.place(torch.arange(x.shape[1])))
        seen = self.blocks(self.dropout(seen))
        logits: Tensor = self.head(self.activation(self.pool(seen[:, 0])))
        return logits


class CaiT(nn.Module):
    """Of images: patches see each other, then a token sees them; what branches add counts little at first.

    As Touvron et al. (2021) have it.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()

        def mix() -> list[nn.Module]:
            return [Attention(width, heads, causal=False), Scale(width, 0)]

        def wide() -> list[nn.Module]:
            return [*wider(width, 4, nn.GELU()), Scale(width, 0)]

        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.place = nn.Embedding(16, width)
        nn.init.trunc_normal_(self.place.weight, std=0.02)
        self.blocks = stacked(blocks, width, mix, wide)
        self.ask = nn.Sequential(nn.LayerNorm(width), *mix())
        self.told = Block(nn.Sequential(nn.LayerNorm(width), *wide()))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.patches(x).flatten(2).transpose(1, 2)
        seen = self.blocks(seen + self.place(torch.arange(16)))
        token = self.token.expand(len(x), -1, -1)
        token = token + self.ask(torch.cat([token, seen], 1))[:, :1]
        logits: Tensor = self.head(self.norm(self.told(token))[:, 0])
        return logits


def waves(length: int, width: int) -> Tensor:
    """Sines and cosines of each place, ever slower, for few places: float32[length, width]."""
    slower = 100.0 ** -(torch.arange(0, width, 2) / width)
    angle = torch.arange(length)[:, None] * slower
    return torch.cat([angle.sin(), angle.cos()], -1)
