"""What a cell of the truth table is, and how it is put to the test.

A cell is one way to run PyTorch: a function that builds a training, and what shiftwatch
claims about it. The training runs three times from the same seed:

* *plain*, with nothing attached;
* *witnessed*: every call of every module is copied in full, by wrapping
  ``nn.Module.__call__`` from outside. No hook of any kind lies on the model;
* *watched* by shiftwatch, with ``strict=True``.

All three must leave the same bits behind. Every tensor that the witness has must be among
the sites of shiftwatch, with the same count, mean, standard deviation, zeros and range, or
be declared as missing and, if the whole column is, said in a message.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn.parameter import is_lazy
from torch.optim import optimizer as optimizers
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from shiftwatch.integrations.torch import watch
from shiftwatch.integrations.torch.slab import CALLS
from shiftwatch.sampling import SIZE, WEIGHTS
from shiftwatch.summaries.summary import Summary

#: Stated error of a sample: mean in standard deviations, standard deviation, share of zeros.
MEAN, STD, ZERO = 0.05, 0.06, 0.02
#: What remains between two ways of adding up the same numbers.
ROUNDING = 2e-4

SEEN, PARTLY, SAID, NONE = "seen", "partly", "said", "none"
SAME, OTHER = "same", "other"
COLUMNS = {
    "outputs": "output",
    "inputs": "input",
    "gradients": "gradient",
    "weights": "weight",
    "updates": "update",
}


@dataclass
class Watched:
    """One model of a training, and how it is handed to ``watch``.

    Args:
        model: the module whose names the sites bear.
        optimizer: as for ``watch``; ``None`` lets it find them.
        given: what ``watch`` is given, where that is not ``model`` itself.
        options: further options of ``watch``.
    """

    model: nn.Module
    optimizer: Any = None
    given: nn.Module | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def handed(self) -> nn.Module:
        """What ``watch`` is given."""
        return self.model if self.given is None else self.given


@dataclass
class Training:
    """What a cell builds.

    Args:
        watched: the models to watch; one in most cells.
        step: called with 0, 1, …: one optimizer step. Zeroes the gradients first, so that
            they can be compared after it. What it returns is compared to the last bit.
        steps: 8, one window. Up to 8, every gradient of every step is sampled.
        eval_trains: whether passes with gradients are training though the model is in eval mode.
        correct: what a tensor of the witness stands for: a function of the site's key, the
            tensor and the step. For gradients of a scaled loss, say.
    """

    watched: list[Watched]
    step: Callable[[int], Any]
    steps: int = 8
    eval_trains: bool = False
    correct: Callable[[str, Tensor, int], Tensor] = lambda key, tensor, step: tensor


def training(
    model: nn.Module, step: Callable[[int], Any], optimizer: Any = None, **options: Any
) -> Training:
    """A training of one model."""
    given, watched = options.pop("given", None), options.pop("options", {})
    return Training([Watched(model, optimizer, given, watched)], step, **options)


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Args:
        mode: the way to run PyTorch, as the table names it.
        build: makes the training.
        missing: glob patterns of sites that the witness has and shiftwatch has not.
        unheard: sites that there are and that the witness has not either, as no module is called.
        extra: of sites that shiftwatch has and the witness has not.
        loose: of sites that are compared within the error of sampling although small
            enough to be read whole; ``note`` says why.
        dark: what the messages say: layer to a piece of the reason. No other message may come.
        bits: why outputs, gradients or weights differ; ``""`` where they are the same.
        note: for the reader of the table.
        outputs, inputs, gradients, weights, updates: one of :data:`SEEN`, :data:`PARTLY`,
            :data:`SAID`, :data:`NONE`.
        check: further claims, given the runs of all watched models.
        warns: what PyTorch itself warns of here, as the beginning of a regular expression.
        processes: in how many it runs, each of which must find it true of its own share.
        slow: whether it takes more than a few seconds.
        compiled: whether parts are compiled. The witness cannot stand in compiled code: it
            sees the same training uncompiled, which is the truth to rounding.
        cuda: whether it can be put to the test on machines with CUDA only.
        section: heading in the table.
    """

    mode: str
    build: Callable[[], Training]
    outputs: str
    inputs: str
    gradients: str
    weights: str
    updates: str
    missing: tuple[str, ...]
    unheard: tuple[str, ...]
    extra: tuple[str, ...]
    loose: tuple[str, ...]
    dark: Mapping[str, str]
    bits: str
    note: str
    check: Callable[[list[Seen]], None] | None
    warns: str
    processes: int
    slow: bool
    compiled: bool
    cuda: bool
    section: tuple[int, str]


