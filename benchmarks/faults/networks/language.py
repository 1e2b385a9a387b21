"""Transformers of text with what language models have by now: own initialisations, other places."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.faults.data import LENGTH, SYMBOLS
from benchmarks.faults.networks.convolution import Past
from benchmarks.faults.networks.parts import Block, Times
from benchmarks.faults.networks.transformer import Attention, Gated, LanguageModel, stacked, wider


class GPT2(nn.Module):
    """Places are learnt, weights begin small, those of branches the smaller the more of them there are.

    As Radford et al. (2019) have it: one deviation for all weights, over the root of the number of
    branches where these end, and no biases at first; embedding and head share their weight. Theirs is
    0.02 at a width of 768; here it is as much larger as the width's root is smaller.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.place = nn.Embedding(LENGTH, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=True), nn.Dropout(dropout)],
            lambda: [*wider(width, 4, nn.GELU("tanh")), nn.Dropout(dropout)],
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)
        self.head.weight = self.embed.weight
        self._begin(0.02 * math.sqrt(768 / width))

    def _begin(self, std: float) -> None:
        """Weights as they are before the first step."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            last = [m for m in block.modules() if isinstance(m, nn.Linear)][-1]
            nn.init.normal_(last.weight, std=std / math.sqrt(len(self.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.dropout(self.embed(x) + self.place(torch.arange(x.shape[1])))
        logits: Tensor = self.head(self.norm(self.blocks(seen)))
        return logits


class Bloom(nn.Module):
    """No embedding of places but scores that fall with the distance, and a norm of the embedding.

    As Le Scao et al. (2022) have it, with ReLUs.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.first = nn.LayerNorm(width)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=True, sloped=True)],
            lambda: wider(width, 3, nn.ReLU()),
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.first(self.embed(x)))))
        return logits


class Olmo2(LanguageModel):
    """Places by rotation, gated layers, and norms where branches end and of queries and keys.

    As Team OLMo (2025) have it: nothing is normed on its way into a branch.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        parts: list[nn.Module] = []
        for _ in range(blocks):
            mix = Attention(width, heads, causal=True, rotary=True, normed=True)
            for inner in (mix, Gated(width, 2 * width)):
                parts.append(Block(nn.Sequential(inner, nn.RMSNorm(width))))
        self.blocks = nn.Sequential(*parts)
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                std = 0.02 * math.sqrt(4096 / width)
                nn.init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


class Enlarged(nn.Module):
    """Embeddings are enlarged by the root of the width, since the head has the same weight.

    Args:
        make: the blocks.
    """

    def __init__(self, width: int, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.enlarged = math.sqrt(width)
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = make()
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=1 / self.enlarged)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(x) * self.enlarged)))
        return logits


class Gemma(Enlarged):
    """All heads have the same keys and values, GELUs are gates (Gemma Team 2024)."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__(
            width,
            lambda: stacked(
                blocks, width,
                lambda: [Attention(width, heads, causal=True, rotary=True, shared=True)],
                lambda: [Gated(width, 3 * width, partial(nn.GELU, "tanh"))],
                nn.RMSNorm,
            ),
        )  # fmt: skip


class SquaredReLU(nn.ReLU):
    """The square of what is above zero (So et al. 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class Nemotron(LanguageModel):
    """Squared ReLUs, places by rotation, norms with a mean, a head of its own weight.

    As Parmar et al. (2024) have it.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=True, rotary=True)],
            lambda: wider(width, 4, SquaredReLU()),
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)


class DeepNet(nn.Module):
    """Norms after blocks, whose shortcuts weigh more and whose branches begin smaller, by their number.

    As Wang et al. (2022) have it of decoders; queries and keys begin as usual.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.place = nn.Embedding(LENGTH, width)
        nn.init.normal_(self.place.weight, std=width**-0.5)
        self.dropout = nn.Dropout(dropout)
        smaller, parts = (8 * blocks) ** -0.25, list[nn.Module]()
        for _ in range(blocks):
            mix = Attention(width, heads, causal=True)
            wide = (nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
            for linear in (mix.qkv, mix.proj, wide[0], wide[2]):
                nn.init.xavier_normal_(linear.weight, smaller)
                nn.init.zeros_(linear.bias)
            for queries_or_keys in mix.qkv.weight.detach().split(mix.sizes)[:2]:
                nn.init.xavier_normal_(queries_or_keys)
            for inner in ((mix,), wide):
                inside = nn.Sequential(*inner, nn.Dropout(dropout))
                block = Block(inside, nn.LayerNorm(width))
                block.shortcut = (2 * blocks) ** 0.25
                parts.append(block)
        self.blocks = nn.Sequential(*parts)
        self.head = nn.Linear(width, SYMBOLS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.dropout(self.embed(x) + self.place(torch.arange(x.shape[1])))
        logits: Tensor = self.head(self.blocks(seen))
        return logits


class Sum(nn.Module):
    """What several layers make of the same, added."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x) for branch in self.branches]).sum(0)


