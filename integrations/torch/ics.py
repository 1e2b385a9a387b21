"""Internal covariate shift of gradients: what a layer's gradient owes to the layers before it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.nested import copied
from shiftwatch.integrations.torch.untouched import untouched


@dataclass(frozen=True)
class LayerShift:
    """Internal covariate shift of one layer's gradient.

    Args:
        layer: its name.
        size: |G|, the gradient's norm.
        shift: |G - G'|, Santurkar's measure.
        relative: |G - G'| / |G|, comparable between layers and networks; NaN where G is 0.
        cosine: of the angle between G and G', -1 to 1; NaN where either is 0.
    """

    layer: str
    size: float
    shift: float
    relative: float
    cosine: float


@dataclass(frozen=True)
class Shifts:
    """That of all layers with parameters, in execution order.

    Args:
        layers: one each. The first has none before it: its shift is 0.
        loss: of the batch.
    """

    layers: tuple[LayerShift, ...]
    loss: float

    def __str__(self) -> str:
        wide = max([5, *(len(s.layer) for s in self.layers)])
        lines = [f"{'layer':<{wide}}  {'|G|':>9}  {'|G-G′|':>9}  {'relative':>9}  {'cosine':>7}"]
        lines += [
            f"{s.layer:<{wide}}  {s.size:>9.3g}  {s.shift:>9.3g}  {s.relative:>9.3g}  {s.cosine:>7.4f}"
            for s in self.layers
        ]
        return "\n".join(lines)


def ics(
    model: nn.Module,
    loss: Callable[..., Tensor] | None,
    batch: Any,
    optimizer: Optimizer,
) -> Shifts:
    r"""Internal covariate shift as Santurkar et al. (2018) define it: definition 2.1.

    $G_i = \nabla_{W_i} L(W_1, …, W_k)$ and $G'_i = \nabla_{W_i} L(W'_1, …, W'_{i-1}, W_i, …, W_k)$, where $W'$ are the
    weights after one step of the optimizer on this batch: how much the gradient of a layer
    changes because the layers before it move. A large shift is no fault: networks with BatchNorm
    often have more of it, and learn better.

    Args:
        model: as it trains; in the mode it is in, with the same dropout in all passes.
        loss: of ``(output, *targets)``; ``None`` takes the output's own ``loss``.
        batch: ``(input, *targets)``, or a mapping of the model's arguments, without targets.
        optimizer: one that steps the model's parameters, in the state that it is in.

    Returns:
        A frozen record; ``print`` shows it as a table. A layer is a module with trainable parameters
        of its own, placed where it is first called; one that is never called is left out.

    Raises:
        TypeError, ValueError: where an argument cannot work, with the cure.

    Nothing is changed: the step is made by a copy of the optimizer on copies of the weights, and
    buffers, gradients and random numbers stay as they are, after an exception as well.

    Cost: a forward and a backward pass per layer, and a copy of the weights and of the
    optimizer's state. To be called by hand, or every some hundred steps.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> found = ics(model, nn.functional.mse_loss, (torch.ones(2, 4), torch.zeros(2, 1)), optimizer)
        >>> [(s.layer, s.shift > 0) for s in found.layers]
        [('0', False), ('2', True)]
    """
    root = modules.unwrap(model)
    given, targets = parts(batch)
    trained = {n: p for n, p in root.named_parameters() if p.requires_grad}
    _check(trained, optimizer)
    named = {id(p): n for n, p in trained.items()}
    weights = {n: p.detach().clone() for n, p in root.named_parameters()}

    def gradients(changed: Mapping[str, Tensor], wanted: Sequence[str]) -> tuple[Tensor, ...]:
        """The loss and its gradients in the wanted weights."""
        here = {n: changed.get(n, w).detach() for n, w in weights.items()}
        for name in wanted:
            here[name].requires_grad_()
        with untouched(root), torch.enable_grad():
            inner = copied(given), copied(targets)
            value = loss_of(loss, functional_call(root, here, *_arguments(inner[0])), inner[1])
            found = torch.autograd.grad(value, [here[n] for n in wanted], allow_unused=True)
        whole = [
            torch.zeros_like(here[n]) if g is None else g
            for n, g in zip(wanted, found, strict=True)
        ]
        return (value.detach(), *whole)

    order: dict[str, list[str]] = {}
    handles = [
        part.register_forward_pre_hook(_noting(order, name or type(root).__name__, own))
        for name, part in modules.walk(root)
        if (own := [named[id(p)] for p in part._parameters.values() if id(p) in named])
    ]
    names = list(trained)
    try:
        value, *whole = gradients({}, names)
    finally:
        for handle in handles:
            handle.remove()
    first = dict(zip(names, whole, strict=True))
    after = _stepped(optimizer, named, first)
    changed: dict[str, Tensor] = {}
    rows = []
    for layer, own in order.items():
        moved = gradients(changed, own)[1:] if changed else [first[n] for n in own]
        rows.append(_row(layer, [first[n] for n in own], moved))
        changed |= {n: after[n] for n in own if n in after}
    return Shifts(tuple(rows), float(value))


def _noting(order: dict[str, list[str]], name: str, own: list[str]) -> Callable[..., None]:
    """A hook that notes which layer is called first; a shared weight belongs to its first one."""

    def note(module: Any, args: Any) -> None:
        taken = {n for names in order.values() for n in names}
        if name not in order and (mine := [n for n in own if n not in taken]):
            order[name] = mine

    return note


def _stepped(
    optimizer: Optimizer, named: Mapping[int, str], gradients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights after a step that a copy of the optimizer makes on copies of them."""
    try:
        other = copy.deepcopy(optimizer)
    except Exception as error:
        raise TypeError(
            f"The optimizer must be one that copy.deepcopy can copy; {type(optimizer).__name__} is "
            f"not: {error}. Give a torch.optim optimizer."
        ) from error
    found = {}
    for group, theirs in zip(optimizer.param_groups, other.param_groups, strict=True):
        for parameter, mine in zip(group["params"], theirs["params"], strict=True):
            name = named.get(id(parameter))
            mine.grad = None if name is None else gradients[name].clone()
            if name is not None:
                found[name] = mine
    other.step()
    return {name: parameter.detach() for name, parameter in found.items()}


