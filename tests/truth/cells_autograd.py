"""Hooks, functions and accidents of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.truth.harness import Training, cell, training

ORDER = 32


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 4))


def supervised(
    model: nn.Module | None = None,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    before: Callable[[nn.Module, int], None] = lambda model, i: None,
    **options: Any,
) -> Training:
    """Random batches; each step inside of ``around``, and after what ``before`` does."""
    model = mlp() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        before(model, i)
        optimizer.zero_grad()
        with around():
            loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
            loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer, **options)


@cell("full backward hooks", warns="Full backward hook is firing")
def backward_hooks() -> Training:
    model = mlp()
    for layer in model:
        layer.register_full_backward_hook(lambda module, given, got: None)
    return supervised(model)


def doubled(layer: str) -> Callable[[str, Any, int], Any]:
    """A gradient is what flows on into the layer, after hooks on its output."""
    return lambda key, tensor, step: tensor * 2 if key == f"{layer}:gradient" else tensor


@cell(
    "full backward hooks that change gradients",
    note="the layer before gets the changed one, and shows it",
)
def changing_backward_hooks() -> Training:
    model = mlp()
    model[2].register_full_backward_hook(lambda module, given, got: (given[0] * 2,))
    return supervised(model)


@cell("backward pre-hooks that change gradients", note="a gradient is what they hand to the layer")
def backward_pre_hooks() -> Training:
    model = mlp()
    model[2].register_full_backward_pre_hook(lambda module, got: (got[0] * 2,))
    return supervised(model, correct=doubled("2"))


class Hooked(nn.Module):
    """The gradient of a layer's output is changed by a hook on the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        x = self.a(x)
        if x.requires_grad:
            x.register_hook(lambda g: g * 2)
            x.retain_grad()
        return self.c(self.b(x))


@cell("tensor hooks that change gradients, `retain_grad`", note="likewise")
def tensor_hooks() -> Training:
    return supervised(Hooked(), correct=doubled("a"))


class Reversal(torch.autograd.Function):
    """Hands values on, and turns gradients round."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return -gradient


class Reversed(nn.Module):
    def forward(self, x: Any) -> Any:
        return Reversal.apply(x)


@cell("functions with a backward pass of their own (`torch.autograd.Function`)")
def functions() -> Training:
    return supervised(nn.Sequential(nn.Linear(8, 16), Reversed(), nn.Tanh(), nn.Linear(16, 4)))


@cell("activations kept elsewhere (`save_on_cpu`)")
def offloaded() -> Training:
    return supervised(around=torch.autograd.graph.save_on_cpu)


@cell("activations packed by hooks (`saved_tensors_hooks`)")
def packed() -> Training:
    return supervised(
        around=lambda: torch.autograd.graph.saved_tensors_hooks(
            lambda t: (t.half() if t.is_floating_point() else t, t.dtype), lambda t: t[0].to(t[1])
        )
    )


@cell("anomaly detection", warns="Anomaly Detection has been enabled")
def anomaly() -> Training:
    return supervised(around=torch.autograd.detect_anomaly)


class Partly(nn.Module):
    """A part without gradients in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        with torch.no_grad():
            fixed = self.a(x)
        return self.c(torch.tanh(fixed + self.b(x).detach().requires_grad_()))


@cell(
    "parts without gradients (`no_grad`, `detach`)",
    note="a layer whose output needs no gradient has none",
)
def detached() -> Training:
    return supervised(Partly())


class Failing(nn.Module):
    """Fails half-way when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
        self.fails = False

    def forward(self, x: Any) -> Any:
        x = torch.tanh(self.a(x))
        if self.fails:
            raise RuntimeError("out of memory")
        return self.b(x)


@cell(
    "a forward pass that fails, and is tried again",
    loose=("b:input",),
    note="what ran before it failed is seen; where that is in the first step, inputs of layers from the second",
)
def failing() -> Training:
    def before(model: Any, i: int) -> None:
        model.fails = i in (0, 3, 4)
        if model.fails:
            try:
                model(torch.randn(16, 8))
            except RuntimeError:
                model.fails = False

    return supervised(Failing(), before=before)


@cell("a backward pass that fails, and is tried again", note="both are seen, as two calls")
def failing_backward() -> Training:
    def before(model: Any, i: int) -> None:
        if i in (0, 3):
            hook = model[0].weight.register_hook(lambda gradient: 1 / 0)
            try:
                model(torch.randn(16, 8)).sum().backward()
            except ZeroDivisionError:
                hook.remove()

    return supervised(before=before)


@cell("a backward pass in another thread")
def threaded() -> Training:
    import threading

    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        optimizer.step()
        return loss

    return training(model, step, optimizer)
