"""Tensors inside nested arguments and outputs, by path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: Tensors of one output that are watched.
PARTS = 8
#: Classes whose values lie in memory. Of subclasses nobody knows, nor of those that pose as one.
PLAIN = (Tensor, nn.Parameter)
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


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield field.name, getattr(value, field.name, None)
