"""Memory and precision."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.truth.harness import Training, cell, training

ORDER = 20


class Checkpointed(nn.Module):
    """Two blocks that are recomputed in the backward pass, the first with dropout."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.first = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.2), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True))
        self.head, self.reentrant = nn.Linear(16, 4), reentrant

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        for part in (self.first, self.second):
            again = torch.is_grad_enabled()
            x = checkpoint(part, x, use_reentrant=self.reentrant) if again else part(x)
        return self.head(x)


def classified(model: nn.Module, cast: Any = contextlib.nullcontext) -> Training:
    """Eight numbers in, four classes out, evaluated once in between."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        with cast():
            loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        if i != 3:
            return loss
        model.eval()
        with torch.no_grad(), cast():
            out = model(torch.randn(16, 8))
        model.train()
        return loss, out

    return training(model, step, optimizer)


@cell(
    "activation checkpointing", note="what is recomputed in the backward pass is not counted twice"
)
def checkpointing() -> Training:
    return classified(Checkpointed(False))


@cell("activation checkpointing, reentrant", note="likewise")
def reentrant() -> Training:
    return classified(Checkpointed(True))


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)
    )


@cell("autocast to bfloat16", note="outputs and gradients in the type they have")
def bfloat16() -> Training:
    return classified(mlp(), lambda: torch.autocast("cpu", torch.bfloat16))


@cell("a model of bfloat16 throughout")
def pure_bfloat16() -> Training:
    model = mlp().to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        out = model(torch.randn(16, 8, dtype=torch.bfloat16))
        loss = F.cross_entropy(out.float(), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


@cell("a model of float64")
def float64() -> Training:
    model = mlp().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        out = model(torch.randn(16, 8, dtype=torch.float64))
        loss = F.cross_entropy(out, torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


def scaled(clip: bool = False, overflow: int = -1) -> Training:
    """float16 under a gradient scaler, whose scale grows every second step."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    scales: list[float] = []

    def step(i: int) -> Any:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(torch.randn(16, 8)).float(), torch.randint(4, (16,)))
        scales.append(float(scaler.get_scale()))
        big = float("inf") if i == overflow else 1.0
        scaler.scale(loss * big).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        scaler.step(optimizer)
        scaler.update()
        return loss

    def correct(key: str, tensor: Tensor, at: int) -> Tensor:
        return tensor.double() / scales[at] if ":gradient" in key else tensor

    return training(model, step, optimizer, correct=correct)


@cell(
    "float16 with `GradScaler`",
    note="gradients are divided by the scale. `scaler.step(optimizer)` tells of it; without that call they stay scaled",
)
def gradscaler() -> Training:
    return scaled()


@cell("`GradScaler` with gradient clipping", note="gradients as they were before clipping")
def gradscaler_clipped() -> Training:
    return scaled(clip=True)


@cell(
    "`GradScaler` that skips a step",
    note="the step that overflows shows as such, and moves nothing",
)
def gradscaler_skips() -> Training:
    return scaled(overflow=5)
