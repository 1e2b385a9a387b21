"""Tensors inside nested arguments and outputs: by path, and copied."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Tensors of one output that are watched.
PARTS = 8
#: Classes whose values lie in memory. Of subclasses nobody knows, nor of those that pose as one.
PLAIN = (Tensor, nn.Parameter)
#: Types of ids: those that tables of embeddings take.
WHOLE = (torch.int64, torch.int32)
_DEEP = 4


def tensors(value: Any, path: str = "", depth: int = _DEEP) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in tuples, lists, mappings and dataclasses, with its path.

    Example:
        >>> import torch
        >>> [path for path, _ in tensors((torch.ones(1), {"h": [torch.ones(1)]}, 3))]
        ['0', '1.h.0']
    """
    if isinstance(value, Tensor):
        yield path, value
    elif depth:
        for key, inner in _items(value):
            yield from tensors(inner, f"{path}.{key}" if path else str(key), depth - 1)


def floating(value: Any) -> list[tuple[str, Tensor]]:
    """The first :data:`PARTS` floating tensors; the first is called ``""``.

    Example:
        >>> import torch
        >>> [path for path, _ in floating((torch.ones(1, dtype=int), torch.ones(1), torch.ones(1)))]
        ['', '2']
    """
    found: list[tuple[str, Tensor]] = []
    for path, tensor in tensors(value):
        if tensor.is_floating_point():
            found.append((path if found else "", tensor))
            if len(found) == PARTS:
                break
    return found


def ids(given: Sequence[tuple[str, Tensor]]) -> Tensor | None:
    """The token ids that a model is given, and nothing but such: whole numbers, the sample first.

    Args:
        given: all tensors, by path.

    Returns:
        Those called ``input_ids``; else the first of two or more axes; else the only ones. ``None``
        where there are none, or where real numbers come too: these tell more. Masks are no ids.

    Example:
        >>> import torch
        >>> tokens, lengths = torch.zeros(2, 8, dtype=int), torch.ones(2, dtype=int)
        >>> ids([("lengths", lengths), ("tokens", tokens)]) is tokens
        True
        >>> ids([("user", lengths), ("item", lengths)]), ids([("0", tokens), ("1", torch.ones(2))])
        (None, None)
    """
    found: list[Tensor] = []
    named: Tensor | None = None
    for path, tensor in given:
        if tensor.is_floating_point() or tensor.is_complex():
            return None
        if tensor.dtype in WHOLE and tensor.__class__ in PLAIN and tensor.dim():
            if path.rpartition(".")[2] == "input_ids":
                named = tensor
            elif "mask" not in path:
                found.append(tensor)
    if named is not None or not found:
        return named
    several = next((t for t in found if t.dim() > 1), None)
    return found[0] if several is None and len(found) == 1 else several


def plain(tensor: Tensor) -> Tensor:
    """The tensor that holds the values of another one.

    Of one inside of a function transform (``grad``, ``vmap``, …) what is transformed, all of it;
    of a jagged one its rows, one after the other; of an own class without dispatch the tensor itself.

    Example:
        >>> import torch
        >>> seen = []
        >>> _ = torch.vmap(lambda x: seen.append(plain(x)) or x)(torch.ones(3, 2))
        >>> seen[0].shape
        torch.Size([3, 2])
    """
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    if tensor.layout is torch.jagged:
        tensor = getattr(tensor, "_values", tensor)
    kind = type(tensor)
    if kind in PLAIN or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return tensor
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        return tensor.detach().as_subclass(Tensor)


def copied(
    value: Any, device: torch.device | None = None, known: dict[int, Any] | None = None
) -> Any:
    """A batch with tensors, arrays and containers of its own, so that a forward may write into it.

    Args:
        value: nested in any way; what is met twice is one object in the copy, too.
        device: where tensors go; ``None`` for where they are.
        known: copies that were made already, by ``id``.

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
        here = value.detach()
        result = here.clone() if device is None else here.to(device, copy=True)
        result.requires_grad_(value.requires_grad)
    elif isinstance(value, np.ndarray):
        result = value.copy()
    elif isinstance(value, Mapping):
        result = {} if type(value) is dict else copy.copy(value)
        for key in list(value):
            result[key] = copied(value[key], device, known)
    elif isinstance(value, list):
        result = [copied(v, device, known) for v in value]
    elif isinstance(value, tuple):
        inner = [copied(v, device, known) for v in value]
        result = type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    elif is_dataclass(value) and not isinstance(value, type):
        result = copy.copy(value)
        for field in fields(value):
            own = copied(getattr(value, field.name), device, known)
            object.__setattr__(result, field.name, own)
    elif hasattr(value, "clone") and callable(value.clone):  # a graph's batch, for example
        result = value.clone()
    known[id(value)] = result
    return result


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield field.name, getattr(value, field.name, None)
