"""Hooks inside ``torch.compile``: one opaque operation per layer, which comes back to Python.

Dynamo traces a hook once and runs ever after what it recorded. So a traced hook records one
operation, :func:`look`, that takes the layer's tensors and the hook's *token*, and everything
that changes (which step is watched, which slot is next) stays outside of the graph: no step
and no setting compiles anything anew. The token is a tensor because a tensor is read from the
module at each call: blocks of one class share compiled code, and a number would be that of
the first block for all of them. The operation says that it writes to the token, which it does
not, for an operation without results is thrown away.

What feeds a layer can be read off while it is traced only, and is noted then (:class:`Call`);
the note's number goes into the graph.
"""

from __future__ import annotations

import itertools
import logging
import weakref
from functools import partial
from time import perf_counter_ns as clock
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C import _current_graph_task_id as _backward  # -1 outside of backward passes

from shiftwatch.integrations.torch.graph import Graph
from shiftwatch.integrations.torch.nested import PLAIN, floating, tensors
from shiftwatch.records import INPUT

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.hooks import ForwardHook, InputHook

logger = logging.getLogger("shiftwatch")

#: Types between whose fused operations compiled code does not round. To look at a value is to
#: have it rounded, so of these only what lies in memory anyway is looked at.
HALF = (torch.float16, torch.bfloat16)
# Modules whose results lie in memory: kernels of libraries, which nothing is fused into.
_KERNELS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)


class Call(NamedTuple):
    """What is known of one call of a hook in traced code.

    Attributes:
        number: of this note; its place in the graph.
        frame: number of the compiled function that it is part of.
        sources: numbers of the calls whose outputs it is given; -1 for what comes from outside.
        same: whether its first input is just what that call put out, or what came from outside.
        paths: of the tensors that it shows, without the input.
        gradients: whether the autograd graph was recorded.
    """

    number: int = -1
    frame: int = -1
    sources: tuple[int, ...] = (-1,)
    same: bool = False
    paths: tuple[str, ...] = ("",)
    gradients: bool = True


_UNKNOWN = Call()
_HIDDEN = -2  # number of a call that must not be looked at
_calls: list[Call] = []
_noted = -1  # number of the newest
_numbers = itertools.count()
_frames: weakref.WeakKeyDictionary[Any, tuple[int, Graph]] = weakref.WeakKeyDictionary()
_hooks: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def is_kernel(module: nn.Module) -> bool:
    """Whether its result is a kernel's, in memory and rounded also where it is compiled."""
    return isinstance(module, _KERNELS)


def token(hook: Any) -> tuple[Tensor, Tensor]:
    """The hook's token and mark: int64[] each, the number it goes by and one of no meaning."""
    number = next(_numbers)
    _hooks[number] = hook
    with torch.inference_mode(False):
        return torch.tensor(number, device="cpu"), torch.tensor(0, device="cpu")


def never_alone(*functions: Any) -> None:
    """Have Dynamo trace these as part of the user's code only, and else run them as they are.

    Where it cannot trace the caller it would compile each hook by itself, one by one.
    """
    try:
        from torch._C._dynamo import eval_frame

        skip = eval_frame._FrameAction.SKIP  # these, and what they call
        for function in functions:
            eval_frame.set_code_exec_strategy(
                function.__code__, eval_frame._FrameExecStrategy(skip, skip)
            )
    except (ImportError, AttributeError, TypeError):
        logger.debug("hooks outside of compiled code may be compiled alone", exc_info=True)


# --- traced by Dynamo: what stands here becomes part of the user's graph -----------------------


def look(hook: ForwardHook, args: Any, kwargs: Any, output: Any) -> None:
    """A layer was called in code that is being compiled."""
    if not torch.compiler.is_dynamo_compiling() or _is_exporting():
        return
    from torch._dynamo.comptime import comptime  # loaded by now, and dear to load

    parts = [(p, t) for p, t in floating(output) if _may_be_seen(t, hook.kernel)]
    given = [t for _, t in tensors((args, kwargs))]
    paths = [p for p, _ in parts]  # noqa: F841 - read by _note
    outputs = [t for _, t in tensors(output)]  # noqa: F841
    comptime(_note)
    seen = [t for _, t in parts]
    if hook.weighty:
        seen += [t for t in given if t.is_floating_point() and _may_be_seen(t, hook.kernel)][:1]
    number = _number()
    if parts and number != _HIDDEN:
        torch.ops.shiftwatch.see(seen, hook.token, hook.mark, number)