CELLS: dict[str, Cell] = {}


def cell(
    mode: str,
    *,
    outputs: str = SEEN,
    inputs: str = SEEN,
    gradients: str = SEEN,
    weights: str = SEEN,
    updates: str = SEEN,
    missing: tuple[str, ...] = (),
    unheard: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    loose: tuple[str, ...] = (),
    dark: Mapping[str, str] | None = None,
    bits: str = "",
    note: str = "",
    check: Callable[[list[Seen]], None] | None = None,
    warns: str = "",
    processes: int = 1,
    slow: bool = False,
    compiled: bool = False,
    cuda: bool = False,
) -> Callable[[Callable[[], Training]], Callable[[], Training]]:
    """Enter a function that builds a training into the table; see :class:`Cell`.

    The heading is the docstring of the file, its place the file's ``ORDER``.
    """

    def enter(build: Callable[[], Training]) -> Callable[[], Training]:
        there = build.__globals__
        if mode in CELLS and CELLS[mode].build.__qualname__ != build.__qualname__:
            raise ValueError(f"Each mode must be in the table once; {mode!r} is there already.")
        section = (there.get("ORDER", 50), there["__doc__"].strip().splitlines()[0].rstrip("."))
        CELLS[mode] = Cell(
            mode, build, outputs, inputs, gradients, weights, updates,
            missing, unheard, extra, loose, dark or {}, bits, note, check, warns,
            processes, slow, compiled, cuda, section,
        )  # fmt: skip
        return build

    return enter


# --- the three runs ------------------------------------------------------------------------


@dataclass
class Seen:
    """What shiftwatch knows of one model after its run.

    Args:
        sites: key to the summary of the whole run.
        ends: last step of each window.
        dark: what is not watched, and why.
        messages: what was said to the logger, by the monitors of all models.
        monitor: closed.
    """

    sites: dict[str, Summary]
    ends: list[int]
    dark: dict[str, str]
    messages: list[str]
    monitor: Any


def run(built: Training, after: Callable[[int, Any], None] = lambda step, loss: None) -> list[Any]:
    """All that a training leaves behind: results, gradients, weights, the generator's state."""
    left: list[Any] = []
    for step in range(built.steps):
        result = built.step(step)
        left += [_bare(t).clone() for _, t in flat(result)]
        for one in built.watched:
            left += [_bare(p.grad).clone() for p in one.model.parameters() if p.grad is not None]
        after(step, result)
    for one in built.watched:
        held = (local(v) for v in one.model.state_dict().values())
        left += [v.detach().clone() for v in held if _plain(v)]
    return [*left, torch.get_rng_state()]


def start(what: Cell) -> Training:
    """The training of a cell, from the same seed every time, with nothing compiled yet."""
    if what.compiled:
        torch._dynamo.reset()
    torch.manual_seed(0)
    return what.build()


def plain(what: Cell) -> list[Any]:
    """What is left behind without anything attached."""
    return run(start(what))


def witnessed(what: Cell) -> tuple[list[Any], list[Witness]]:
    """What is left behind, and every tensor in full."""
    with torch.compiler.set_stance("force_eager") if what.compiled else nullcontext():
        return _witnessed(what)


def _witnessed(what: Cell) -> tuple[list[Any], list[Witness]]:
    witnesses: list[Witness] = []

    def after(step: int, result: Any) -> None:
        for witness in witnesses:
            witness.end(step)

    with listening(witnesses):
        built = start(what)
        witnesses += [Witness(one.model, built.eval_trains) for one in built.watched]
        left = run(built, after)
    for witness in witnesses:
        witness.finish(built.correct)
    return left, witnesses


