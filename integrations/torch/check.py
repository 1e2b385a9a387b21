"""check(): a look at initialisation, wiring and data before the first step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.nested import copied, floating, tensors
from shiftwatch.integrations.torch.rehearsal import Rehearsal, numbers
from shiftwatch.integrations.torch.untouched import untouched
from shiftwatch.preflight import Evidence, Preflight, judge
from shiftwatch.preflight.evidence import Weight
from shiftwatch.preflight.measure import distinct

#: Small steps after which a gradient that is zero at first must have come. A last layer that starts
#: at zero lets the gates before it move at the second step, and these their branches at the third.
PATIENCE = 4
_STEP = 0.01
_TARGETS = ("labels", "label", "targets", "target", "y")


def check(
    model: nn.Module,
    batch: Any,
    *,
    loss: Callable[..., Any] | None = None,
    forward: Callable[[Any, Any], Any] | None = None,
) -> Preflight:
    """Look at a model before its first step: initialisation, wiring, data.

    One forward and one backward pass per batch, with all hooks and whole tensors; the model runs
    in the mode it is in. Afterwards model, gradients, buffers, modes, hooks, random generators
    and the batch are as before, to the last bit, also where the model raises.

    Args:
        model: a module, wrapped (``DataParallel``, ``torch.compile``) or not; runs eagerly.
        batch: what the loader gives: a tensor, ``(x, y)`` or ``[x, y]`` (several inputs before
            the target are passed in order; ``x`` may be a tuple or a dict), a dict of keyword
            arguments (its target under ``labels``, ``label``, ``targets``, ``target`` or ``y``), or
            a list of such batches. At least two samples, so that they can be compared; rather
            as many as you train with.
        loss: function of ``(output, target)``. Without it: the loss of a model that returns
            it (one number, or ``output.loss``), else the output times fixed Gaussian numbers. That
            has the gradient's profile over depth, its scale set to 1 at the output, and is not
            zero where outputs are, as a sum of squares would be; what a loss does to the scale
            is then not seen.
        forward: function of ``(model, batch)`` that returns the output, for other signatures.

    Returns:
        A frozen :class:`~shiftwatch.preflight.Preflight`: print it. ``.ok`` is whether there is no
        warning, ``.findings`` are the verdicts, ``.layers`` the numbers of each layer.

    Raises:
        TypeError, ValueError: for an argument that cannot work, with the cure.
        Exception: whatever the model or the loss raises, unchanged; its note says in which layer.

    What is judged, and where limits come from: ``docs/preflight.md``. A verdict is of these
    batches and of the start: a branch that starts at zero, and gets its gradient a step later
    (LoRA, ReZero, DiT), is found by taking a few small steps, which are undone.

    Cost: a forward and a backward pass per batch, some 20 ns per value on one core, and a copy of
    the parameters while it lasts: 0.02 s for an MLP, 0.5 s for a small ResNet. Up to four passes
    more where gradients are zero. Under DDP or FSDP, call it before wrapping. What a forward
    writes outside of the model's modules stays written.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> x, y = torch.randn(32, 8), torch.arange(32) % 4
        >>> check(model, (x, y), loss=nn.CrossEntropyLoss()).ok
        True
        >>> _ = nn.init.constant_(model[0].bias, -100.0)
        >>> result = check(model, (x, y), loss=nn.CrossEntropyLoss())
        >>> [(f.severity, f.kind, f.layer) for f in result.findings][:1]
        [('critical', 'dead', '1')]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"check() takes a torch.nn.Module; got {type(model).__name__}. Pass the model itself."
        )
    for name, function in (("loss", loss), ("forward", forward)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function; got {type(function).__name__}.")
    root = modules.unwrap(model)
    if any(nn.parameter.is_lazy(p) for p in (*root.parameters(), *root.buffers())):
        raise ValueError(
            "Every parameter must have its shape; this model has lazy ones. Call it once on a batch "
            "before check()."
        )
    if not modules.leaves(root):
        raise TypeError(
            f"The model must hold at least one layer, a module that computes; {type(root).__name__} "
            "has none. Build its layers as modules in __init__."
        )
    batches = _batches(batch)
    run = _Run(root, loss, forward)
    roots = [model, *([loss] if isinstance(loss, nn.Module) else [])]
    with untouched(*roots, weights=True, seed=None):
        with torch.inference_mode(False), torch.enable_grad():
            return judge(run.measure(batches))


class _Run:
    """The passes of one call of :func:`check`."""

    def __init__(self, root: nn.Module, loss: Any, forward: Any) -> None:
        self.root, self.loss, self.forward = root, loss, forward
        self.rehearsal = Rehearsal(root)
        self.parameters = [p for p in root.parameters() if p.requires_grad]
        self.criterion = ""
        self.backward = ""

    def measure(self, batches: list[Any]) -> Evidence:
        rehearsal = self.rehearsal
        gradients: list[Tensor | None] = [None] * len(self.parameters)
        values = []
        with rehearsal.listening():
            for batch in batches:
                value, found = self.once(batch, rehearsal)
                values.append(value)
                gradients = [
                    a if b is None else b if a is None else a + b
                    for a, b in zip(gradients, found, strict=True)
                ]
        starts, ends = rehearsal.finish()
        weights, backward = self.weights(gradients), self.backward
        wakes = {} if self.backward else self.wakes(batches[0], gradients)
        return Evidence(
            model=type(self.root).__name__,
            batches=len(batches),
            samples=sum(_samples(b) for b in batches),
            starts=starts,
            ends=ends,
            given=tuple(rehearsal.given),
            entering=tuple(rehearsal.entering),
            weights=tuple(replace(w, wakes=wakes.get(key, 0)) for key, w in weights),
            losses=tuple(rehearsal.losses),
            scores=tuple(rehearsal.scores),
            loss=float(np.mean(values)) if self.criterion else np.nan,
            criterion=self.criterion,
            uncalled=rehearsal.uncalled(),
            training=self.root.training,
            backward=backward,
        )

    def once(
        self, batch: Any, rehearsal: Rehearsal | None = None
    ) -> tuple[float, list[Tensor | None]]:
        """Loss and gradients of one batch."""
        batch = copied(batch)
        nothing: list[Tensor | None] = [None] * len(self.parameters)
        inputs, target = self.parts(batch)
        if rehearsal is not None:
            rehearsal.begin(inputs if self.forward is None else batch)
        try:
            output = self.call(inputs, batch)
            if rehearsal is not None:
                rehearsal.end(output)
            value = self.value(output, target)
        except Exception as error:
            where = rehearsal.here[-1] if rehearsal is not None and rehearsal.here else ""
            if where and hasattr(error, "add_note"):  # from Python 3.11 on
                error.add_note(f"shiftwatch.check: raised in layer {where}")
            raise
        if rehearsal is not None:
            rehearsal.done()
        number = float(value.detach()) if value is not None else np.nan
        if value is None or not value.requires_grad:
            self.backward = "no output asks for a gradient"
            return number, nothing
        if not np.isfinite(number):
            self.backward = "the loss is not finite"
            return number, nothing
        asked = [p for p in self.parameters if p.requires_grad]  # a forward may freeze some
        if _reentrant(value):
            if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in asked):
                self.backward = (
                    "checkpoint(use_reentrant=True) and hooks on gradients do not go together"
                )
                return number, nothing
            gradients = _backward(value, asked)
        else:
            gradients = list(torch.autograd.grad(value, asked, allow_unused=True))
        found = dict(zip(map(id, asked), gradients, strict=True))
        return number, [found.get(id(p)) for p in self.parameters]

    def parts(self, batch: Any) -> tuple[Any, Any]:
        """What the model takes of a batch, and what the loss does."""
        if isinstance(batch, Mapping):
            if self.forward is None and _fits(self.root, batch):
                return batch, next((batch[k] for k in _TARGETS if k in batch), None)
            target = next((k for k in _TARGETS if k in batch), None)
            if target is None:
                return batch, None
            rest = copied({k: v for k, v in batch.items() if k != target})
            return rest, batch[target]
        if isinstance(batch, (tuple, list)) and not isinstance(batch, PackedSequence):
            if len(batch) == 1:
                return batch[0], None
            with_target = self.loss is not None or len(batch) - 1 >= _required(self.root)
            if not with_target:
                return tuple(batch), None
            return batch[0] if len(batch) == 2 else tuple(batch[:-1]), batch[-1]
        return batch, None

    def call(self, inputs: Any, batch: Any) -> Any:
        if self.forward is not None:
            return self.forward(self.root, batch)
        if isinstance(inputs, Mapping) and _fits(self.root, inputs):
            return self.root(**inputs)
        if isinstance(inputs, Mapping) and len(inputs) == 1:
            return self.root(*inputs.values())
        several = isinstance(inputs, (tuple, list)) and not isinstance(inputs, PackedSequence)
        if several and (_required(self.root) > 1 or _most(self.root) >= len(inputs) > 1):
            return self.root(*inputs)
        return self.root(inputs)

    def value(self, output: Any, target: Any) -> Tensor | None:
        """The number whose gradient is taken."""
        if self.loss is not None:
            if target is None:
                raise ValueError(
                    "loss needs a target, and the batch has none. Pass (x, y), or a dict with one of "
                    f"{', '.join(_TARGETS)}."
                )
            value = self.loss(output, target)
            name = getattr(self.loss, "__name__", type(self.loss).__name__)
            if not isinstance(value, Tensor) or value.numel() != 1:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"loss must return a tensor of one number; {name} returned {got}. Take its mean."
                )
            self.criterion = name
            return value.reshape(())
        own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if isinstance(output, Tensor) and output.numel() == 1 and output.dim() == 0:
            own = output
        if isinstance(own, Tensor) and own.numel() == 1:
            self.criterion = "the model's own loss"
            return own.reshape(())
        found = [t for _, t in floating(output) if t.requires_grad]
        rng = np.random.default_rng(0)
        total: Tensor | None = None
        for tensor in found:
            direction = rng.normal(size=tuple(tensor.shape))
            direction /= max(float(np.linalg.norm(direction)), 1e-30) * len(found) ** 0.5
            one = (tensor * torch.as_tensor(direction).to(tensor)).sum()
            total = one if total is None else total + one
        return total

    def wakes(self, batch: Any, gradients: list[Tensor | None]) -> dict[int, int]:
        """Small steps after which gradients that are all zero arrive, by parameter's id; -1: never.

        The model is changed; whoever calls puts it back.
        """
        still = {
            id(p) for p, g in zip(self.parameters, gradients, strict=True)
            if g is not None and not bool(g.any())
        }  # fmt: skip
        found: dict[int, int] = {}
        for step in range(1, PATIENCE + 1):
            if not still or self.backward:
                break
            with torch.no_grad():
                for p, g in zip(self.parameters, gradients, strict=True):
                    if g is not None and bool(g.any()) and bool(g.isfinite().all()):
                        size = max(_rms(p), _STEP)
                        p.data.sub_(g.to(p) * (_STEP * size / _rms(g)))
            _, gradients = self.once(batch)
            for p, g in zip(self.parameters, gradients, strict=True):
                if id(p) in still and g is not None and bool(g.any()):
                    still.discard(id(p))
                    found[id(p)] = step
        # A step that led to no finite loss says nothing.
        return found if self.backward else {**found, **dict.fromkeys(still, -1)}

    def weights(self, gradients: list[Tensor | None]) -> list[tuple[int, Weight]]:
        """Every parameter once, with its id."""
        taken = {id(p): g for p, g in zip(self.parameters, gradients, strict=True)}
        found: dict[int, Weight] = {}
        for layer, module in modules.walk(self.root):
            layer = layer or type(module).__name__
            for name, p in module.named_parameters(recurse=False):
                if id(p) not in found:
                    found[id(p)] = _weight(layer, name, module, p, taken.get(id(p)))
        return list(found.items())