def enter(hook: InputHook, args: Any, kwargs: Any) -> None:
    """The model was called in code that is being compiled."""
    if not torch.compiler.is_dynamo_compiling() or _is_exporting():
        return
    from torch._dynamo.comptime import comptime

    parts = [(p, t) for i in (args, kwargs) for p, t in tensors(i) if t.__class__ in PLAIN]
    given = [t for _, t in parts]
    paths = [p for p, _ in parts]  # noqa: F841 - read by _note_entry
    comptime(_note_entry)
    number = _number()
    if given and number != _HIDDEN:
        torch.ops.shiftwatch.enter(given, hook.token, hook.mark, number)


def _may_be_seen(tensor: Tensor, kernel: bool) -> bool:
    return (
        tensor.__class__ in PLAIN
        and tensor.layout == torch.strided
        and (kernel or tensor.dtype not in HALF)
    )


def _number() -> int:
    """Of the latest note; for Dynamo a constant, which it does not guard."""
    return _noted


# What torch.compiler.assume_constant_result does, without loading the compiler.
_number._dynamo_marked_constant = True  # type: ignore[attr-defined]
# An exported program is the user's. Older versions cannot tell.
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


# --- called by Dynamo while it traces ----------------------------------------------------------


def _note(ctx: Any) -> None:
    """Note what is known of this call. Where Dynamo's insides have changed, that is nothing."""
    try:
        if _inside(ctx, "outputs"):
            return _keep_out()
        frame, graph = _frame()
        given = _nodes(ctx, "given")
        fakes = [n.meta["example_value"] for n in given]
        outputs = [n.meta["example_value"] for n in _nodes(ctx, "outputs")]
        _, same = graph.seen(str(len(_calls)), fakes, outputs)
        first = next((n for n, t in zip(given, fakes, strict=True) if t.is_floating_point()), None)
        same |= first is not None and first.op == "placeholder"
        sources: list[int] = []
        for name in graph.feeding():
            fed = -1 if name == INPUT else int(name)
            # Those that are not looked at hand on what feeds them.
            bridged = [fed] if fed < 0 or _calls[fed].paths else _calls[fed].sources
            sources += [s for s in bridged if s not in sources]
            same &= bridged == [fed]
        _keep(ctx, frame, tuple(sources), same)
        if outputs and not _calls[-1].paths:
            _variable(ctx, "hook").value.source.rounded = True
    except Exception:
        _forget()


def _note_entry(ctx: Any) -> None:
    try:
        if _inside(ctx, "given"):
            return _keep_out()
        frame, graph = _frame()
        graph.begin([n.meta["example_value"] for n in _nodes(ctx, "given")])
        _keep(ctx, frame, (), True)
    except Exception:
        _forget()


def _keep(ctx: Any, frame: int, sources: tuple[int, ...], same: bool) -> None:
    global _noted
    paths = tuple(_variable(ctx, "paths").as_python_constant())
    _noted = len(_calls)
    _calls.append(Call(_noted, frame, sources, same, paths, torch.is_grad_enabled()))


def _keep_out() -> None:
    global _noted
    _noted = _HIDDEN


def _forget() -> None:
    global _noted
    _noted = _UNKNOWN.number
    logger.debug("nothing is known of what feeds a layer in compiled code", exc_info=True)


def _frame() -> tuple[int, Graph]:
    """The function that is being compiled; each attempt to do so is a frame of its own."""
    context = torch._guards.TracingContext.get()
    if context not in _frames:
        _frames[context] = next(_numbers), Graph()
    return _frames[context]


