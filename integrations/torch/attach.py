"""Attach: on which modules the hooks of a run lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.hooks import EveryHook, ForwardHook, InputHook
from shiftwatch.integrations.torch.steps import Steps
from shiftwatch.integrations.torch.sweep import End

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource


def attach(
    source: TorchSource,
    model: nn.Module,
    hooks: Sequence[ForwardHook],
    entry: InputHook,
    before: Callable[..., None] | None,
) -> Iterator[Any]:
    """Have hooks called, until each of the handles that this yields is removed.

    One by one: where one cannot be laid, those before it are known.

    Args:
        source: who is told of steps.
        model: as the user gave it, with its wrappers.
        hooks: one for each watched layer.
        entry: for what enters the model.
        before: called with it ahead of the user's own hooks, where that is wanted.
    """
    root = source.root
    touchy = {} if modules.compiled(model) else modules.fast(root)
    inside = {id(m) for whole in touchy.values() for m in whole.modules()}
    inside |= {id(h.module) for h in hooks if modules.scripted(h.module)}
    apart = [h for h in hooks if id(h.module) in inside]
    if apart:
        yield register_module_forward_hook(EveryHook(source, apart, touchy))
    for hook in hooks:
        if id(hook.module) not in inside:
            yield hook.module.register_forward_hook(hook, with_kwargs=True)
    if not modules.scripted(root):
        yield root.register_forward_pre_hook(entry, with_kwargs=True)
        yield root.register_forward_hook(End(source))
    if before is not None and not modules.scripted(model):
        # Before the user's hooks, which run again in a replay; those of a wrapper do not.
        first = model is root
        yield model.register_forward_pre_hook(before, prepend=first, with_kwargs=True)
    yield Steps(source)
