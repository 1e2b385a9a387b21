"""Transformers: of text, of rows of pixels, of patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.faults.data import LENGTH, SYMBOLS
from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import Block


class Attention(nn.Module):
    """Several heads of attention; ``causal``, ``scale`` and ``axis`` are what can be got wrong.

    Args:
        rotary: whether queries and keys are turned by their places (Su et al. 2021).
        sloped: whether scores fall with the distance, in each head less (ALiBi, Press et al. 2022).
        shared: whether all heads have the same keys and values (Shazeer 2019).
        normed: whether queries and keys have norms (Henry et al. 2020), each over all heads together.
        learnt: what each distance into the past adds to a head's scores, [heads, places] (Raffel et al. 2020).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        causal: bool,
        *,
        rotary: bool = False,
        sloped: bool = False,
        shared: bool = False,
        normed: bool = False,
        learnt: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.learnt = learnt
        self.rotary, self.sloped, self.normed = rotary, sloped, normed
        self.heads, self.causal, self.axis = heads, causal, -1
        self.scale = 1 / math.sqrt(width // heads)
        self.sizes = (width, *2 * [width // heads if shared else width])
        self.qkv = nn.Linear(width, sum(self.sizes))
        if normed:
            self.q_norm, self.k_norm = nn.RMSNorm(self.sizes[0]), nn.RMSNorm(self.sizes[1])
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        q, k, v = self.qkv(x).split(self.sizes, -1)
        if self.normed:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (y.view(b, t, -1, width // self.heads).transpose(1, 2) for y in (q, k, v))
        if self.rotary:
            q, k = turned(q), turned(k)
        scores = q @ k.transpose(-1, -2) * self.scale
        if self.sloped:
            scores = scores - distances(self.heads, t)
        if self.learnt is not None:
            places = torch.arange(t)
            scores = scores + self.learnt[:, (places[:, None] - places).clamp(min=0)]
        if self.causal:
            future = torch.ones(t, t, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -1e4)
        mixed = scores.softmax(self.axis) @ v
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, t, width))
        return out


def turned(x: Tensor) -> Tensor:
    """Pairs of values, each turned by an angle that grows with its place; x is [..., place, even]."""
    half = x.shape[-1] // 2
    slower = 100.0 ** -(torch.arange(half) / half)
    angle = torch.arange(x.shape[-2])[:, None] * slower
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def distances(heads: int, length: int) -> Tensor:
    """How far apart two places are, [heads, length, length], in each head by a smaller slope."""
    slopes = 2.0 ** (-8 * torch.arange(1, heads + 1) / heads)
    places = torch.arange(length)
    return slopes[:, None, None] * (places[:, None] - places).abs()


def wider(width: int, times: int, activation: nn.Module) -> tuple[nn.Module, ...]:
    """Two dense layers, so many times as wide between them."""
    return nn.Linear(width, times * width), activation, nn.Linear(times * width, width)


def stacked(
    number: int,
    width: int,
    mix: Callable[[], Sequence[nn.Module]],
    wide: Callable[[], Sequence[nn.Module]],
    norm: Norm = nn.LayerNorm,
    *,
    before: bool = True,
) -> nn.Sequential:
    """Blocks of what mixes elements and of what sees each alone, in turn, so many of both.

    Args:
        before: whether the norm comes before the branch, or after the sum.
    """
    parts: list[nn.Module] = []
    for _ in range(number):
        for make in (mix, wide):
            inner = make()
            if before:
                parts.append(Block(nn.Sequential(norm(width), *inner)))
            else:
                parts.append(Block(nn.Sequential(*inner), norm(width)))
    return nn.Sequential(*parts)


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
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=bool(symbols))],
            lambda: [*wider(width, 3, nn.GELU()), *([nn.Dropout(dropout)] if dropout else [])],
            before=before,
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols or 10, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        x = self.norm(self.blocks(self.embed(x) + self.place(places)))
        logits: Tensor = self.head(x if self.symbols else x.mean(1))
        return logits


class Gated(nn.Module):
    """A dense layer of which another one opens and closes the units (SwiGLU, Shazeer 2020)."""

    def __init__(self, width: int, hidden: int, activation: Make = nn.SiLU) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden)
        self.activation = activation()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.activation(self.gate(x)) * self.up(x))
        return out


class LanguageModel(nn.Module):
    """An embedding, blocks, a norm, and a head that predicts the next symbol; no more."""

    embed: nn.Module
    blocks: nn.Module
    norm: nn.Module
    head: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(x))))
        return logits