def watched(what: Cell) -> tuple[list[Any], list[Seen]]:
    """What is left behind under shiftwatch, and what it knows."""
    built = start(what)
    before = [(one, hooks(one.handed)) for one in built.watched]
    with spoken() as messages:
        monitors = [
            watch(
                one.handed, optimizer=one.optimizer, run=False, rules=(), strict=True,
                **one.options,
            )
            for one in built.watched
        ]  # fmt: skip

        def after(step: int, result: Any) -> None:
            first = next((t for _, t in flat(result)), None)
            loss = first if first is not None and first.numel() == 1 else None
            for monitor in monitors:
                monitor.step(loss=None if loss is None else loss.detach())

        try:
            left = run(built, after)
        finally:
            for monitor in monitors:
                monitor.close()
    assert all(hooks(one.handed) <= n for one, n in before), "hooks stay"
    seen = []
    for monitor in monitors:
        history = monitor.history
        dark = dict(history.meta.get("dark", {}))
        seen.append(Seen(_summaries(history), history.steps.tolist(), dark, messages, monitor))
    return left, seen


def hooks(model: nn.Module) -> int:
    """Forward hooks on a model, on all modules and on all optimizers."""
    own = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    every = (
        nn.modules.module._global_forward_hooks, nn.modules.module._global_forward_pre_hooks,
        optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks,
    )  # fmt: skip
    return own + sum(map(len, every))


@contextmanager
def spoken() -> Iterator[list[str]]:
    """Warnings of the logger ``shiftwatch``, each time they are said."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logger = logging.getLogger("shiftwatch")
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)


def _summaries(history: Any) -> dict[str, Summary]:
    """Of every site that holds values, all windows merged."""
    found: dict[str, Summary] = {}
    for window in range(len(history)):
        summary = history.summary(window)
        for i in range(summary.shape[0]):
            key, one = history.sites[i].key, summary[i : i + 1]
            if one.size[0]:
                found[key] = found[key] + one if key in found else one
    return found


# --- the witness ---------------------------------------------------------------------------


class Witness:
    """Every tensor of one model in full, by site key and step.

    Args:
        model: its names are the names of the sites.
    """

    def __init__(self, model: nn.Module, eval_trains: bool = False) -> None:
        self.model, self.eval_trains = model, eval_trains
        self.names = {id(m): n for n, m in leaves(model).items()}
        self._alive: list[Any] = list(model.modules())
        self.weighty = {n for n, m in leaves(model).items() if any(True for _ in m.parameters())}
        self.calls: dict[str, list[tuple[int, Tensor]]] = {}
        self.spare: dict[str, list[tuple[int, Tensor]]] = {}  # inputs that a layer put out
        self.step = 0
        self.stepped = self.ever = False  # whether an optimizer stepped: in this step, at all
        self._entered = False
        self._trained: set[str] = set()
        self._made: dict[str, list[Tensor]] = {}  # of this step, by mode: what layers put out
        self._given: list[tuple[str, Tensor]] = []
        self._inputs: dict[str, list[tuple[int, Tensor]]] = {}
        self._known: dict[str, bool] = {}
        self._parameters: dict[tuple[str, str], nn.Parameter] = {}
        self._keys: dict[int, tuple[str, str]] = {}  # of parameters, as they were first called
        self._before = self._snapshot()
        self._began = False

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A module is about to be called."""
        if module is self.model:
            self._look()
            self._entered = True
            given = [*_floating(args), *_floating(kwargs)]
            for i, (path, tensor) in enumerate(given):
                key = _key("<input>", "input", path if i else "", self.mode)
                self._keep(key, tensor)
                self._made.setdefault(self.mode, []).append(_bare(tensor).clone())
        name = self.names.get(id(module))
        if name in self.weighty:
            for _, tensor in _floating((args, kwargs))[:1]:
                if _fake(tensor):
                    continue
                self._given.append((_key(name, "input", "", self.mode), _bare(tensor).clone()))

    def leave(self, module: nn.Module, output: Any, again: bool) -> None:
        """A module was called; ``again`` where a checkpoint recomputes it."""
        name = self.names.get(id(module))
        if name is None:
            return
        for path, tensor in _floating(output):
            if tensor.dim() == 0:
                continue
            if not again:
                self._keep(_key(name, "output", path, self.mode), tensor)
                self._made.setdefault(self.mode, []).append(_bare(tensor).clone())
            if not tensor.requires_grad:
                tensor = torch.func.debug_unwrap(tensor)  # vmap keeps the graph inside
            if tensor.requires_grad and tensor.grad_fn is not None and self.mode == "train":
                key = _key(name, "gradient", path, self.mode)
                tensor.register_hook(lambda g, key=key: self._keep(key, g))

    def begin(self) -> None:
        """The optimizer is about to step: an update is what changes from here on."""
        if not self._began:
            self._before, self._began = self._snapshot(), True

    def end(self, step: int) -> None:
        """The step is over: inputs that nothing put out, weights, updates."""
        for key, tensor in self._given:
            mode = "eval" if key.endswith("@eval") else "train"
            known = any(_same(tensor, made) for made in self._made.get(mode, []))
            self._inputs.setdefault(key, []).append((self.step, tensor))
            self._known[key] = self._known.get(key, True) and known
        now = self._snapshot()
        for key, tensor in now.items():
            self._keep(f"{key[0]}:weight{key[1]}", tensor)
            update = f"{key[0]}:update{key[1]}"
            if self._parameters[key].requires_grad:
                self._trained.add(update)
            kept = key in self._before and self._before[key].shape == tensor.shape
            if kept and (self.stepped or (step and not self.ever)):
                self._keep(update, _wide(tensor) - _wide(self._before[key]))
        self._before, self.stepped, self._began = now, False, False
        self._made.clear()
        self._given.clear()
        self.step = step + 1

    def finish(self, by: Callable[[str, Tensor, int], Tensor]) -> None:
        """Sort out the inputs, and let each tensor be what it stands for."""
        called = self._entered
        for key, calls in self._inputs.items():
            if self._known[key]:  # a layer put it out: need not be seen twice
                self.spare[key] = calls
            elif called:
                self.calls[key] = calls
            else:  # the model itself is never called: its first layer's input is its input
                self.calls["<input>:input" + "@eval" * key.endswith("@eval")] = calls
                called = True
        for key in [k for k in self.calls if ":update" in k and k not in self._trained]:
            del self.calls[key]  # it never trained
        for key, kept in self.calls.items():
            self.calls[key] = [(step, by(key, tensor, step)) for step, tensor in kept]

    @property
    def mode(self) -> str:
        """As shiftwatch counts: that of the whole model."""
        trains = self.model.training or (self.eval_trains and torch.is_grad_enabled())
        return "train" if trains else "eval"

    def _look(self) -> None:
        """Layers and parameters that are new; those that are known keep their names."""
        for name, module in leaves(self.model).items():
            if id(module) not in self.names:
                name += " (new)" * (name in self.names.values())
                self.names[id(module)] = name
                self._alive.append(module)  # so that no other gets the same id
        self.weighty = {n for m, n in self._modules() if any(True for _ in m.parameters())}
        found = parameters(self.model)
        known = {id(m): n for n, m in leaves(self.model).items()}
        other = {n: self.names[i] for i, n in known.items() if self.names[i] != n}
        self._parameters = {}
        for (layer, part), p in found.items():
            key = self._keys.setdefault(id(p), (other.get(layer, layer), part))
            self._parameters[key] = p
            self._alive.append(p)

    def _modules(self) -> Iterator[tuple[nn.Module, str]]:
        for module in self.model.modules():
            if id(module) in self.names:
                yield module, self.names[id(module)]

    def _keep(self, key: str, tensor: Tensor) -> None:
        tensor = _bare(tensor)
        if not _fake(tensor):
            self.calls.setdefault(key, []).append((self.step, tensor.clone()))

    def _snapshot(self) -> dict[tuple[str, str], Tensor]:
        self._look()
        return {k: local(p).detach().clone() for k, p in self._parameters.items() if not is_lazy(p)}


