"""Rehearsal: one forward and backward pass in which every whole tensor is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._C import _current_graph_task_id as _backward  # -1 outside of backward passes
from torch.overrides import TorchFunctionMode

from shiftwatch.activations import FLAT
from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.graph import Graph
from shiftwatch.integrations.torch.modules import Watched, axis_of
from shiftwatch.integrations.torch.nested import floating, plain, tensors
from shiftwatch.preflight.evidence import OUTPUT, Given, Loss, Scores, Start
from shiftwatch.preflight.measure import Values, binary_excess, measure, spread, uniform_excess
from shiftwatch.records import INPUT

_PRODUCTS = frozenset({"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"})
_LOSSES = frozenset(
    "cross_entropy nll_loss binary_cross_entropy_with_logits binary_cross_entropy mse_loss l1_loss "
    "smooth_l1_loss huber_loss".split()
)
# Backward nodes that hand values on unchanged, and those of activations that end a network.
_VIEWS = (
    "View", "UnsafeView", "ReshapeAlias", "Transpose", "Permute", "T", "Unsqueeze", "Squeeze",
    "Clone", "ToCopy", "Alias", "Slice", "Select", "Index",
)  # fmt: skip
_LAST = {
    "Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid", "Relu": "relu",
    "Tanh": "tanh",
}  # fmt: skip


_NOTHING = measure(np.zeros(0), None)


class Tracked:
    """What is known of one layer, or of one activation called as a function, so far."""

    def __init__(self, start: Start, axis: int | str) -> None:
        self.start, self.axis = start, axis
        self.values: Values | None = None
        self.variances: list[tuple[float, int]] = []
        self.gradients: list[float] = []
        self.bad = 0
        self.calls = 0

    def add(self, tensor: Tensor) -> None:
        """Measure an output, and wait for its gradient."""
        self.calls += 1
        array = numbers(tensor)
        if array is None:
            return
        one = measure(array, axis_of(self.axis, tensor), self.start.activation)
        self.values = one if self.values is None else self.values + one
        self.variances.append((spread(array), array.size))
        if tensor.requires_grad:
            tensor.register_hook(self.gradient)

    def gradient(self, gradient: Tensor) -> None:
        array = numbers(gradient)
        if array is not None:
            fine = np.isfinite(array)
            self.bad += int(array.size - fine.sum())
            self.gradients.append(float(np.linalg.norm(array[fine].astype(np.float64))))

    def result(self, graph: Graph) -> Start | None:
        if self.values is None:
            return None
        known = [(v, n) for v, n in self.variances if not np.isnan(v)]
        total = sum(n for _, n in known)
        wide = (sum(v * v * n for v, n in known) / total) ** 0.5 if total else np.nan
        norm = float(np.sqrt(np.sum(np.square(self.gradients)))) if self.gradients else np.nan
        parents = graph.parents.get(self.start.key, ())
        return replace(
            self.start, output=self.values, spread=wide, gradient=norm, gradient_bad=self.bad,
            calls=self.calls, parents=parents,
        )  # fmt: skip


class Rehearsal:
    """Hooks on every layer, and an ear for functions, for as long as :meth:`listening` lasts.

    Attributes:
        given: the model's inputs, of the first batch.
        entering: what enters the layers that they feed, after functions on the way.
        losses, scores: what was called.
        here: the modules that run, outermost first; after an error, where it was.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.leaves = modules.leaves(root)
        self.names = {id(m): n for n, m in modules.walk(root)}
        self.names |= {id(w.module): w.name for w in self.leaves}
        self.tracked: dict[str, Tracked] = {}
        self.graph = Graph()
        self.graph.plain = frozenset(
            w.name for w in self.leaves if next(w.module.parameters(), None) is None
        )
        self.given: list[Given] = []
        self.entering: list[Given] = []
        self.losses: list[Loss] = []
        self.scores: list[Scores] = []
        self.here: list[str] = []
        self._leaf: list[Watched] = []
        self._open = False  # whether the model runs, not the loss
        self._fed: dict[str, str] = {}  # activation modules, by what they were called on first
        self._gates: dict[int, tuple[Tensor, str]] = {}
        self._made: list[Tensor] = []  # outputs stay alive, so that they are recognised

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Measure all that runs inside."""
        handles = []
        inner = {id(w.module): w for w in self.leaves}
        for module in self.root.modules():
            if modules.scripted(module) or id(module) not in self.names:
                continue
            leaf = inner.get(id(module))
            handles += [
                module.register_forward_pre_hook(self._enter(self.names[id(module)], leaf), with_kwargs=True),
                module.register_forward_hook(self._leave(leaf), with_kwargs=True),
            ]  # fmt: skip
        try:
            with _Ear(self):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def begin(self, batch: Any) -> None:
        """A batch is about to enter the model."""
        self._open = True
        self.here.clear()
        self._leaf.clear()
        self.graph.begin([t for _, t in tensors(batch)])
        if not self.given:
            self.given = [
                seen
                for path, tensor in tensors(batch)
                if (seen := entered(path, tensor)) is not None
            ]

    def end(self, output: Any) -> None:
        """The model has put out this."""
        self._open = False
        if self.scores and any(_last(t) == "softmax" for _, t in floating(output)):
            self.scores.pop()  # the answer itself
        self.graph.seen(OUTPUT, [t for _, t in floating(output)], ())

    def done(self) -> None:
        """The loss of this batch is known, too."""
        self.graph.finish()
        self._gates.clear()
        self._made.clear()

    def finish(self) -> tuple[tuple[Start, ...], tuple[str, ...]]:
        """Layers in the order of their first call, and what feeds the output."""
        found = [r for t in self.tracked.values() if (r := t.result(self.graph)) is not None]
        order = self.graph.order
        found.sort(key=lambda s: order.get(s.key, len(order)))
        known = {s.key for s in found}
        return tuple(found), tuple(p for p in self.graph.parents.get(OUTPUT, ()) if p in known)

    def uncalled(self) -> tuple[str, ...]:
        """Layers that were not called."""
        return tuple(w.name for w in self.leaves if w.name not in self.tracked)

    # --- hooks -----------------------------------------------------------------------------

    def _enter(self, name: str, leaf: Watched | None) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            if _backward() == -1:
                self.here.append(name)
                if leaf is not None:
                    self._leaf.append(leaf)

        return enter

    def _leave(self, leaf: Watched | None) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if _backward() != -1:
                return
            if self.here:
                self.here.pop()
            if leaf is not None:
                if self._leaf:
                    self._leaf.pop()
                self._layer(leaf, args, kwargs, output)

        return leave

    def _layer(self, leaf: Watched, args: Any, kwargs: Any, output: Any) -> None:
        entering = next((t for _, t in floating((args, kwargs))), None)
        kind = modules.activation(leaf.module)
        if kind and entering is not None:
            source = self.graph.source(entering)
            if self._fed.setdefault(leaf.name, source) != source:  # one module in several places
                self._activation(kind, source, entering, output)
                return
        with torch.no_grad():
            parent, direct = self.graph.seen(leaf.name, (args, kwargs), output)
        if parent == INPUT and entering is not None and len(self.entering) < len(self.leaves):
            seen = entered(leaf.name, entering)
            self.entering += [] if seen is None else [seen]
        self._made += [t for _, t in tensors(output)]
        if leaf.name not in self.tracked:
            self.tracked[leaf.name] = _tracked(leaf, direct)
        self._measure(self.tracked[leaf.name], output)

    def _activation(self, kind: str, layer: str, entering: Any, output: Tensor) -> None:
        start = Start(layer=layer, function=kind, output=_NOTHING, activation=kind)
        if not self._leaf:  # inside of a layer, it is no node of its own
            self.graph.seen(start.key, (entering,), output)
        if start.key not in self.tracked:
            axis = self.tracked[layer].axis if layer in self.tracked else "rank"
            self.tracked[start.key] = Tracked(start, axis)
        self._made.append(output)
        self._measure(self.tracked[start.key], output)

    def _measure(self, tracked: Tracked, output: Any) -> None:
        found = floating(output)
        if found:
            tracked.add(found[0][1])
            if tracked.start.activation in ("sigmoid", "hardsigmoid", "tanh"):
                self._gates[id(found[0][1])] = found[0][1], tracked.start.key
        else:
            tracked.calls += 1

    def heard(self, name: str, args: Any, kwargs: Any, output: Any) -> None:
        """A function of PyTorch was called."""
        if name in _LOSSES:
            self._loss(name, args, kwargs, output)
        elif not self._open:
            return
        elif name in _PRODUCTS:
            for value in args:
                if id(value) in self._gates:
                    key = self._gates[id(value)][1]
                    self.tracked[key].start = replace(self.tracked[key].start, gate=True)
        elif name in ("softmax", "scaled_dot_product_attention"):
            self._softmax(name, args, kwargs)
        elif (kind := name.rstrip("_")) in FLAT and isinstance(output, Tensor) and args:
            if not self._leaf:
                self._activation(kind, self.graph.source(args[0]), args[0], output)
            elif not modules.activation(self._leaf[-1].module):
                self._activation(kind, self._leaf[-1].name, args[0], output)

    def _softmax(self, name: str, args: Any, kwargs: Any) -> None:
        with torch.no_grad():
            if name == "softmax":
                scores = args[0].detach()
                dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
                if not isinstance(dim, int):
                    return
                scores = scores.movedim(dim, -1)
                layer = self.here[-1] if self.here else ""
            else:
                query, key = args[0].detach(), args[1].detach()
                scale = kwargs.get("scale") or query.shape[-1] ** -0.5
                if query.shape[:-2] != key.shape[:-2]:
                    return
                scores = query[:1] @ key[:1].transpose(-1, -2) * scale
                layer = self.here[-1] if self.here else ""
            array = numbers(scores)
            if array is None or array.ndim < 1 or array.shape[-1] < 2:
                return
            table = np.where(array > -1e4, array, np.nan).reshape(-1, array.shape[-1])
            full = np.isfinite(table).sum(1) > 1
            if full.any():
                std = float(np.sqrt(np.nanmean(np.nanvar(table[full].astype(np.float64), 1))))
                self.scores.append(Scores(layer, std, array.shape[-1]))

    def _loss(self, name: str, args: Any, kwargs: Any, output: Any) -> None:
        given = args[0] if args else kwargs.get("input")
        target = args[1] if len(args) > 1 else kwargs.get("target")
        array = numbers(given)
        if array is None or not isinstance(target, Tensor):
            return
        value = chance = excess = np.nan
        classes = 0
        if isinstance(output, Tensor) and output.numel() == 1:
            value = float(output.detach())
        mean = kwargs.get("reduction", "mean") == "mean"
        if name in ("cross_entropy", "nll_loss") and mean:
            axis = 1 if array.ndim > 1 else 0
            classes = array.shape[axis]
            chance, excess = float(np.log(classes)), uniform_excess(array, axis)
        elif name == "binary_cross_entropy_with_logits" and mean:
            chance, excess = float(np.log(2)), binary_excess(array)
        numeric = name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
        wanted = numbers(target) if numeric else None
        self.losses.append(
            Loss(
                function=name,
                layer=self.graph.source(given),
                last=_last(given),
                value=value,
                chance=chance,
                excess=excess,
                classes=classes,
                output=_rms(array),
                target=np.nan if wanted is None else _rms(wanted),
            )
        )


class _Ear(TorchFunctionMode):
    """Tells a rehearsal which functions are called. A function's own calls are not heard."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__()
        self.rehearsal = rehearsal

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if _backward() == -1:
            name = getattr(func, "__name__", "")
            self.rehearsal.heard(name, args, kwargs, output)
        return output