class Llama(LanguageModel):
    """Of text: places by rotation, norms without a mean, gated layers (Touvron et al. 2023)."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=True, rotary=True)],
            lambda: [Gated(width, 2 * width)],
            nn.RMSNorm,
        )  # fmt: skip
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)


class Patches(nn.Module):
    """Of images: 16 patches and a token that collects what they say (ViT, Dosovitskiy et al. 2021)."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.place = nn.Embedding(17, width)
        nn.init.normal_(self.place.weight, std=0.02)
        parts: list[nn.Module] = []
        for _ in range(blocks):
            wide = wider(width, 4, nn.GELU())  # begins before the attention beside it
            for inner in ([Attention(width, heads, causal=False)], wide):
                parts.append(Block(nn.Sequential(nn.LayerNorm(width), *inner)))
        self.blocks = nn.Sequential(*parts)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.patches(x).flatten(2).transpose(1, 2)
        seen = torch.cat([self.token.expand(len(x), -1, -1), seen], 1)
        seen = self.blocks(seen + self.place(torch.arange(seen.shape[1])))
        logits: Tensor = self.head(self.norm(seen)[:, 0])
        return logits


class Shared(nn.Module):
    """Of rows: the same block again and again, norms after it (ALBERT, Lan et al. 2020)."""

    def __init__(self, width: int, times: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.times = times
        self.embed = nn.Linear(8, width)
        self.place = nn.Embedding(8, width)
        nn.init.normal_(self.place.weight, std=0.1)
        self.block = stacked(
            1, width,
            lambda: [Attention(width, heads, causal=False), nn.Dropout(dropout)],
            lambda: [*wider(width, 2, nn.ReLU()), nn.Dropout(dropout)],
            before=False,
        )  # fmt: skip
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.place(torch.arange(x.shape[1]))
        for _ in range(self.times):
            x = self.block(x)
        logits: Tensor = self.head(x.mean(1))
        return logits


class Tokens(nn.Module):
    """Of images as of tables: each pixel a token of its own, one more collects what they say.

    FT-Transformer, as Gorishniy et al. (2021) have it: norms before branches, rectifiers as gates.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        bound = width**-0.5
        self.token = nn.Parameter(torch.empty(1, 1, width).uniform_(-bound, bound))
        self.weight = nn.Parameter(torch.empty(64, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(64, width).uniform_(-bound, bound))
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=False), nn.Dropout(dropout)],
            lambda: [Gated(width, 2 * width, nn.ReLU), nn.Dropout(dropout)],
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.activation = nn.ReLU()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = x.flatten(1)[:, :, None] * self.weight + self.bias
        seen = self.blocks(torch.cat([self.token.expand(len(x), -1, -1), seen], 1))
        logits: Tensor = self.head(self.activation(self.norm(seen[:, 0])))
        return logits


class Windows(nn.Module):
    """Attention of 4 × 4 patches within windows of 2 × 2, which may lie one patch further."""

    def __init__(self, width: int, heads: int, further: int) -> None:
        super().__init__()
        self.further = further
        self.inner = Attention(width, heads, causal=False)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.unflatten(1, (4, 4)).roll((-self.further, -self.further), (1, 2))
        cut = grid.unflatten(2, (2, 2)).unflatten(1, (2, 2)).transpose(2, 3)
        mixed = self.inner(cut.reshape(-1, 4, x.shape[-1])).view(cut.shape)
        grid = mixed.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        out: Tensor = grid.roll((self.further, self.further), (1, 2)).flatten(1, 2)
        return out


class Swin(nn.Module):
    """Of images: patches see those in their window, then four become one of twice the width.

    As Liu et al. (2021) have it; here windows that lie further go around the edge, and places are learnt.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.place = nn.Embedding(16, width)
        nn.init.trunc_normal_(self.place.weight, std=0.1)
        ways = iter((0, 1))
        self.blocks = stacked(
            2, width,
            lambda: [Windows(width, heads, next(ways))],
            lambda: wider(width, 4, nn.GELU()),
        )  # fmt: skip
        self.merge = nn.Sequential(nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width))
        self.merged = stacked(
            1, 2 * width,
            lambda: [Attention(2 * width, 2 * heads, causal=False)],
            lambda: wider(2 * width, 4, nn.GELU()),
        )  # fmt: skip
        self.norm = nn.LayerNorm(2 * width)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.patches(x).flatten(2).transpose(1, 2)
        seen = self.blocks(seen + self.place(torch.arange(16)))
        four = seen.transpose(1, 2).unflatten(2, (4, 4)).unfold(2, 2, 2).unfold(3, 2, 2)
        seen = self.merge(four.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2))
        logits: Tensor = self.head(self.norm(self.merged(seen)).mean(1))
        return logits
