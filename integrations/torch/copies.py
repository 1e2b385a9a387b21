"""Copies of what a layer is called with, so that it can be called so again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Copies:
    """Copies of tensors: of what is the same, the same.

    Args:
        device: where those shall lie that are on the CPU; ``None`` for there.
        room: bytes that they may take; ``None`` for any.

    Attributes:
        taken: bytes that they take, or would.
    """

    def __init__(self, device: torch.device | None = None, room: int | None = None) -> None:
        self._device, self._room = device, room
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self.taken = 0

    @property
    def full(self) -> bool:
        """Whether there was more than there is room for."""
        return self._room is not None and self.taken > self._room

    def of(self, tensor: Tensor) -> Tensor:
        """That of a tensor, as it is now.

        Raises:
            MemoryError: where there is no room for it.
        """
        key = id(tensor), version(tensor)
        if key in self._known and key[1] >= 0:
            return self._known[key][1]
        self.taken += tensor.nbytes
        if self.full:
            raise MemoryError(f"{(self._room or 0) / 2**20:.3g} MB have no room for it")
        copy = tensor.detach().to(self._device if tensor.is_cpu else None, copy=True)
        self._known[key] = tensor, copy  # the tensor stays alive, for its number
        return copy


def version(tensor: Tensor) -> int:
    """How often it was written into; -1 where nobody counts, in inference mode."""
    return -1 if tensor.is_inference() else tensor._version


#: What a call may hold beside tensors: values that no call can change.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, slice)


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A nested value with another tensor for each tensor.

    Raises:
        TypeError: where it holds what may change in a call, such as a cache.

    Example:
        >>> mapped((torch.ones(2), {"scale": 2, "mask": None}), torch.neg)
        (tensor([-1., -1.]), {'scale': 2, 'mask': None})
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        kind: Any = type(value)
        return kind({key: mapped(v, function) for key, v in value.items()})
    if isinstance(value, (tuple, list)):
        items = [mapped(v, function) for v in value]
        named = hasattr(value, "_fields")
        return type(value)(*items) if named else type(value)(items)
    raise TypeError(f"it is given a {type(value).__name__}, which may change when it is used")
