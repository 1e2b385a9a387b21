"""Optimizers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.truth.harness import Training, cell, training

ORDER = 35


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)
    )


def batch() -> tuple[Any, Any]:
    return torch.randn(16, 8), torch.randint(4, (16,))


def learn(model: nn.Module, optimizer: Any) -> Any:
    """An ordinary step on a new batch; its loss."""
    optimizer.zero_grad()
    x, y = batch()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def simple(make: Any, told: bool = True, model: Any = None) -> Training:
    model = model or mlp()
    optimizer = make(model.parameters())

    def step(i: int) -> Any:
        return learn(model, optimizer)

    return training(model, step, optimizer if told else None)


def closure(make: Any, ahead: bool = False) -> Training:
    """An optimizer that calls for passes itself; ``ahead``: it wants a first one made before."""
    model = mlp()
    optimizer = make(model.parameters())

    def step(i: int) -> Any:
        x, y = batch()

        def again() -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if ahead:
            again()
        return optimizer.step(again)

    return training(model, step, optimizer)


@cell("L-BFGS", note="up to four of the passes in a step, a fair choice; one update per step")
def lbfgs() -> Training:
    return closure(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=6, history_size=4))


@cell("a closure for `optimizer.step`")
def closed() -> Training:
    return closure(lambda p: torch.optim.SGD(p, lr=0.05))


class Sam(torch.optim.Optimizer):
    """Sharpness-aware minimisation: up the slope, and from there a step of the inner optimizer."""

    def __init__(self, params: Any, rho: float = 0.05) -> None:
        super().__init__(params, {"rho": rho, "lr": 0.05})
        self.inner = torch.optim.SGD(self.param_groups, lr=0.05)

    @torch.no_grad()
    def climb(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.clone()
                p += group["rho"] * p.grad / (p.grad.norm() + 1e-12)

    @torch.no_grad()
    def step(self, again: Any = None) -> Any:
        self.climb()
        with torch.enable_grad():
            loss = again()
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old"])
        self.inner.step()
        return loss


@cell(
    "SAM, in one `step`",
    note="both passes are seen; the update is what `step` changed in all",
)
def sam() -> Training:
    return closure(Sam, ahead=True)


@cell(
    "SAM, in two halves",
    note="both passes are seen; the update is from the weights that the optimizer finds",
)
def sam_halves() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        x, y = batch()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            old = [p.clone() for p in model.parameters()]
            for p in model.parameters():
                p += 0.05 * p.grad / (p.grad.norm() + 1e-12)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for p, before in zip(model.parameters(), old, strict=True):
                p.copy_(before)
        optimizer.step()
        return loss

    return training(model, step, optimizer)


class Lookahead:
    """Every third step the weights go half the way back; not an optimizer of torch's."""

    def __init__(self, inner: Any) -> None:
        self.optimizer, self.count = inner, 0
        self.held = [p for g in inner.param_groups for p in g["params"]]
        self.slow = [p.detach().clone() for p in self.held]

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        self.optimizer.step()
        self.count += 1
        if self.count % 3 == 0:
            for p, slow in zip(self.held, self.slow, strict=True):
                slow += 0.5 * (p - slow)
                p.copy_(slow)


@cell("Lookahead", note="the way back is part of the update of its step")
def lookahead() -> Training:
    return simple(lambda p: Lookahead(torch.optim.SGD(p, lr=0.05)))


class Own:
    """Not an optimizer of torch's at all."""

    def __init__(self, params: Any) -> None:
        self.held = list(params)

    def zero_grad(self) -> None:
        for p in self.held:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for p in self.held:
            p -= 0.05 * p.grad.sign()


@cell(
    "an optimizer that is none of torch's",
    note="an update is the change from step to step, from the second on",
)
def own() -> Training:
    return simple(Own, told=False)


def in_backward(overlap: bool) -> Training:
    model = mlp()
    held = {p: torch.optim.SGD([p], lr=0.05, foreach=False) for p in model.parameters()}

    def hook(p: Any) -> None:
        held[p].step()
        held[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(hook)

    def step(i: int) -> Any:
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return training(model, step, list(held.values()) if overlap else None)


@cell(
    "the optimizer in the backward pass (`register_post_accumulate_grad_hook`)",
    note="one update per step, of all parameters",
)
def backward_told() -> Training:
    return in_backward(True)


@cell("the same, without telling `watch`", note="likewise")
def backward_found() -> Training:
    return in_backward(False)


@cell("steps that skip the optimizer", note="a step without it has no update")
def skipping() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if i % 2:
            optimizer.step()
        return loss

    return training(model, step, optimizer)


@cell("two optimizer steps per step", note="both passes are seen; one update, of both")
def twice() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        for _ in range(2):
            loss = learn(model, optimizer)
        return loss

    return training(model, step, optimizer)


@cell("another optimizer on the way", note="found when it steps")
def switched() -> Training:
    model = mlp()
    first, second = (
        torch.optim.SGD(model.parameters(), lr=0.05),
        torch.optim.AdamW(model.parameters(), lr=0.01),
    )

    def step(i: int) -> Any:
        return learn(model, first if i < 4 else second)

    return training(model, step, first)


@cell("EMA weights swapped in for evaluation", note="weights are read at the end of the step")
def ema_swapped() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    slow = [p.detach().clone() for p in model.parameters()]

    def swap() -> None:
        for p, s in zip(model.parameters(), slow, strict=True):
            p.data, s.data = s.data, p.data

    def step(i: int) -> Any:
        loss = learn(model, optimizer)
        with torch.no_grad():
            for p, s in zip(model.parameters(), slow, strict=True):
                s.lerp_(p, 0.1)
        model.eval()
        swap()
        with torch.no_grad():
            out = model(torch.randn(16, 8))
        swap()
        model.train()
        return loss, out

    return training(model, step, optimizer)