def _weight(layer: str, name: str, module: nn.Module, p: Tensor, gradient: Tensor | None) -> Weight:
    table = _units(module, p)
    weight = Weight(
        name=f"{layer}.{name}",
        layer=layer,
        shape=tuple(p.shape),
        rms=_rms(p),
        std=float(p.detach().float().std(correction=0)) if p.numel() else np.nan,
        rows=0 if table is None else table.shape[0],
        distinct=0 if table is None else distinct(table),
        trainable=p.requires_grad,
    )
    if gradient is None:
        return weight
    table = _units(module, gradient)
    return replace(
        weight,
        gradient=_rms(gradient),
        gradient_distinct=0 if table is None else distinct(table),
        gradient_bad=int(gradient.numel() - gradient.isfinite().sum()),
    )


def _units(module: nn.Module, tensor: Tensor) -> np.ndarray | None:
    """A weight as a row per unit that it makes; ``None`` for vectors and normalisations."""
    if tensor.dim() < 2 or modules.norm(module):
        return None
    array = numbers(tensor)
    kind = type(module).__name__
    if array is not None and ("Transpose" in kind or "Embedding" in kind or kind == "Conv1D"):
        array = array.swapaxes(0, 1)  # their units lie on the second axis
    return None if array is None else array.reshape(array.shape[0], -1)


