"""A guard over tensors that a pass must not write into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from shiftwatch.integrations.torch.nested import tensors


class Written(Exception):
    """The model's forward would write into what no pass may change."""


class Guard(TorchDispatchMode):
    """Within it no operation writes into a model's parameters, or tensors that are plain attributes.

    Buffers may be written into: where a pass must leave no trace they are copies, see
    :func:`shiftwatch.integrations.torch.untouched.untouched`.

    Raises:
        Written: before anything was written.

    Cost: some microseconds per operation; kernels that PyTorch does not know of are not seen.

    Example:
        >>> import torch
        >>> table = nn.Embedding(4, 2, max_norm=0.1)
        >>> with torch.no_grad(), Guard(table):
        ...     table(torch.tensor([0]))
        Traceback (most recent call last):
        shiftwatch.integrations.torch.guard.Written: its forward writes into weight (embedding_renorm_)
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._names = {_place(t): name for name, t in _kept(model)}
        self._names.pop(0, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        schema = getattr(func, "_schema", None)
        if schema is not None and schema.is_mutable:
            names = (a.name for a in schema.arguments)
            values = dict(zip(names, args, strict=False)) | given
            written = [
                values.get(a.name)
                for a in schema.arguments
                if a.alias_info and a.alias_info.is_write
            ]
            for _, tensor in tensors(written):
                name = self._names.get(_place(tensor))
                if name is not None:
                    operation = schema.name.partition("::")[2]
                    raise Written(f"its forward writes into {name} ({operation})")
        return func(*args, **given)


def _kept(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    for path, part in model.named_modules():
        for key, value in part.__dict__.items():
            if key not in ("_parameters", "_buffers", "_modules"):
                yield from ((f"{path}.{key}".lstrip("."), t) for _, t in tensors(value))


def _place(tensor: Tensor) -> int:
    """Where its memory begins; 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0