def numbers(tensor: Any) -> np.ndarray | None:
    """A whole tensor's values on the host; ``None`` where it has none that are real numbers."""
    if not isinstance(tensor, Tensor) or tensor.is_complex() or tensor.is_quantized:
        return None
    tensor = plain(tensor.detach())
    if tensor.layout != torch.strided or tensor.is_meta or tensor.numel() == 0:
        return None
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    array: np.ndarray = tensor.cpu().numpy()
    return array


def entered(part: str, tensor: Tensor) -> Given | None:
    """What is known of a tensor that enters the model, or one of its first layers."""
    array = numbers(tensor)
    if array is None or array.dtype.kind not in "fiub":
        return None
    constant = int((array == array[:1]).all(0).sum()) if array.ndim == 2 else 0
    return Given(
        part=part,
        values=measure(array, axis_of("rank", tensor)),
        spread=spread(array),
        number=tensor.is_floating_point(),
        rank=tensor.dim(),
        constant=constant,
    )


def _tracked(leaf: Watched, direct: bool) -> Tracked:
    module = leaf.module
    own = list(module.named_parameters())
    start = Start(
        layer=leaf.name,
        output=_NOTHING,
        module=type(module).__name__,
        activation=modules.activation(module),
        norm=modules.norm(module),
        direct=direct,
        weighty=any(p.dim() > 1 for _, p in own) and not modules.norm(module),
        training=module.training,
        trainable=any(p.requires_grad for _, p in own),
        bias=getattr(module, "bias", None) is not None,
        dropout=float(getattr(module, "p", 0.0)) if "Dropout" in type(module).__name__ else 0.0,
    )
    axis = modules.units_axis(module)
    return Tracked(start, "rank" if axis == "inherit" else axis)


def _last(tensor: Tensor) -> str:
    """Activation that made a tensor, views left out; ``""`` where there is none."""
    node: Any = tensor.grad_fn
    for _ in range(32):
        if node is None:
            return ""
        kind = type(node).__name__.rstrip("0123456789").removesuffix("Backward")
        if kind in _LAST:
            return _LAST[kind]
        if kind not in _VIEWS:
            return ""
        node = node.next_functions[0][0]
    return ""


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array.astype(np.float64))))) if array.size else np.nan