def _reentrant(value: Tensor) -> bool:
    """Whether the graph holds a checkpoint that computes gradients only in ``backward()``."""
    queue, seen = [value.grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        if type(node).__name__ == "CheckpointFunctionBackward":
            return True
        seen.add(node)
        queue += [n for n, _ in node.next_functions]
    return False


def _backward(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """Gradients by way of ``backward()``; what lay in ``.grad`` is put back by whoever called."""
    for p in parameters:
        p.grad = None
    value.backward()
    found = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return found


def _batches(batch: Any) -> list[Any]:
    """Batches, one or several: a list of tuples, lists and dicts holds several."""
    kinds = (tuple, list, Mapping)
    several = isinstance(batch, list) and batch and all(isinstance(b, kinds) for b in batch)
    batches = list(batch) if several else [batch]
    for one in batches:
        if not any(True for _ in tensors(one)) and type(one).__module__ == "builtins":
            raise ValueError(
                f"batch must hold tensors; got {type(one).__name__} without any. Pass what the loader "
                "gives: a tensor, (x, y), or a dict; a list may hold several batches."
            )
    return batches


def _samples(batch: Any) -> int:
    first = next((t for _, t in tensors(batch)), None)
    return int(first.shape[0]) if first is not None and first.dim() else 1


def _positional(root: nn.Module) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(root.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.kind in kinds]


def _required(root: nn.Module) -> int:
    return sum(p.default is p.empty for p in _positional(root))


def _most(root: nn.Module) -> int:
    return len(_positional(root))


def _fits(root: nn.Module, inputs: Mapping[Any, Any]) -> bool:
    """Whether these are the names of what the model's forward takes."""
    try:
        inspect.signature(root.forward).bind(**inputs)
    except TypeError:
        return False
    return True


def _rms(tensor: Tensor) -> float:
    norm = torch.linalg.vector_norm(tensor.detach().float())
    return float(norm) / max(tensor.numel(), 1) ** 0.5