def _inside(ctx: Any, name: str) -> bool:
    """Whether this is part of a transform (vmap, grad) or of a branch or loop of the graph.

    Their tensors are not those of one call, and they allow no operation that writes. What is
    recomputed for the backward pass is a part of the graph too, but an ordinary one.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    for proxy in _variable(ctx, name).as_proxy():
        tracer = proxy.tracer
        while tracer.parent is not None:
            if "checkpoint" not in str(tracer.source_target):
                return True
            tracer = tracer.parent
    return False


def _variable(ctx: Any, name: str) -> Any:
    return ctx.get_local(name)._i_will_not_complain_if_bc_breaks_VariableTracker()


def _nodes(ctx: Any, name: str) -> list[Any]:
    """Where the tensors of a local list come from; their stand-ins know their autograd graph."""
    return [proxy.node for proxy in _variable(ctx, name).as_proxy()]


# --- called by the compiled code ---------------------------------------------------------------


def _see(seen: list[Tensor], token: Tensor, mark: Tensor, number: int) -> None:
    """``shiftwatch::see``: the outputs of a layer, then its input where it may be wanted."""
    hook = _hooks.get(int(token))
    if hook is not None:
        hook.source.fused = True  # from now on the hooks stay on
    if hook is None or not hook.source.armed or _backward() != -1:
        return  # closed since, not this step, or recomputed in the backward pass
    source, call, began = hook.source, _calls[number] if number >= 0 else _UNKNOWN, clock()
    try:
        hook.see_compiled(source, call, seen)
    except Exception as error:
        side = hook.train if source.training(call.gradients) else hook.eval
        source.failed(hook.name, "output", error, side.dark)
    source.spent += clock() - began


def _enter(given: list[Tensor], token: Tensor, mark: Tensor, number: int) -> None:
    """``shiftwatch::enter``: what the model is given."""
    hook = _hooks.get(int(token))
    if hook is None or not hook.source.armed or _backward() != -1:
        return
    source, call, began = hook.source, _calls[number] if number >= 0 else _UNKNOWN, clock()
    try:
        hook.see_given(source, list(zip(call.paths, given, strict=False)), call.gradients)
    except Exception as error:
        source.failed(INPUT, "input", error, hook.dark)
    source.spent += clock() - began


def _gradient(gradient: Tensor, token: Tensor, number: int, part: int) -> None:
    """``shiftwatch::gradient``: the gradient of one output of a layer."""
    hook = _hooks.get(int(token))
    if hook is None or not hook.source.armed or not hook.source.follows:
        return
    source, call, began = hook.source, _calls[number] if number >= 0 else _UNKNOWN, clock()
    try:
        hook.see_gradient(source, call.paths[part], part, gradient)
    except Exception as error:
        source.failed(hook.name, "gradient", error, hook.train.dark)
    source.spent += clock() - began


def _see_autograd(seen: list[Tensor], token: Tensor, mark: Tensor, number: int) -> None:
    """``shiftwatch::see`` above autograd: also has the gradients shown when they come by.

    The compiler traces the backward pass by running it, and records what this records there.
    """
    if _EFFECTS and torch.is_grad_enabled():
        count = len(_calls[number].paths) if number >= 0 else 1
        for part, tensor in enumerate(seen[:count]):
            node = tensor.grad_fn
            if node is not None:
                node.register_prehook(partial(_follow, token, number, part, tensor.output_nr))
    with torch._C._AutoDispatchBelowAutograd():
        torch.ops.shiftwatch.see(seen, token, mark, number)


def _follow(token: Tensor, number: int, part: int, output: int, gradients: Any) -> None:
    gradient = gradients[output]
    if gradient is not None:
        torch.ops.shiftwatch.gradient(gradient, token, number, part)


_library = torch.library.Library("shiftwatch", "FRAGMENT")
# A recorded CUDA graph would replay the sampling without this Python: keep out of them.
_TAGS = tuple(t for t in [getattr(torch.Tag, "cudagraph_unsafe", None)] if t is not None)
for _schema in (
    "see(Tensor[] seen, Tensor token, Tensor(a!) mark, int number) -> ()",
    "enter(Tensor[] given, Tensor token, Tensor(a!) mark, int number) -> ()",
    "gradient(Tensor gradient, Tensor token, int number, int part) -> ()",
):
    _library.define(_schema, tags=_TAGS)
for _name, _body in (("see", _see), ("enter", _enter), ("gradient", _gradient)):
    _library.impl(_name, _body, "CompositeExplicitAutograd")
    torch.library.register_fake(f"shiftwatch::{_name}", lambda *arguments: None, lib=_library)
_library.impl("see", _see_autograd, "Autograd")
try:  # without, gradients of outputs are not seen in compiled code
    from torch._higher_order_ops.effects import _EffectType, _register_effectful_op

    _register_effectful_op(torch.ops.shiftwatch.gradient.default, _EffectType.ORDERED)
    _EFFECTS = True
except (ImportError, AttributeError):
    _EFFECTS = False