@contextmanager
def listening(witnesses: list[Witness]) -> Iterator[None]:
    """Wrap the call of every module, and mark backward passes."""
    depth = 0
    call, backward = nn.Module.__call__, torch.autograd.backward

    def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return call(module, *args, **kwargs)  # no values
        for witness in witnesses if not depth else ():
            witness.enter(module, args, kwargs)
        output = call(module, *args, **kwargs)
        for witness in witnesses:
            witness.leave(module, output, depth > 0)
        return output

    def backwards(*args: Any, **kwargs: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return backward(*args, **kwargs)
        finally:
            depth -= 1

    def steps(optimizer: Any, args: Any, kwargs: Any) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for witness in witnesses:
            if any(id(p) in held for p in witness.model.parameters()):
                witness.stepped = witness.ever = True

    def begins(optimizer: Any, args: Any, kwargs: Any) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for witness in witnesses:
            if any(id(p) in held for p in witness.model.parameters()):
                witness.begin()

    with (
        _removed(register_optimizer_step_pre_hook(begins)),
        _removed(register_optimizer_step_post_hook(steps)),
        mock.patch.object(nn.Module, "__call__", called),
        mock.patch.object(torch.autograd, "backward", backwards),
    ):
        yield


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


_ATOMIC = (nn.MultiheadAttention, torch.jit.ScriptModule)
_ASIDE = ("parametrizations", "weight_fake_quant", "activation_post_process", "_packed_params")
_EMPTY = (nn.Identity, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList)


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """Layers: modules that compute by themselves, under their first name."""
    found: dict[str, nn.Module] = {}
    inside: set[int] = set()
    for name, module in model.named_modules():
        children = [c for n, c in module.named_children() if n not in _ASIDE]
        if id(module) in inside or (children and not isinstance(module, _ATOMIC)):
            continue
        inside |= {id(m) for m in module.modules()}
        if not isinstance(module, _EMPTY):
            found[name or type(module).__name__] = module
    return found


def parameters(model: nn.Module) -> dict[tuple[str, str], nn.Parameter]:
    """Each parameter once: layer and ``""`` or ``"[part]"``."""
    layers = leaves(model)
    roots = {n: ("" if m is model else n) for n, m in layers.items()}
    found = {}
    for full, parameter in model.named_parameters():
        owner = next(
            (n for n, r in roots.items() if not r or full.startswith(r + ".")), None
        )  # fmt: skip
        if owner is None:
            found[full, ""] = parameter
            continue
        rest = full[len(roots[owner]) :].lstrip(".")
        sizes = {n: 0 if is_lazy(p) else p.numel() for n, p in layers[owner].named_parameters()}
        first = "weight" if "weight" in sizes else max(sizes, key=lambda n: sizes[n])
        found[owner, "" if rest == first else f"[{rest}]"] = parameter
    return found


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a nested value, with its path."""
    if isinstance(value, Tensor):
        yield path, value
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (tuple, list)):
        items = enumerate(value)
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        items = ((name, getattr(value, name)) for name in value.__dataclass_fields__)
    for key, inner in items:
        yield from flat(inner, f"{path}.{key}" if path else str(key))


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return getattr(tensor, "_local_tensor", tensor)


def _floating(value: Any) -> list[tuple[str, Tensor]]:
    found = [(path, t) for path, t in flat(value) if t.is_floating_point()]
    return [("" if i == 0 else path, t) for i, (path, t) in enumerate(found)]


def _bare(tensor: Tensor) -> Tensor:
    """The values of a tensor of any kind, as a tensor of the plain kind."""
    tensor = torch.func.debug_unwrap(local(tensor).detach())
    if tensor.is_nested:
        tensor = torch.cat([t.flatten() for t in tensor.unbind()])
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor if _fake(tensor) else tensor.cpu()
    return tensor if _fake(tensor) or type(tensor) is Tensor else tensor.as_subclass(Tensor)


def _fake(tensor: Tensor) -> bool:
    """Whether it holds no values."""
    return isinstance(tensor, FakeTensor) or tensor.is_meta


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_complex() or tensor.dtype == torch.double else tensor.float()


def _key(layer: str, tensor: str, part: str, mode: str) -> str:
    return f"{layer}:{tensor}" + (f"[{part}]" if part else "") + ("@eval" if mode == "eval" else "")


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values, in whatever shape and order."""
    if one.numel() != other.numel() or not (_plain(one) and _plain(other)):
        return False
    a, b = (t.double().flatten().nan_to_num(nan=0.123456789) for t in (one, other))
    return torch.equal(a, b) or torch.equal(a.sort().values, b.sort().values)


def _plain(value: Any) -> bool:
    strided = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided
    return strided and not value.is_meta


# --- the checks ----------------------------------------------------------------------------


def differing(one: list[Any], other: list[Any]) -> list[int]:
    """Places where two runs left different bits behind."""
    if len(one) != len(other):
        return [min(len(one), len(other))]
    return [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if not _identical(a, b)]


def close(one: list[Any], other: list[Any]) -> bool:
    """Whether two runs left the same behind to rounding."""
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.allclose(a.double(), b.double(), ROUNDING, 1e-6)
        for a, b in zip(one, other, strict=True)
    )


