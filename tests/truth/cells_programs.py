"""Exported programs, scripts and function transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, jvp, vjp, vmap

from tests.truth.harness import PARTLY, SAID, Training, cell, training

ORDER = 27


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 4)
    )


def with_aside(aside: Callable[[nn.Module], Any], model: nn.Module | None = None) -> Training:
    """At the third and sixth step something is done with the model; its result is compared."""
    model = model or mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        return (loss, aside(model)) if i in (2, 5) else loss

    return training(model, step, optimizer)


def _exported(strict: bool) -> Callable[[nn.Module], Any]:
    def aside(model: nn.Module) -> Any:
        x = torch.ones(16, 8)
        program = torch.export.export(model, (x,), strict=strict)
        assert "shiftwatch" not in str(program.graph)
        return program.module()(x)

    return aside


@cell("`torch.export`", note="holds nothing of shiftwatch, and leaves no trace in the record")
def exported() -> Training:
    return with_aside(_exported(False))


@cell("`torch.export(strict=True)`", note="likewise")
def exported_strictly() -> Training:
    return with_aside(_exported(True))


def _traced(model: nn.Module) -> Any:
    x = torch.ones(16, 8)
    program = torch.jit.trace(model, x, check_trace=False)
    assert "shiftwatch" not in str(program.inlined_graph)
    return program(x)


@cell("`torch.jit.trace`", warns="`torch.jit.trace(_method)?` is deprecated", note="likewise")
def traced() -> Training:
    return with_aside(_traced)


def _scripted(model: nn.Module) -> None:
    try:
        torch.jit.script(model)(torch.ones(16, 8))
    except AttributeError as error:  # what TorchScript says to any hook, in clear words
        assert "before watch(), or after close()" in str(error)


@cell(
    "`torch.jit.script`",
    note="TorchScript takes no model with hooks, and says what to do: script it before `watch` or after "
    "`close`. The training goes on",
)
def scripted() -> Training:
    return with_aside(_scripted)


@cell("`torch.fx.symbolic_trace`", note="likewise")
def fx() -> Training:
    def aside(model: nn.Module) -> None:
        assert "shiftwatch" not in torch.fx.symbolic_trace(model).code

    return with_aside(aside)


@cell("training an fx graph module")
def fx_trained() -> Training:
    return with_aside(lambda m: m(torch.ones(16, 8)), torch.fx.symbolic_trace(mlp()))


SCRIPT = "its parent computes without calling it"
UNHEARD = tuple(f"{layer}:{tensor}" for layer in "024" for tensor in ("output", "gradient"))


def unoptimised(built: Training) -> Training:
    """Run as it was written: the optimiser of TorchScript changes bits from one call to the next."""
    step = built.step

    def plainly(i: int) -> Any:
        with torch.jit.optimized_execution(False):
            return step(i)

    built.step = plainly
    return built


@cell(
    "a scripted model",
    outputs=PARTLY,
    gradients=PARTLY,
    unheard=UNHEARD,
    dark={"RecursiveScriptModule.*": SCRIPT},
    note="TorchScript runs no hooks: seen are the result, its gradient, the parameters",
    warns="`torch.jit.script(_method)?` is deprecated",
)
def script_trained() -> Training:
    return unoptimised(with_aside(lambda m: None, torch.jit.script(mlp())))


class Partly(nn.Module):
    """A layer, a program, a layer."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(8, 16), program, nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.inner(self.stem(x)))


INNER = ("inner.0:output", "inner.0:gradient", "inner.1:output", "inner.1:gradient")


@cell(
    "a scripted part of a model",
    outputs=PARTLY,
    gradients=PARTLY,
    unheard=INNER,
    dark={"inner.*": SCRIPT},
    note="likewise; it counts as one layer",
    warns="`torch.jit.script(_method)?` is deprecated",
)
def script_part() -> Training:
    inner = nn.Sequential(nn.Linear(16, 16), nn.Tanh())
    return unoptimised(with_aside(lambda m: None, Partly(torch.jit.script(inner))))


@cell(
    "a traced part of a model",
    outputs=PARTLY,
    gradients=PARTLY,
    unheard=INNER,
    dark={"inner.*": SCRIPT},
    note="likewise",
    warns="`torch.jit.trace(_method)?` is deprecated",
)
def trace_part() -> Training:
    inner = nn.Sequential(nn.Linear(16, 16), nn.Tanh())
    return unoptimised(
        with_aside(lambda m: None, Partly(torch.jit.trace(inner, torch.ones(16, 16))))
    )


NEVER = "it was not called in the first 3 steps"


@cell(
    "training an exported program",
    outputs=SAID,
    gradients=SAID,
    unheard=UNHEARD,
    dark={**dict.fromkeys("024", NEVER), "_guards_fn": "its output holds no floating tensor"},
    note="its layers hold parameters and are not called; the model's input is seen",
)
def export_trained() -> Training:
    return with_aside(lambda m: None, torch.export.export(mlp(), (torch.ones(16, 8),)).module())


