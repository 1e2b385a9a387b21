"""Passes of a replay: the model is shown samples, or each layer alone what once entered it."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack as _transform  # None outside of transforms

from shiftwatch.integrations.torch.copies import Copies, mapped
from shiftwatch.integrations.torch.hooks import ForwardHook, Hook
from shiftwatch.integrations.torch.nested import floating, tensors
from shiftwatch.integrations.torch.untouched import SEED, generators, untouched

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.samples import Given
    from shiftwatch.integrations.torch.source import TorchSource

#: Calls of one layer that are kept.
CALLS = 4
#: Kinds of devices on which autocast is on, and with what type.
Precision = tuple[tuple[str, torch.dtype], ...]


class Call(NamedTuple):
    """One call of a layer: what it was given, how precisely, and the floating tensors that it put out."""

    args: Any
    kwargs: Any
    precision: Precision
    outputs: list[Tensor]


class Seen:
    """What a pass shows.

    Args:
        room: bytes that it may take.
        outputs: whether outputs alone are kept.

    Attributes:
        calls: of each layer, in execution order.
        left_out: layers that cannot be kept, and why.
        taken: bytes, also of what there was no room for.
    """

    def __init__(self, room: int | None = None, outputs: bool = False) -> None:
        self.calls: dict[str, list[Call]] = {}
        self.left_out: dict[str, str] = {}
        self._outputs = outputs
        self._copies = Copies(room=room)
        self._entering: dict[str, list[tuple[Any, Any]]] = {}

    @property
    def taken(self) -> int:
        return self._copies.taken

    def before(self, name: str, args: Any, kwargs: Any) -> None:
        """A layer is about to be called."""
        if _transform() is not None:  # of grad, vmap, …: such tensors do not outlive it
            self.left_out[name] = "it is called inside of a function transform"
        given = ((), {}) if self._outputs else self._keep(name, (args, kwargs))
        self._entering.setdefault(name, []).append(given)

    def after(self, name: str, output: Any) -> None:
        """It was."""
        args, kwargs = self._entering[name].pop()
        outputs = self._keep(name, [t for _, t in floating(output)])
        known = self.calls.setdefault(name, [])
        if name in self.left_out or not outputs:
            self.left_out.setdefault(name, "its output holds no floating tensor")
            del self.calls[name]
        elif len(known) < CALLS:
            known.append(Call(args, kwargs, precision(), outputs))

    def _keep(self, name: str, value: Any) -> Any:
        if name not in self.left_out:
            try:
                return mapped(value, self._copies.of)
            except (TypeError, MemoryError) as error:
                self.left_out[name] = str(error)
        elif self._copies.full:  # how many bytes it would have been
            for _, tensor in tensors(value):
                self._copies.taken += tensor.nbytes
        return ((), {})


def show(source: TorchSource, hooks: Sequence[ForwardHook], given: Given, seen: Seen) -> None:
    """Show the model samples; ``seen`` keeps what enters and leaves each layer."""
    with _passing(source, hooks, seen), _cast(given.precision):
        own = Copies()
        source.root(*mapped(given.args, own.of), **mapped(given.kwargs, own.of))


def again(
    source: TorchSource, hooks: Sequence[ForwardHook], calls: dict[str, list[Call]]
) -> tuple[dict[str, list[Tensor]], dict[str, str]]:
    """What each layer puts out now for what entered it then; and which fail, with the reason."""
    found: dict[str, list[Tensor]] = {}
    failed: dict[str, str] = {}
    layers = {hook.name: hook.module for hook in hooks}
    with _passing(source, hooks):
        for name, known in calls.items():
            outputs: list[Tensor] = []
            try:
                for call in known:
                    own = Copies()
                    args, kwargs = mapped(call.args, own.of), mapped(call.kwargs, own.of)
                    with _cast(call.precision):
                        outputs += [t for _, t in floating(layers[name](*args, **kwargs))]
                found[name] = outputs
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
    return found, failed


@contextmanager
def _passing(
    source: TorchSource, hooks: Sequence[ForwardHook], seen: Seen | None = None
) -> Iterator[None]:
    """Passes that leave no trace; random numbers begin anew before each layer.

    What they warn of, training did before; or that no gradients are recorded, which is meant.
    """
    handles: list[Any] = []
    with untouched(source.root), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dice = Dice(source.root)
        try:
            for hook in hooks:
                before = Before(source, hook.name, dice, seen)
                handles.append(
                    hook.module.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
                )
                if seen is not None:
                    handles.append(
                        hook.module.register_forward_hook(After(source, hook.name, dice, seen))
                    )
            yield
        finally:
            for handle in handles:
                handle.remove()


class Before(Hook):
    """Before a layer, in a pass of a replay. First of all hooks: theirs are part of the layer."""

    __slots__ = ("dice", "name", "seen")

    def __init__(self, source: TorchSource, name: str, dice: Dice, seen: Seen | None) -> None:
        super().__init__(source)
        self.name, self.dice, self.seen = name, dice, seen

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        self.dice.again()
        if self.seen is not None:
            self.seen.before(self.name, args, kwargs)


class After(Before):
    """After it, last of all."""

    __slots__ = ()

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        if self.seen is not None:
            self.seen.after(self.name, output)


class Dice:
    """Where a model's random numbers come from: the global generators, and those of its modules."""

    def __init__(self, model: nn.Module) -> None:
        held = (*model.parameters(), *model.buffers())
        kinds = dict.fromkeys(t.device for t in held)
        self._devices = [d for d in kinds if d.type not in ("cpu", "meta")]
        self._own = generators(model)

    def again(self) -> None:
        """All begin anew; whoever calls it puts them back."""
        random.seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002  the user's
        torch.default_generator.manual_seed(SEED)
        for device in self._devices:
            api = getattr(torch, device.type)
            with api.device(device) if hasattr(api, "device") else nullcontext():
                api.manual_seed(SEED)
        for own in self._own:
            if isinstance(own, torch.Generator):
                own.manual_seed(SEED)
            elif isinstance(own, np.random.Generator):
                own.bit_generator.state = type(own.bit_generator)(SEED).state
            else:
                own.seed(SEED)


def precision() -> Precision:
    """That of autocast here.

    Example:
        >>> precision()
        ()
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     precision()
        (('cpu', torch.bfloat16),)
    """
    kinds = [k for k in ("cpu", "cuda", "xpu") if torch.is_autocast_enabled(k)]
    return tuple((kind, torch.get_autocast_dtype(kind)) for kind in kinds)


@contextmanager
def _cast(wanted: Precision) -> Iterator[None]:
    """Within it autocast is on where it was, and off elsewhere."""
    with ExitStack() as stack:
        for kind, _ in precision():
            stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        for kind, dtype in wanted:
            stack.enter_context(torch.autocast(kind, dtype, cache_enabled=False))
        yield