def _identical(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if _fake(a):
        return True
    return bool(((a == b) | ((a != a) & (b != b))).all())


def exact(key: str, calls: list[tuple[int, Tensor]]) -> bool:
    """Whether the sample holds every value of these calls exactly once, or equally often."""
    sizes = {t.numel() for _, t in calls}
    if _slow(key):
        return all(n <= WEIGHTS and WEIGHTS % n == 0 for n in sizes)
    most = max(sum(step == s for s, _ in calls) for step, _ in calls)
    return len({t.shape for _, t in calls}) == 1 and max(sizes) <= SIZE and most <= CALLS


def newest(calls: list[tuple[int, Tensor]], ends: list[int]) -> list[tuple[int, Tensor]]:
    """The calls that stand for their windows, as weights and updates change slowly: the last."""
    return [call for call in calls if call[0] in ends]


def wrong(key: str, calls: list[tuple[int, Tensor]], summary: Summary, loose: bool) -> list[str]:
    """What shiftwatch says of one site and is not so."""
    truth = _truth(calls)
    size, count = int(summary.size[0]), int(summary.count[0])
    found = []
    whole = exact(key, calls) and not loose
    most = max(Counter(step for step, _ in calls).values())
    if len({t.shape for _, t in calls}) == 1 and calls[0][1].numel() <= SIZE and not loose:
        each = WEIGHTS if _slow(key) else calls[0][1].numel()
        there = each * sum(min(n, CALLS) for n in Counter(step for step, _ in calls).values())
        if size != there:
            found.append(f"{key}: {size} values seen, {there} expected of {len(calls)} calls")
    if whole and not _slow(key) and count != truth.finite:
        found.append(f"{key}: {count} finite values, are {truth.finite}")
    if not truth.finite or not count:
        return found if truth.finite == count == 0 else [*found, f"{key}: {count} finite values"]
    told = float(summary.mean[0]), float(summary.std[0]), float(summary.tallies.zero[0]) / size
    mean, std, zero = (ROUNDING, ROUNDING, 1e-9) if whole else (MEAN, STD, ZERO)
    if _slow(key) and not whole:  # one sample and no more: three standard errors
        mean, std = 3 / math.sqrt(WEIGHTS), 4 / math.sqrt(2 * WEIGHTS)
    rms = math.hypot(truth.mean, truth.std)
    slack = ROUNDING * rms + 1e-12
    # Of many calls a choice: three standard errors of the mean of so many.
    chance = 3 / math.sqrt(CALLS * len({s for s, _ in calls})) if most > CALLS else 0.0
    about = mean * truth.std + slack + chance * truth.mean_by_call
    if not math.isclose(told[0], truth.mean, abs_tol=about):
        found.append(f"{key}: mean {told[0]:.6g}, is {truth.mean:.6g} (std {truth.std:.3g})")
    about = std * truth.std + slack + chance * truth.square_by_call / max(truth.std, 1e-30)
    if not math.isclose(told[1], truth.std, abs_tol=about):
        found.append(f"{key}: std {told[1]:.6g}, is {truth.std:.6g}")
    if abs(told[2] - truth.zero) > zero + chance * truth.zero_by_call:
        found.append(f"{key}: zeros {told[2]:.4f}, are {truth.zero:.4f}")
    low, high = float(summary.moments.min[0]), float(summary.moments.max[0])
    if whole and not np.allclose((low, high), (truth.low, truth.high), rtol=1e-5, atol=slack):
        found.append(f"{key}: from {low:.6g} to {high:.6g}, is {truth.low:.6g} to {truth.high:.6g}")
    if not (truth.low - slack <= low <= high <= truth.high + slack):
        found.append(f"{key}: {low:.6g} to {high:.6g} leaves {truth.low:.6g} to {truth.high:.6g}")
    return found


class Truth(NamedTuple):
    """What the full tensors say; calls of different sizes count the same."""

    finite: int
    mean: float
    std: float
    zero: float
    low: float
    high: float
    mean_by_call: float
    square_by_call: float
    zero_by_call: float


def _truth(calls: list[tuple[int, Tensor]]) -> Truth:
    each = [t.double().flatten().numpy() for _, t in calls]
    kept = [x[np.isfinite(x)] for x in each]
    if not any(len(x) for x in kept):
        return Truth(0, *[math.nan] * 8)
    kept = [x for x in kept if len(x)]
    # Of calls of one size each finite value counts the same, as all are read alike.
    share = np.array([len(x) if len({len(x) for x in each}) == 1 else 1 for x in kept], float)
    middle = float(np.average([x.mean() for x in kept], weights=share))
    square = np.array([((x - middle) ** 2).mean() for x in kept])
    zero = np.array([(x == 0).mean() for x in each if len(x)])
    return Truth(
        finite=sum(map(len, kept)),
        mean=middle,
        std=math.sqrt(np.average(square, weights=share)),
        zero=float(zero.mean()),
        low=float(min(x.min() for x in kept)),
        high=float(max(x.max() for x in kept)),
        mean_by_call=float(np.std([x.mean() for x in kept])),
        square_by_call=float(square.std()),
        zero_by_call=float(zero.std()),
    )


def faults(what: Cell) -> list[str]:
    """All that is not as the cell declares it; empty where the cell is true."""
    with warnings.catch_warnings():
        if what.warns:
            warnings.filterwarnings("ignore", what.warns)
        return _faults(what)


def _faults(what: Cell) -> list[str]:
    first = plain(what)
    second, witnesses = witnessed(what)
    third, seen = watched(what)
    found = []
    if differing(first, second) and not (what.compiled and close(first, second)):
        found.append("the witness itself changed the training")
    changed = differing(first, third)
    if changed and not what.bits:
        found.append(f"watching changed {len(changed)} of {len(first)} tensors, at {changed[:5]}")
    if what.bits and not changed:
        found.append("bits are declared to differ, and do not")
    counts = {c: [0, 0] for c in COLUMNS}  # there, missing
    for key in what.unheard:
        counts[_column(key)][0] += 1
        counts[_column(key)][1] += 1
        if any(key in one.sites for one in seen) or any(key in w.calls for w in witnesses):
            found.append(f"{key}: declared unheard, and is not")
    missing, extra = set[str](), set[str]()
    for witness, one in zip(witnesses, seen, strict=True):
        truth = {
            k: newest(calls, one.ends) if _slow(k) else calls for k, calls in witness.calls.items()
        }
        for key, calls in truth.items():
            if not calls:
                continue  # gone before a window ended
            column = _column(key)
            counts[column][0] += 1
            if key in one.sites:
                loose = any(fnmatchcase(_word(key), _word(p)) for p in what.loose)
                found += wrong(key, calls, one.sites[key], loose)
            else:
                counts[column][1] += 1
                missing.add(key)
        for key in one.sites.keys() - truth.keys():
            known = witness.spare.get(key)
            if known is None:
                extra.add(key)
            elif len(known) == len({s for s, _ in known}):
                found += wrong(key, known, one.sites[key], False)
        found += _said(what, one)
    found += _declared("missing", missing, what.missing)
    found += _declared("extra", extra, what.extra)
    for column, (there, lost) in counts.items():
        is_so = NONE if not there else SEEN if not lost else SAID if lost == there else PARTLY
        if getattr(what, column) != is_so:
            found.append(f"{column}: declared {getattr(what, column)}, but {is_so}")
        if is_so == SAID and not what.dark:
            found.append(f"{column}: none seen, and nothing said")
    if what.check is not None and not found:
        what.check(seen)
    return found


def _said(what: Cell, one: Seen) -> list[str]:
    found = []
    for layer, words in what.dark.items():
        messages = [m for m in one.messages if m.startswith(f"{layer} ")]
        if len(messages) != 1:
            found.append(f"{layer}: said {len(messages)} times, not once")
        elif words not in messages[0] or words not in one.dark.get(layer, ""):
            found.append(f"{layer}: said {messages[0]!r}, not {words!r}")
    for layer in one.dark.keys() - what.dark.keys():
        found.append(f"{layer}: said, and not declared: {one.dark[layer]}")
    if len(one.messages) > len(what.dark):
        found.append(f"messages beyond those declared: {one.messages}")
    return found


def _declared(kind: str, keys: set[str], patterns: tuple[str, ...]) -> list[str]:
    def fits(key: str, pattern: str) -> bool:
        return fnmatchcase(_word(key), _word(pattern))

    found = [
        f"{k}: {kind}, and not declared" for k in keys if not any(fits(k, p) for p in patterns)
    ]
    found += [
        f"{p}: declared {kind}, and nothing is"
        for p in patterns
        if not any(fits(k, p) for k in keys)
    ]
    return found


def _column(key: str) -> str:
    return next(c for c, t in COLUMNS.items() if f":{t}" in key)


def _slow(key: str) -> bool:
    return ":weight" in key or ":update" in key


def _word(text: str) -> str:
    """Brackets mean parts here, not choices of letters."""
    return text.replace("[", "(").replace("]", ")")
