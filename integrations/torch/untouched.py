"""A pass through the user's model that leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch import modules

#: Random numbers of such passes: the same in each, so that dropout drops the same.
SEED = 0


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Within it, forward passes change nothing that outlives it, and no monitor sees them.

    Buffers are copies, so the model's own keep their bits, identity and version; attributes that
    modules set are set back; random numbers of torch, NumPy and Python start at
    :data:`SEED` and are put back; compiled code runs as plain Python. What is not undone: a
    list that is written into, what is global to the user's code, and the user's own hooks, which run.

    Raises:
        TypeError: for TorchScript and lazy modules that have not been called.

    Cost: a copy of each buffer.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with untouched(norm):
        ...     _ = norm(torch.ones(4, 2))
        >>> int(norm.num_batches_tracked), norm.running_mean.tolist()
        (0, [0.0, 0.0])
    """
    parts = list(model.modules())
    for part in parts:
        if modules.scripted(part):
            raise TypeError("a pass through TorchScript cannot be undone; use the Python module")
        tensors = (*part._parameters.values(), *part._buffers.values())
        if any(t is not None and nn.parameter.is_lazy(t) for t in tensors):
            raise TypeError("the model has lazy parameters; call it once before")
    tables = [
        table
        for part in parts
        for table in (part._parameters, part._buffers, part._modules, part.__dict__)
    ]
    held = [(table, dict(table)) for table in tables]
    copies: dict[int, Tensor] = {}
    with ExitStack() as stack:
        stack.enter_context(_blind())
        stack.enter_context(_same_random(devices(model)))
        if modules.compiled(model):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # casts made here know no gradient
        try:
            for part in parts:
                for key, buffer in part._buffers.items():
                    if buffer is not None:
                        part._buffers[key] = copies.setdefault(id(buffer), buffer.detach().clone())
            yield
        finally:
            torch.set_autocast_cache_enabled(cached)
            for table, before in held:
                for key in [k for k in table if k not in before]:
                    del table[key]
                table.update(before)


def devices(model: nn.Module) -> list[torch.device]:
    """Where a model's tensors lie, the CPU left out."""
    held = [*model.parameters(), *model.buffers()]
    return list(dict.fromkeys(t.device for t in held if t.device.type not in ("cpu", "meta")))


def call(model: nn.Module, batch: Any) -> Any:
    """The model on a batch: one tensor, several in a tuple or list, or by name in a mapping.

    It gets copies on its own device, for it may write into its input.
    """
    first = next(iter((*model.parameters(), *model.buffers())), None)
    given = copied(batch, None if first is None else first.device)
    if isinstance(given, Mapping):
        return model(**given)
    return model(*given) if isinstance(given, (tuple, list)) else model(given)


def copied(value: Any, device: torch.device | None = None) -> Any:
    """A nested value with its tensors copied."""
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    if isinstance(value, Mapping):
        return {key: copied(inner, device) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        inner = [copied(v, device) for v in value]
        return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    return value


@contextmanager
def _blind() -> Iterator[None]:
    """No monitor samples what runs within it."""
    from shiftwatch.integrations.torch.source import Steps  # which probes by this module

    sources = [(source, source.armed) for source in Steps._told]
    for source, _ in sources:
        source.armed = False
    try:
        yield
    finally:
        for source, armed in sources:
            source.armed = armed


@contextmanager
def _same_random(there: list[torch.device]) -> Iterator[None]:
    """Random numbers from :data:`SEED` on, those of the user afterwards."""
    python, here = random.getstate(), torch.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002 - the user's
    apis = [(getattr(torch, d.type), d) for d in there]
    states = [api.get_rng_state(*_index(d)) for api, d in apis]
    try:
        random.seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002
        torch.default_generator.manual_seed(SEED)
        for api, device in apis:
            with getattr(api, "device", _nowhere)(device):
                api.manual_seed(SEED)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(here)
        for (api, device), state in zip(apis, states, strict=True):
            api.set_rng_state(state, *_index(device))


def _index(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)


@contextmanager
def _nowhere(device: torch.device) -> Iterator[None]:
    yield
