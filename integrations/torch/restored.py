"""Restored: run a model, train it even, and put everything back, down to the last bit."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from shiftwatch.integrations.torch.hooks import Hook
from shiftwatch.integrations.torch.nested import tensors


@contextmanager
def restored(*roots: nn.Module) -> Iterator[None]:
    """Put modules and random generators back as they were, whatever happens inside.

    Restored are parameters, gradients, buffers, all other attributes of the modules (lists, dicts
    and sets one level deep), their modes and hooks, and the generators of Python, NumPy and PyTorch
    on all devices in use. Inside, a monitor's hooks on these modules are off.

    Cost: a copy of all parameters and buffers, for as long as it lasts.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with restored(norm):
        ...     _ = norm(torch.randn(8, 2))
        >>> norm.running_mean.tolist(), int(norm.num_batches_tracked)
        ([0.0, 0.0], 0)
    """
    modules = list(dict.fromkeys(m for root in roots for m in root.modules()))
    states = [(m, dict(m.__dict__), _inside(m.__dict__)) for m in modules]
    kept: dict[int, tuple[Tensor, Tensor, Tensor | None, bool]] = {}
    for tensor in _held(modules):
        if id(tensor) not in kept:
            value, gradient = tensor.detach().clone(), tensor.grad if tensor.is_leaf else None
            kept[id(tensor)] = tensor, value, gradient, tensor.requires_grad
    gradients = {id(g): (g, g.detach().clone()) for _, _, g, _ in kept.values() if g is not None}
    generators = _generators()
    everywhere = _quiet(modules)
    try:
        yield
    finally:
        for module, state, inner in states:
            _restore(module.__dict__, state, inner)
        for table, hooks in everywhere:
            table.clear()
            table.update(hooks)
        for tensor, value, gradient, asks in kept.values():
            _write(tensor, value)
            if tensor.is_leaf:
                if tensor.requires_grad != asks:
                    tensor.requires_grad_(asks)
                if tensor.grad is not gradient:
                    tensor.grad = gradient
        for gradient, value in gradients.values():
            _write(gradient, value)
        _seed(generators)


def copied(value: Any, known: dict[int, Any] | None = None) -> Any:
    """A batch with tensors and containers of its own, so that a forward may write into it.

    Example:
        >>> batch = {"x": torch.ones(2), "meta": ["a", torch.ones(1)]}
        >>> other = copied(batch)
        >>> other["x"].add_(1), batch["x"]
        (tensor([2., 2.]), tensor([1., 1.]))
    """
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)]
    result: Any = value
    if isinstance(value, Tensor):
        result = value.detach().clone().requires_grad_(value.requires_grad)
    elif isinstance(value, np.ndarray):
        result = value.copy()
    elif isinstance(value, Mapping):
        result = {} if type(value) is dict else copy.copy(value)
        for key in list(value):
            result[key] = copied(value[key], known)
    elif isinstance(value, list):
        result = [copied(v, known) for v in value]
    elif isinstance(value, tuple):
        inner = [copied(v, known) for v in value]
        result = tuple(inner) if type(value) is tuple else type(value)(*inner)
    elif is_dataclass(value) and not isinstance(value, type):
        result = copy.copy(value)
        for field in fields(value):
            object.__setattr__(result, field.name, copied(getattr(value, field.name), known))
    elif hasattr(value, "clone") and callable(value.clone):  # a graph's batch, for example
        result = value.clone()
    known[id(value)] = result
    return result


def _held(modules: list[nn.Module]) -> Iterator[Tensor]:
    """Every tensor that a module holds: parameters, buffers, and plain attributes."""
    for module in modules:
        for own in (*module._parameters.values(), *module._buffers.values()):
            if own is not None:
                yield own
        others = {k: v for k, v in module.__dict__.items() if k not in _TABLES}
        yield from (t for _, t in tensors(others))


#: Tables of a module that hold its parts; their contents are followed elsewhere.
_TABLES = frozenset({"_parameters", "_buffers", "_modules"})


def _inside(state: dict[str, Any]) -> dict[str, Any]:
    """What lies in lists, dicts, sets and generators among the attributes."""
    found: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, (list, dict, set)):
            found[name] = copy.copy(value)
        elif isinstance(value, torch.Generator):
            found[name] = value.get_state()
        elif isinstance(value, np.random.Generator):
            found[name] = value.bit_generator.state
        elif isinstance(value, random.Random):
            found[name] = value.getstate()
    return found


def _restore(now: dict[str, Any], state: dict[str, Any], inner: dict[str, Any]) -> None:
    for name in [n for n in now if n not in state]:
        del now[name]
    now.update(state)
    for name, kept in inner.items():
        value = now[name]
        if isinstance(value, list):
            value[:] = kept
        elif isinstance(value, (dict, set)):
            value.clear()
            value.update(kept)
        elif isinstance(value, torch.Generator):
            value.set_state(kept)
        elif isinstance(value, np.random.Generator):
            value.bit_generator.state = kept
        else:
            value.setstate(kept)


def _write(tensor: Tensor, value: Tensor) -> None:
    """The old bits, unless they are still there: writing would tell observers of a change."""
    data = tensor.data
    if data.shape != value.shape or data.dtype != value.dtype or data.device != value.device:
        tensor.data = value
    elif not _same(data, value):
        data.copy_(value)


def _same(one: Tensor, other: Tensor) -> bool:
    try:
        return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
    except RuntimeError:  # types without bytes: quantised, sparse
        return False


def _quiet(modules: list[nn.Module]) -> list[tuple[Any, Any]]:
    """Take a monitor's hooks off; those on modules come back with the modules' tables."""
    for module in modules:
        for table in (module._forward_hooks, module._forward_pre_hooks):
            for key in [k for k, hook in table.items() if isinstance(hook, Hook)]:
                del table[key]
        module.__dict__["_compiled_call_impl"] = None  # hooks are no part of compiled code
    everywhere = []
    for name in ("_global_forward_hooks", "_global_forward_pre_hooks"):
        table = getattr(torch_module, name)
        everywhere.append((table, dict(table)))
        for key in [k for k, hook in table.items() if isinstance(hook, Hook)]:
            del table[key]
    return everywhere


def _devices() -> list[Any]:
    found = []
    for name in ("cuda", "xpu"):
        module = getattr(torch, name, None)
        if module is not None and module.is_available() and module.is_initialized():
            found.append(module)
    return found


def _generators() -> tuple[Any, ...]:
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    return (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002  the user's, not ours
        torch.get_rng_state(),
        [(device, device.get_rng_state_all()) for device in _devices()],
        mps,
    )


def _seed(generators: tuple[Any, ...]) -> None:
    python, numpy, cpu, devices, mps = generators
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(cpu)
    for device, states in devices:
        device.set_rng_state_all(states)
    if mps is not None:
        torch.mps.set_rng_state(mps)