def _row(layer: str, before: Sequence[Tensor], after: Sequence[Tensor]) -> LayerShift:
    g, h = (torch.cat([t.reshape(-1).double() for t in part]) for part in (before, after))
    size, other, shift = float(g.norm()), float(h.norm()), float((g - h).norm())
    both = size * other
    return LayerShift(
        layer,
        size,
        shift,
        shift / size if size else math.nan,
        min(float(g @ h) / both, 1.0) if both else math.nan,
    )


def parts(batch: Any) -> tuple[Any, tuple[Any, ...]]:
    """What the model is called with, and the rest for the loss."""
    if isinstance(batch, (tuple, list)) and batch:
        return batch[0], tuple(batch[1:])
    if isinstance(batch, (Tensor, Mapping)):
        return batch, ()
    raise TypeError(
        "batch must be (input, *targets), a tensor, or a mapping of the model's arguments; got "
        f"{type(batch).__name__}."
    )


def _arguments(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(given, Mapping):
        return (), dict(given)
    return (tuple(given) if isinstance(given, (tuple, list)) else (given,)), {}


def loss_of(loss: Callable[..., Tensor] | None, output: Any, targets: tuple[Any, ...]) -> Tensor:
    """One number: what the user's loss makes of it, or the loss that the output brings."""
    value: Any
    if loss is not None:
        value = loss(output, *targets)
    else:
        value = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"The loss must be one number; got {got}. Give loss= as a function of (output, *targets) "
            "that returns a scalar tensor, or None where the output has a loss of its own."
        )
    return value.reshape(())


def _check(trained: Mapping[str, Tensor], optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__}. Give the "
            "one that steps the model, without its wrapper."
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in trained.values()):
        raise ValueError(
            "The optimizer must hold parameters of the model that require a gradient; this one holds "
            "none of them. Give the one that steps the model."
        )