def functional(loss_of: Callable[[nn.Module, Any, Any, Any], Any]) -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x, y = torch.randn(16, 8), torch.randint(4, (16,))
        held = dict(model.named_parameters())
        loss, gradients = loss_of(model, held, x, y)
        for name, p in held.items():
            p.grad = gradients[name].detach()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


@cell("`functional_call` with the model's own parameters")
def called() -> Training:
    def loss_of(model: Any, held: Any, x: Any, y: Any) -> Any:
        loss = F.cross_entropy(functional_call(model, held, (x,)), y)
        return loss, dict(zip(held, torch.autograd.grad(loss, list(held.values())), strict=True))

    return functional(loss_of)


@cell(
    "`functional_call` with fast weights (MAML)",
    note="inner and outer passes are seen, as two calls; the weights are the model's own",
)
def maml() -> Training:
    def loss_of(model: Any, held: Any, x: Any, y: Any) -> Any:
        inner = F.cross_entropy(functional_call(model, held, (x,)), y)
        slopes = torch.autograd.grad(inner, list(held.values()), create_graph=True)
        fast = {n: p - 0.1 * g for (n, p), g in zip(held.items(), slopes, strict=True)}
        loss = F.cross_entropy(functional_call(model, fast, (x,)), y)
        return loss, dict(zip(held, torch.autograd.grad(loss, list(held.values())), strict=True))

    return functional(loss_of)


@cell("`torch.func.grad`", note="values inside of a transform are seen, and their gradients")
def transformed() -> Training:
    def loss_of(model: Any, held: Any, x: Any, y: Any) -> Any:
        def of(p: Any) -> Any:
            return F.cross_entropy(functional_call(model, p, (x,)), y)

        return of(held).detach(), grad(of)(held)

    return functional(loss_of)


@cell("`torch.func.grad` alone", note="likewise, where nothing runs outside of it")
def transformed_only() -> Training:
    def loss_of(model: Any, held: Any, x: Any, y: Any) -> Any:
        def of(p: Any) -> Any:
            return F.cross_entropy(functional_call(model, p, (x,)), y)

        return x.sum(), grad(of)(held)

    return functional(loss_of)


@cell(
    "per-sample gradients (`vmap(grad)`)",
    note="the whole batch is seen, as without `vmap`",
)
def per_sample() -> Training:
    def loss_of(model: Any, held: Any, x: Any, y: Any) -> Any:
        def of(p: Any, x: Any, y: Any) -> Any:
            return F.cross_entropy(functional_call(model, p, (x[None],)), y[None])

        each = vmap(grad(of), (None, 0, 0))({n: p.detach() for n, p in held.items()}, x, y)
        return model(x).mean(), {n: g.mean(0) for n, g in each.items()}

    return functional(loss_of)


@cell("forward-mode derivatives (`jvp`)", note="values, not tangents")
def forward_mode() -> Training:
    return with_aside(lambda m: jvp(m, (torch.ones(16, 8),), (torch.ones(16, 8),)))


@cell("forward-mode derivatives (`torch.autograd.forward_ad`)", note="likewise")
def dual() -> Training:
    def aside(model: nn.Module) -> Any:
        with torch.autograd.forward_ad.dual_level():
            x = torch.autograd.forward_ad.make_dual(torch.ones(16, 8), torch.ones(16, 8))
            return tuple(torch.autograd.forward_ad.unpack_dual(model(x)))

    return with_aside(aside)


@cell("`vmap` over the model", note="all of what is mapped over, as one call")
def mapped() -> Training:
    return with_aside(lambda m: vmap(m, randomness="same")(torch.ones(3, 16, 8)))


@cell("`vjp` and `jacrev`", note="each pull-back is a call")
def reverse() -> Training:
    def aside(m: nn.Module) -> Any:
        out, pull = vjp(m, torch.ones(16, 8))
        return out, pull(torch.ones_like(out)), torch.func.jacrev(m)(torch.ones(2, 8))

    return with_aside(aside)


@cell(
    "an ensemble (`stack_module_state`), a watch on the skeleton",
    note="the members' outputs together. The stacked weights are the user's own tensors: those of the "
    "skeleton are what is seen, and stay as they are",
)
def ensemble() -> Training:
    models = [mlp() for _ in range(3)]
    bare = mlp()
    params, buffers = torch.func.stack_module_state(models)
    optimizer = torch.optim.SGD(params.values(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        x = torch.randn(16, 8)
        out = vmap(lambda p, b: functional_call(bare, (p, b), (x,)))(params, buffers)
        loss = F.cross_entropy(out.flatten(0, 1), torch.randint(4, (48,)))
        loss.backward()
        optimizer.step()
        return loss

    return training(bare, step, optimizer)
