"""The training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.truth.harness import Training, Watched, cell, training

ORDER = 30

Make = Callable[[Any], torch.optim.Optimizer]


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)
    )


def stepped(make: Make, model: nn.Module | None = None) -> Training:
    """Random batches, and the given optimizer."""
    model = model or mlp()
    optimizer = make(model.parameters())

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


def accumulated(parts: int) -> Training:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        total = []
        for _ in range(parts):
            loss = F.cross_entropy(model(torch.randn(8, 8)), torch.randint(4, (8,))) / parts
            loss.backward()
            total.append(loss)
        optimizer.step()
        return total

    return training(model, step, optimizer)


@cell("gradient accumulation, 4 parts", note="every part is seen; one update per step")
def accumulated_little() -> Training:
    return accumulated(4)


@cell("gradient accumulation, 16 parts", note="four parts of each step, a fair choice")
def accumulated_much() -> Training:
    return accumulated(16)


@cell("gradient clipping", note="the gradients of outputs are those that clipping has not touched")
def clipped() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        nn.utils.clip_grad_value_(model.parameters(), 0.005)
        optimizer.step()
        return loss, norm

    return training(model, step, optimizer)


@cell(
    "double backward (gradient penalty)",
    note="both backward passes are seen, as two calls",
)
def penalised() -> Training:
    model = nn.Sequential(
        nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Linear(16, 16),
        nn.Softplus(), nn.Linear(16, 1),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x = torch.randn(16, 8, requires_grad=True)
        out = model(x).mean()
        (slope,) = torch.autograd.grad(out, x, create_graph=True)
        loss = out + (slope.norm(dim=1) - 1).square().mean()
        loss.backward()
        optimizer.step()
        return loss, slope

    return training(model, step, optimizer)


@cell("two backward passes through one graph", note="likewise")
def retained() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        out = model(torch.randn(16, 8))
        losses = F.cross_entropy(out, torch.randint(4, (16,))), out.square().mean()
        losses[0].backward(retain_graph=True)
        losses[1].backward()
        optimizer.step()
        return losses

    return training(model, step, optimizer)


@cell(
    "`torch.autograd.grad` in place of `backward`",
    note="gradients of outputs are seen all the same",
)
def functional_grad() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        found = torch.autograd.grad(loss, list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient
        optimizer.step()
        return loss, found

    return training(model, step, optimizer)


@cell(
    "frozen parameters, freed later",
    note="a frozen parameter has no update, until it begins to train",
    loose=("*:gradient",),  # from the ninth step on each is sampled at every fourth
)
def unfrozen() -> Training:
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        if i == 4:
            model[0].requires_grad_(True)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer, steps=16)


@cell(
    "several parameter groups", note="the learning rate of the record is the largest of the groups'"
)
def groups() -> Training:
    def make(parameters: Any) -> torch.optim.Optimizer:
        listed = list(parameters)
        return torch.optim.SGD(
            [{"params": listed[:2], "lr": 0.001}, {"params": listed[2:]}], lr=0.1
        )

    return stepped(make)


@cell("`foreach` optimizers")
def foreach() -> Training:
    return stepped(lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True))


@cell("fused optimizers")
def fused() -> Training:
    return stepped(lambda p: torch.optim.AdamW(p, lr=0.01, fused=True))


@cell("an optimizer that `watch` was not told of", note="it is found when it steps")
def found() -> Training:
    built = stepped(lambda p: torch.optim.SGD(p, lr=0.05))
    built.watched[0].optimizer = None
    return built


@cell(
    "no optimizer: weights changed by hand",
    note="an update is the change from step to step, from the second on",
)
def by_hand() -> Training:
    model = mlp()

    def step(i: int) -> Any:
        model.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.05 * p.grad
        return loss

    return training(model, step)


class Joint(nn.Module):
    """Generator and discriminator under one roof."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.d = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


def gan(apart: bool) -> Training:
    joint = Joint()
    g, d = joint.g, joint.d
    first = torch.optim.Adam(g.parameters(), lr=0.01)
    second = torch.optim.Adam(d.parameters(), lr=0.01)

    def step(i: int) -> Any:
        second.zero_grad()
        fake = g(torch.randn(16, 4))
        loss_d = F.softplus(-d(torch.randn(16, 8))).mean() + F.softplus(d(fake.detach())).mean()
        loss_d.backward()
        second.step()
        first.zero_grad()
        loss_g = F.softplus(-d(fake)).mean()
        loss_g.backward()
        first.step()
        return loss_d, loss_g

    if apart:
        return Training([Watched(g, first), Watched(d, second)], step)
    return Training([Watched(joint, [first, second])], step)


@cell(
    "two optimizers (GAN), a watch on each network",
    note="each watch counts steps of its own network",
)
def gan_apart() -> Training:
    return gan(True)


@cell("two optimizers (GAN), one watch on both", note="one update per step for each network")
def gan_joint() -> Training:
    return gan(False)


def averaged(kind: str) -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    options: dict[str, Any] = {}
    if kind == "ema":
        options["multi_avg_fn"] = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    copies: list[Any] = []

    def step(i: int) -> Any:
        if not copies:  # a copy of the model as it is being watched, hooks and all
            copies.append(torch.optim.swa_utils.AveragedModel(model, **options))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        copies[0].update_parameters(model)
        with torch.no_grad():
            return loss, copies[0](torch.randn(16, 8))

    return training(model, step, optimizer)


@cell("EMA copy (`AveragedModel`)", note="the copy is not watched, and adds nothing to the record")
def ema() -> Training:
    return averaged("ema")


@cell("SWA copy (`AveragedModel`)", note="likewise")
def swa() -> Training:
    return averaged("swa")
