"""Passes through the user's model that leave no trace, down to the last bit."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.nested import copied, tensors
from shiftwatch.integrations.torch.steps import Steps

#: Random numbers of such passes: the same in each, so that dropout drops the same.
SEED = 0


@contextmanager
def untouched(*roots: nn.Module, weights: bool = False, seed: int | None = SEED) -> Iterator[None]:
    """Within it, passes change nothing that outlives it, and no monitor sees them.

    Put back, whatever happens inside, are all attributes of the modules (lists, dicts, sets and
    generators one level deep), their modes and hooks, and the random generators of Python, NumPy
    and torch on all devices in use. Compiled code runs as plain Python. What is not undone is what
    is global to the user's code, and the user's own hooks run.

    Args:
        roots: the modules that take part.
        weights: whether parameters, gradients and what else the modules hold may be written into:
            their bits are put back. Otherwise buffers are copies within it, so that the model's own
            keep their bits, identity and version, and parameters must not be written into.
        seed: where random numbers begin within it; ``None`` for where they are.

    Raises:
        TypeError: without ``weights``, for TorchScript and lazy modules that have not been called.

    Cost: a copy of each buffer; with ``weights`` of every tensor held, as long as it lasts.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with untouched(norm):
        ...     _ = norm(torch.ones(4, 2))
        >>> with untouched(norm, weights=True):
        ...     _ = norm.weight.data.fill_(3.0)
        >>> int(norm.num_batches_tracked), norm.running_mean.tolist(), norm.weight.tolist()
        (0, [0.0, 0.0], [1.0, 1.0])
    """
    parts = list(dict.fromkeys(m for root in roots for m in root.modules()))
    with ExitStack() as stack:
        stack.enter_context(_blind())
        stack.enter_context(_random(parts, seed))
        stack.enter_context(_attributes(parts))
        stack.enter_context(_eager(roots, parts))
        if weights:
            stack.enter_context(_values(parts))
        else:
            _replace_buffers(parts)
        yield


def call(model: nn.Module, batch: Any) -> Any:
    """The model on a batch: one tensor, several in a tuple or list, or by name in a mapping.

    It gets copies on its own device, for it may write into its input.
    """
    first = next(iter((*model.parameters(), *model.buffers())), None)
    given = copied(batch, None if first is None else first.device)
    if isinstance(given, Mapping):
        return model(**given)
    return model(*given) if isinstance(given, (tuple, list)) else model(given)


#: Generators that a module may hold as an attribute.
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def generators(model: nn.Module) -> list[Any]:
    """The generators that its modules hold, each once; :func:`untouched` puts them back.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> model[1].dice = torch.Generator()
        >>> generators(model) == [model[1].dice]
        True
    """
    held = (v for part in model.modules() for v in part.__dict__.values())
    return list({id(v): v for v in held if isinstance(v, _GENERATORS)}.values())


@contextmanager
def _blind() -> Iterator[None]:
    """No monitor samples what runs within it."""
    sources = [(source, source.armed) for source in Steps.told()]
    for source, _ in sources:
        source.armed = False
    try:
        yield
    finally:
        for source, armed in sources:
            source.armed = armed


@contextmanager
def _random(parts: Sequence[nn.Module], seed: int | None) -> Iterator[None]:
    """Random numbers from a seed on, or where they are; those of the user afterwards."""
    python, here = random.getstate(), torch.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002  the user's, not ours
    apis = [getattr(torch, kind) for kind in _kinds(parts)]
    states = [getattr(a, "get_rng_state_all", a.get_rng_state)() for a in apis]
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            for a in apis:
                getattr(a, "manual_seed_all", a.manual_seed)(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(here)
        for a, state in zip(apis, states, strict=True):
            getattr(a, "set_rng_state_all", a.set_rng_state)(state)


def _kinds(parts: Sequence[nn.Module]) -> list[str]:
    """The kinds of devices in use, the CPU left out."""
    held = [t for p in parts for t in (*p._parameters.values(), *p._buffers.values())]
    kinds = dict.fromkeys(t.device.type for t in held if t is not None)
    kinds |= dict.fromkeys(k for k in ("cuda", "xpu") if _begun(getattr(torch, k, None)))
    return [k for k in kinds if k not in ("cpu", "meta")]


def _begun(api: Any) -> bool:
    return api is not None and api.is_available() and api.is_initialized()


@contextmanager
def _eager(roots: Sequence[nn.Module], parts: Sequence[nn.Module]) -> Iterator[None]:
    """Compiled parts run as plain Python: hooks are no part of code compiled before."""
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # casts made here know no gradient, or other weights
    try:
        with ExitStack() as stack:
            if "torch._dynamo" in sys.modules or any(map(modules.compiled, roots)):
                stance = getattr(torch.compiler, "set_stance", None)  # from PyTorch 2.6 on
                if stance is not None:
                    stack.enter_context(stance("force_eager"))
                for part in parts if stance is None else ():
                    part.__dict__["_compiled_call_impl"] = (
                        None  # who keeps the attributes puts it back
                    )
            yield
    finally:
        torch.set_autocast_cache_enabled(cached)


@contextmanager
def _attributes(parts: Sequence[nn.Module]) -> Iterator[None]:
    """What modules hold by name is put back; where nothing has changed nothing is written."""
    kept = [(p.__dict__, dict(p.__dict__), _inside(p.__dict__)) for p in parts]
    try:
        yield
    finally:
        for own, before, inner in kept:
            _put_back(own, before)
            for value, content in inner:
                if value or content:  # most are empty tables of hooks
                    _put_back(value, content)


def _inside(own: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Lists, dicts, sets and generators among attributes, and what is in them."""
    found: list[tuple[Any, Any]] = []
    for value in own.values():
        if isinstance(value, dict):
            found.append((value, dict(value)))
        elif isinstance(value, (list, set)):
            found.append((value, list(value)))
        elif isinstance(value, torch.Generator):
            found.append((value, value.get_state()))
        elif isinstance(value, np.random.Generator):
            found.append((value, value.bit_generator.state))
        elif isinstance(value, np.random.RandomState):
            found.append((value, value.get_state()))
        elif isinstance(value, random.Random):
            found.append((value, value.getstate()))
    return found


