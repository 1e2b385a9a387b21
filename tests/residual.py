"""A small network with residual blocks and a dropout, to be compiled."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc1 = nn.LayerNorm(8), nn.Linear(8, 16)
        self.act, self.fc2 = nn.GELU(), nn.Linear(16, 8)

    def forward(self, x: Any) -> Any:
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


class Net(nn.Module):
    """Two blocks between a layer, a function, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(8, 8), nn.ModuleList([Block(), Block()])
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.drop(x))