class GPTJ(LanguageModel):
    """Attention and dense layers side by side, behind one norm (Wang & Komatsuzaki 2021)."""

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = nn.Sequential()
        for _ in range(blocks):
            mix = Attention(width, heads, causal=True, rotary=True)
            wide = nn.Sequential(*wider(width, 4, nn.GELU("tanh")))
            self.blocks.append(Block(nn.Sequential(nn.LayerNorm(width), Sum(mix, wide))))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS)


class NormFormer(LanguageModel):
    """Norms before branches, and again behind attention and between dense layers (Shleifer et al. 2021).

    Here with places by rotation.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        wide = 3 * width
        self.blocks = stacked(
            blocks, width,
            lambda: [
                Attention(width, heads, causal=True, rotary=True), nn.LayerNorm(width),
                nn.Dropout(dropout),
            ],
            lambda: [
                nn.Linear(width, wide), nn.GELU(), nn.LayerNorm(wide), nn.Linear(wide, width),
                nn.Dropout(dropout),
            ],
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)


class T5(nn.Module):
    """Heads learn what distances mean, all blocks the same; scores are not scaled, outputs are.

    As Raffel et al. (2020) have it, here a decoder alone: weights begin by what they are given, those of
    queries smaller by the root of a head's width; embedding and head share their weight.
    """

    def __init__(self, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        wide = 4 * width
        self.smaller = width**-0.5
        self.learnt = nn.Parameter(torch.randn(heads, LENGTH) * self.smaller)
        self.embed = nn.Embedding(SYMBOLS, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=True, learnt=self.learnt), nn.Dropout(dropout)],
            lambda: [
                nn.Linear(width, wide), nn.ReLU(), nn.Dropout(dropout), nn.Linear(wide, width),
                nn.Dropout(dropout),
            ],
            nn.RMSNorm,
        )  # fmt: skip
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
            if isinstance(module, Attention):
                module.qkv.weight.detach()[:width] *= module.scale
                module.scale = 1.0
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(self.blocks(self.dropout(self.embed(x))))
        logits: Tensor = self.head(self.smaller * seen)
        return logits


class Primer(LanguageModel):
    """Squared ReLUs, and queries, keys and values that see the two symbols before (So et al. 2021).

    Here with places by rotation.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()

        def mix() -> list[nn.Module]:
            made = Attention(width, heads, causal=True, rotary=True)
            made.qkv = nn.Sequential(made.qkv, Past(3 * width, 3 * width, 3, groups=3 * width))
            return [made]

        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = stacked(blocks, width, mix, lambda: wider(width, 4, SquaredReLU()))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS)


class Palm(LanguageModel):
    """Attention with shared keys and values and gated layers side by side, norms without a bias.

    As Chowdhery et al. (2023) have it: embedding and head share their weight, outputs are scaled.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = nn.Sequential()
        for _ in range(blocks):
            mix = Attention(width, heads, causal=True, rotary=True, shared=True)
            both = Sum(mix, Gated(width, 2 * width))
            self.blocks.append(Block(nn.Sequential(nn.LayerNorm(width, bias=False), both)))
        self.norm = nn.Sequential(nn.LayerNorm(width, bias=False), Times(width**-0.5))
        self.head = nn.Linear(width, SYMBOLS, bias=False)
        self.head.weight = self.embed.weight


class Gemma2(Enlarged):
    """Branches have norms at both ends, and no output is larger than 30.

    As Gemma 2 has it (Gemma Team 2024), but every head has keys and values of its own and sees all the past.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__(
            width,
            lambda: stacked(
                blocks, width,
                lambda: [Attention(width, heads, causal=True, rotary=True), nn.RMSNorm(width)],
                lambda: [Gated(width, 2 * width, partial(nn.GELU, "tanh")), nn.RMSNorm(width)],
                nn.RMSNorm,
            ),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return 30 * (super().forward(x) / 30).tanh()


class Qwen3(LanguageModel):
    """Places by rotation, gated layers, norms without a mean before branches and of queries and keys.

    As Qwen Team (2025) have it, but every head has keys and values of its own.
    """

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=True, rotary=True, normed=True)],
            lambda: [Gated(width, 3 * width)],
            nn.RMSNorm,
        )  # fmt: skip
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)


class Routed(nn.Module):
    """Gated layers side by side, of which a router chooses some for each symbol (Shazeer et al. 2017)."""

    def __init__(self, width: int, hidden: int, experts: int, chosen: int) -> None:
        super().__init__()
        self.chosen = chosen
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(Gated(width, hidden) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x)
        least = scores.topk(self.chosen, -1).values[..., -1:]
        shares = scores.masked_fill(scores < least, -math.inf).softmax(-1)
        found = torch.stack([expert(x) for expert in self.experts], -2)
        return (shares[..., None] * found).sum(-2)


class Mixtral(LanguageModel):
    """Places by rotation, norms without a mean, two of several gated layers for each symbol (Jiang et al. 2024).

    Every head has keys and values of its own.
    """

    def __init__(self, width: int, blocks: int, heads: int, experts: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.blocks = stacked(
            blocks, width,
            lambda: [Attention(width, heads, causal=True, rotary=True)],
            lambda: [Routed(width, width, experts, 2)],
            nn.RMSNorm,
        )  # fmt: skip
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)
