"""Recurrent layers over time: what they put out, and what gradient comes back, at each index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.ics import loss_of, parts
from shiftwatch.integrations.torch.untouched import call, untouched


@dataclass(frozen=True)
class TimeProfile:
    """One recurrent layer over the T indices of time.

    Args:
        layer: its name.
        mean, std: float64[T], of its output over samples and units.
        output_gradient: float64[T], norm of the loss's gradient in the output at that index, as it is
            handed on: 0 where nothing but the layer itself reads it.
        input_gradient: float64[T], norm of the gradient in the input at that index, which has come
            back through time.
    """

    layer: str
    mean: np.ndarray
    std: np.ndarray
    output_gradient: np.ndarray
    input_gradient: np.ndarray

    def __str__(self) -> str:
        lines = [
            f"{self.layer}",
            f"{'t':>5}  {'mean':>9}  {'std':>9}  {'∂L/∂out':>9}  {'∂L/∂in':>9}",
        ]
        table = np.array([self.mean, self.std, self.output_gradient, self.input_gradient]).T
        lines += [f"{t:>5}  " + "  ".join(f"{x:>9.3g}" for x in row) for t, row in enumerate(table)]
        return "\n".join(lines)


def over_time(
    model: nn.Module, loss: Callable[..., Tensor] | None, batch: Any
) -> tuple[TimeProfile, ...]:
    """Profile of every ``RNN``, ``LSTM`` and ``GRU`` along time, for one batch.

    Where ``input_gradient`` falls by orders of magnitude from the last index to the first, the layer
    cannot learn what lies that far back (Bengio et al. 1994).

    Args:
        model: in the mode that it is in.
        loss, batch: as for :func:`~shiftwatch.integrations.torch.ics`.

    Returns:
        One frozen record per layer, in the order called; of several calls the last. Packed
        sequences and cells called by hand are not seen.

    The model, its gradients, buffers and random numbers stay as they are.

    Cost: a forward and a backward pass. On CUDA only of a model in training mode, for cuDNN goes back
    through no other.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> class Last(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.rnn = nn.RNN(3, 8, batch_first=True)
        ...     def forward(self, x):
        ...         return self.rnn(x)[0][:, -1]
        >>> (found,) = over_time(Last(), lambda out: out.square().mean(), torch.randn(4, 20, 3))
        >>> bool(found.input_gradient[0] < 1e-3 * found.input_gradient[-1])
        True
    """
    root = modules.unwrap(model)
    given, targets = parts(batch)
    seen: dict[str, tuple[nn.RNNBase, Tensor, Tensor]] = {}
    handles: list[Any] = []
    with untouched(root), torch.enable_grad():
        try:
            for name, module in modules.walk(root):
                if isinstance(module, nn.RNNBase):
                    handles.append(module.register_forward_pre_hook(_lift))
                    handles.append(module.register_forward_hook(_keep(name or "RNN", seen)))
            value = loss_of(loss, call(root, given), targets)
        finally:
            for handle in handles:
                handle.remove()
        if not seen:
            return ()
        wanted = [t for _, *pair in seen.values() for t in pair]
        found = torch.autograd.grad(value, wanted, allow_unused=True)
    pairs = zip(found[::2], found[1::2], strict=True)
    return tuple(
        _profile(name, *entry, *pair)
        for (name, entry), pair in zip(seen.items(), pairs, strict=True)
    )


def _lift(module: Any, args: Any) -> Any:
    """Have a gradient come to the input, also where it is plain data."""
    x = args[0]
    if isinstance(x, Tensor) and not x.requires_grad:
        return (x.detach().requires_grad_(), *args[1:])
    return None


def _keep(name: str, seen: dict[str, tuple[nn.RNNBase, Tensor, Tensor]]) -> Callable[..., None]:
    def keep(module: Any, args: Any, output: Any) -> None:
        if isinstance(output[0], Tensor):
            seen.pop(name, None)
            seen[name] = module, args[0], output[0]

    return keep


def _profile(
    name: str, layer: nn.RNNBase, entered: Tensor, output: Tensor, inwards: Tensor | None,
    outwards: Tensor | None,
) -> TimeProfile:  # fmt: skip
    axis = 1 if layer.batch_first and output.dim() == 3 else 0

    def rows(tensor: Tensor | None, like: Tensor) -> np.ndarray:
        """float64[T, values]."""
        whole = torch.zeros_like(like) if tensor is None else tensor
        wide = whole.detach().double().movedim(axis, 0).flatten(1).cpu().numpy()
        return np.asarray(wide)

    values = rows(output, output)
    return TimeProfile(
        name,
        values.mean(1),
        values.std(1),
        np.linalg.norm(rows(outwards, output), axis=1),
        np.linalg.norm(rows(inwards, entered), axis=1),
    )
