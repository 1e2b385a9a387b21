"""Why something of a model is not seen, in words for the person who trains it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.hooks import ForwardHook

#: Steps after which a layer that was never called is named.
PATIENCE = 3

NEVER = (
    f"it was not called in the first {PATIENCE} steps. Unused modules, calls of .forward() itself, "
    "functional use of its weight, and code that was compiled before watch() are not seen, nor are "
    "branches, loops and function transforms inside of compiled code"
)
GONE = "it is no part of the model any more"
FRESH = (
    "it came after watch(). To see it, close() and watch() again once the model has its new layers"
)
NOTHING = (
    "NO LAYER WAS CALLED in the first step, so no activation and no gradient is seen. Give watch() "
    "the very model that is trained, and let it not be called through .forward()"
)
COMPILED = (
    "IT WAS COMPILED BEFORE, and what is compiled runs no new hooks: activations and gradients are "
    "not seen, parameters and updates are. To see all, call watch() before the compiled model is "
    "called for the first time, or torch._dynamo.reset() after watch(): it is compiled once more"
)
REPLAYED = (
    "it was recorded into a CUDA graph, and a replay runs no hooks: outputs, inputs, gradients and "
    "the optimizer's own step are not seen in it, nor are its losses unless step(loss=) is given "
    "them. Weights are, with all that changed in a step as its update"
)
ROUNDED = (
    "compiled in half precision, where what lies between two kernels is not rounded; to look at it "
    "would round it, and change the result. Linear and convolutional layers are seen, with inputs"
)


def silent(
    root: nn.Module, model: nn.Module, hooks: Sequence[ForwardHook], rounded: bool, late: bool
) -> list[tuple[str, str]] | None:
    """What no hook has seen, each with the reason.

    Args:
        root: the model inside its wrappers.
        model: as the user gave it.
        hooks: those of the watched layers.
        rounded: whether compiled code was left alone.
        late: whether the first steps are over, in which not every layer need be called.

    Returns:
        ``None`` while it is too early to tell.
    """
    unheard = [h for h in hooks if not (h.train.fired or h.eval.fired)]
    if len(unheard) == len(hooks):
        return [(type(root).__name__, COMPILED if modules.compiled(model) else NOTHING)]
    if not late:
        return None
    spared = [h.name for h in unheard if rounded and not h.kernel]
    inside = {id(m) for m in modules.in_compiled(root)}
    before = [h.name for h in unheard if id(h.module) in inside and h.name not in spared]
    others = [h.name for h in unheard if h.name not in (*spared, *before)]
    found = together(spared, ROUNDED) + together(before, COMPILED)
    return found + [(name, NEVER) for name in others]


def together(names: Sequence[str], reason: str) -> list[tuple[str, str]]:
    """One message for many layers; none where there are none.

    Example:
        >>> together(["a", "b", "c", "d"], "gone")
        [('a, b, c, … (4 layers)', 'gone')]
    """
    more = f", … ({len(names)} layers)" if len(names) > 3 else ""
    return [(", ".join(names[:3]) + more, reason)] if names else []
