"""A small transformer that learns to copy, for the scripts on attention; trained at any learning rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

TOKENS, LENGTH, WIDTH, HEADS, BLOCKS = 32, 32, 64, 4, 2
STEPS, WARM_UP, BATCH = 400, 100, 16
#: What a copier that knows nothing of the first half can reach: it must guess that one.
FLOOR = np.log(TOKENS) * (LENGTH // 2 - 1) / LENGTH


class Logits(nn.Module):
    """Products of queries and keys; a module of its own, so that hooks see what it gives."""

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5


class Attention(nn.Module):
    """Causal self-attention that remembers its largest logit and its mean entropy, in nats.

    Args:
        normalised: whether queries and keys pass a LayerNorm (Dehghani et al. 2023).
    """

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        size = WIDTH // HEADS
        self.query_norm = nn.LayerNorm(size) if normalised else nn.Identity()
        self.key_norm = nn.LayerNorm(size) if normalised else nn.Identity()
        self.logits = Logits()
        self.register_buffer("future", torch.ones(LENGTH, LENGTH).triu(1).bool())
        self.largest = self.entropy = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.project(x).view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        query, key, value = self.query_norm(parts[0]), self.key_norm(parts[1]), parts[2]
        logits = self.logits(query, key)
        share = logits.masked_fill(self.future, -torch.inf).softmax(-1)
        with torch.no_grad():
            self.largest = float(logits.abs().max())
            self.entropy = float(torch.special.entr(share).sum(-1).mean())
        return self.out((share @ value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a small network, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(WIDTH), Attention(normalised))
        self.feed = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x)
        return x + self.feed(x)


class Copier(nn.Module):
    """Tokens to logits of the next token."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        nn.init.normal_(self.embed.weight, 0, 0.02)
        self.blocks = nn.Sequential(*(Block(normalised) for _ in range(BLOCKS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, TOKENS, bias=False))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(tokens) + self.place))


def train(
    rate: float,
    seed: int,
    normalised: bool = False,
    change: Callable[[nn.Module], None] = lambda model: None,
    watched: Callable[[nn.Module, torch.optim.Optimizer], object] | None = None,
) -> np.ndarray:
    """Loss, largest attention logit, and least entropy over the blocks, by step: float64[steps, 3].

    AdamW after a linear warm-up. ``change`` may alter the model before; ``watched`` makes a monitor.
    """
    torch.manual_seed(seed)
    model = Copier(normalised)
    change(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0)
    monitor = watched(model, optimizer) if watched else None
    attentions = [m for m in model.modules() if isinstance(m, Attention)]
    seen = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARM_UP)
        half = torch.randint(TOKENS, (BATCH, LENGTH // 2))
        tokens = torch.cat([half, half, half[:, :1]], dim=1)  # the second half repeats the first
        loss = nn.functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.step(loss=loss)
        largest = max(a.largest for a in attentions)
        seen.append((loss.item(), largest, min(a.entropy for a in attentions)))
    if monitor is not None:
        monitor.close()
    return np.array(seen)