def _put_back(now: Any, before: Any) -> None:
    """Give a container or a generator the content that it had."""
    if isinstance(now, dict):
        for key in [k for k in now if k not in before]:
            del now[key]
        if [*map(id, now)] != [*map(id, before)]:  # some went, or changed places
            now.clear()
        for key, value in before.items():
            if now.get(key, now) is not value:
                now[key] = value
    elif isinstance(now, list):
        now[:] = before
    elif isinstance(now, set):
        now.clear()
        now.update(before)
    elif isinstance(now, torch.Generator):
        now.set_state(before)
    elif isinstance(now, np.random.Generator):
        now.bit_generator.state = before
    elif isinstance(now, np.random.RandomState):
        now.set_state(before)
    else:
        now.setstate(before)


def _replace_buffers(parts: Sequence[nn.Module]) -> None:
    """Copies take the place of buffers; who keeps the attributes puts them back."""
    for part in parts:
        if modules.scripted(part):
            raise TypeError("a pass through TorchScript cannot be undone; use the Python module")
        held = (*part._parameters.values(), *part._buffers.values())
        if any(t is not None and nn.parameter.is_lazy(t) for t in held):
            raise TypeError("the model has lazy parameters; call it once before")
    copies: dict[int, Tensor] = {}
    for part in parts:
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = copies.setdefault(id(buffer), buffer.detach().clone())


@contextmanager
def _values(parts: Sequence[nn.Module]) -> Iterator[None]:
    """The bits of all tensors that modules hold, and of their gradients, are put back."""
    kept: dict[int, tuple[Tensor, Tensor, Tensor | None, bool]] = {}
    for tensor in _held(parts):
        if id(tensor) not in kept:
            value, gradient = tensor.detach().clone(), tensor.grad if tensor.is_leaf else None
            kept[id(tensor)] = tensor, value, gradient, tensor.requires_grad
    gradients = {id(g): (g, g.detach().clone()) for _, _, g, _ in kept.values() if g is not None}
    try:
        yield
    finally:
        for tensor, value, gradient, asks in kept.values():
            _write(tensor, value)
            if tensor.is_leaf:
                if tensor.requires_grad != asks:
                    tensor.requires_grad_(asks)
                if tensor.grad is not gradient:
                    tensor.grad = gradient
        for gradient, value in gradients.values():
            _write(gradient, value)


def _held(parts: Sequence[nn.Module]) -> Iterator[Tensor]:
    """Every tensor that a module holds: parameters, buffers, and plain attributes."""
    for part in parts:
        for own in (*part._parameters.values(), *part._buffers.values()):
            if own is not None:
                yield own
        others = {k: v for k, v in part.__dict__.items() if k not in _TABLES}
        yield from (t for _, t in tensors(others))


#: Tables of a module that hold its parts; their contents are followed elsewhere.
_TABLES = frozenset({"_parameters", "_buffers", "_modules"})


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
