"""What a module's type says: its name, its activation, where its units lie."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import nn

Layers = str | Iterable[str] | Callable[[str, nn.Module], bool] | None

# Children that are the wrapped model itself, whatever the wrapper's type …
_WRAPPED = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# … and types whose child "module" is.
_WRAPPERS = frozenset(
    {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "AveragedModel"}
)
# They hand their input on, or have no forward of their own.
_EMPTY = (
    nn.Identity,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
    nn.ParameterList,
    nn.ParameterDict,
)
# Children that compute what their parent computes with: parametrizations, fake quantisation.
_ASIDE = frozenset(
    {"parametrizations", "weight_fake_quant", "activation_post_process", "_packed_params"}
)
# Their children are never called as modules.
_ATOMIC = (nn.MultiheadAttention, torch.jit.ScriptModule)

_ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Hardsigmoid": "hardsigmoid",
    "Hardtanh": "hardtanh",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "ELU": "elu",
    "CELU": "celu",
    "SELU": "selu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Hardswish": "hardswish",
    # transformers
    "NewGELUActivation": "gelu",
    "GELUActivation": "gelu",
    "FastGELUActivation": "gelu",
    "PytorchGELUTanh": "gelu",
    "GELUTanh": "gelu",
    "QuickGELUActivation": "gelu",
    "AccurateGELUActivation": "gelu",
    "SiLUActivation": "silu",
    "MishActivation": "mish",
}
# Bounds and slopes that FLAT takes for granted; with others the flat part lies elsewhere.
_USUAL: dict[str, dict[str, float]] = {
    "Hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "Softplus": {"beta": 1, "threshold": 20},
    "ELU": {"alpha": 1.0},
    "CELU": {"alpha": 1.0},
}
_SPATIAL = re.compile(
    r"(?:Conv(?:Transpose)?|(?:Adaptive)?(?:Avg|Max)Pool|FractionalMaxPool|LPPool|MaxUnpool"
    r"|InstanceNorm|Dropout|Fold|Unfold|ZeroPad|ReflectionPad|ReplicationPad|ConstantPad"
    r"|CircularPad)(\d)d$"
)


class Watched(NamedTuple):
    """A module to watch, under the name that the run knows it by."""

    name: str
    module: nn.Module


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside its wrappers (DataParallel, ``torch.compile``, …)."""
    while True:
        for name, child in model.named_children():
            if _is_wrapped(model, name):
                model = child
                break
        else:
            return model


def compiled(model: nn.Module) -> bool:
    """Whether any part of the model is compiled: ``torch.compile(model)``, ``model.compile()``."""
    return any(True for _ in in_compiled(model))


def in_compiled(model: nn.Module) -> Iterator[nn.Module]:
    """The modules that lie in a compiled part of the model."""
    for part in model.modules():
        own = getattr(part, "_compiled_call_impl", None) is not None
        if own or type(part).__name__ == "OptimizedModule":
            yield from part.modules()


def walk(model: nn.Module, name: str = "") -> Iterator[Watched]:
    """Every module once, by name, wrappers and their prefixes left out."""
    seen: set[int] = set()
    stack = [Watched(name, model)]
    while stack:
        here = stack.pop()
        if id(here.module) in seen:
            continue
        seen.add(id(here.module))
        children = [
            (here.name if _is_wrapped(here.module, n) else f"{here.name}.{n}".lstrip("."), c)
            for n, c in here.module.named_children()
        ]
        if not any(_is_wrapped(here.module, n) for n, _ in here.module.named_children()):
            yield here
        stack.extend(Watched(*child) for child in reversed(children))


def fingerprint(model: nn.Module) -> list[int]:
    """Tells whether modules came or went: the id of each, once. Cost: 0.2 µs per module."""
    found: dict[int, None] = {}
    stack = [model]
    while stack:
        module = stack.pop()
        if id(module) not in found:
            found[id(module)] = None
            stack.extend(m for m in module._modules.values() if m is not None)
    return list(found)


def leaves(model: nn.Module) -> list[Watched]:
    """Modules whose outputs are watched: those that do the work themselves.

    A module with parametrized or quantised weights counts, and so does ``MultiheadAttention``, which
    never calls its children. Containers and ``Identity`` do not.
    """
    found: list[Watched] = []
    inside: set[int] = set()
    for watched in walk(model):
        module = watched.module
        if id(module) in inside:
            continue
        children = [c for n, c in module.named_children() if n not in _ASIDE]
        if children and not isinstance(module, _ATOMIC):
            continue
        inside.update(id(m) for m in module.modules())
        if not isinstance(module, _EMPTY):
            found.append(Watched(watched.name or type(module).__name__, module))
    return found


def scripted(module: nn.Module) -> bool:
    """Whether it is TorchScript, which takes no hooks: the work of ``torch.jit``."""
    return isinstance(module, torch.jit.ScriptModule)


def uncalled(watched: Iterable[Watched]) -> list[str]:
    """Names of modules inside an atomic one, which no hook can see; ``.*`` in TorchScript."""
    watched = list(watched)
    return [f"{name}.*" for name, module in watched if scripted(module)] + [
        f"{name}.{child}"
        for name, module in watched
        if isinstance(module, _ATOMIC) and not scripted(module)
        for child, inner in module.named_children()
        if child not in _ASIDE and not isinstance(inner, _EMPTY)
    ]


def fast(model: nn.Module) -> dict[str, nn.Module]:
    """Layers that take PyTorch's fast path in evaluation, by name.

    They take it where no module in them carries a hook, and give other bits where one does.
    """
    return {
        name: module
        for name, module in walk(model)
        if isinstance(module, nn.TransformerEncoderLayer) and module is not model
    }


def choose(found: list[Watched], layers: Layers) -> list[Watched]:
    """Those that ``layers`` asks for: a glob pattern, several, or a predicate.

    A pattern that is the name of a container stands for all that is in it.

    Raises:
        TypeError: where ``layers`` is none of these.
        ValueError: where a pattern or the predicate chooses nothing.
    """
    if layers is None:
        return found
    names = [w.name for w in found]
    if callable(layers):
        kept = [w for w in found if layers(w.name, w.module)]
        if not kept:
            raise ValueError(
                f"layers must choose at least one layer; the predicate said no to all "
                f"{len(found)}: {', '.join(names[:5])}, …. Loosen it, or leave layers out."
            )
        return kept
    patterns: list[str] = []
    if isinstance(layers, str):
        patterns = [layers]
    elif isinstance(layers, Iterable):
        patterns = list(layers)
    if not patterns or not all(isinstance(p, str) for p in patterns):
        raise TypeError(
            "layers must be a glob pattern, several of them, or a function of (name, module); "
            f"got {layers!r}. Try layers='encoder.*'."
        )
    kept_names: set[str] = set()
    for pattern in patterns:
        hit = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, pattern + ".*")}
        if not hit:
            near = difflib.get_close_matches(pattern, names, 3, 0.3) or names[:3]
            raise ValueError(
                f"Each pattern of layers must match a layer; {pattern!r} matches none of "
                f"{len(names)}. Nearest: {', '.join(near)}."
            )
        kept_names |= hit
    return [w for w in found if w.name in kept_names]


def activation(module: nn.Module) -> str:
    """Key of :data:`shiftwatch.activations.FLAT`; ``""`` where the type is not known there.

    Example:
        >>> activation(nn.ReLU()), activation(nn.LeakyReLU(0.2)), activation(nn.Linear(1, 1))
        ('relu', '', '')
    """
    kind = type(module).__name__
    if kind == "LeakyReLU":
        slope = getattr(module, "negative_slope", 1.0)
        return "leaky_relu" if abs(slope) < 0.05 else ""
    usual: dict[str, float] = _USUAL.get(kind, {})
    if any(getattr(module, k, v) != v for k, v in usual.items()):
        return ""
    return _ACTIVATIONS.get(kind, "")


def norm(module: nn.Module) -> str:
    """``"batch"``, ``"layer"``, ``"group"``, ``"instance"``, ``"rms"``, or ``""``.

    Example:
        >>> norm(nn.BatchNorm1d(2)), norm(nn.LayerNorm(2)), norm(nn.ReLU())
        ('batch', 'layer', '')
    """
    kind = type(module).__name__
    if "InstanceNorm" in kind:
        return "instance"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "batch"
    if kind.endswith("RMSNorm"):
        return "rms"
    if "GroupNorm" in kind:
        return "group"
    return "layer" if "LayerNorm" in kind else ""


def shape(module: nn.Module) -> tuple[int, ...]:
    """Shape of a module's own weight; ``()`` where it has none, or makes it anew at each look.

    Example:
        >>> shape(nn.Linear(3, 2)), shape(nn.ReLU())
        ((2, 3), ())
    """
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return () if weight is None or nn.parameter.is_lazy(weight) else tuple(weight.shape)


def units_axis(module: nn.Module) -> int | str:
    """Where the units of a module's output lie.

    Returns:
        An axis, negative from the end; ``"inherit"`` for elementwise modules, whose units
        lie where their input's do; ``"rank"`` where only the output's rank can tell.

    Example:
        >>> units_axis(nn.Conv2d(1, 1, 1)), units_axis(nn.BatchNorm2d(1)), units_axis(nn.ReLU())
        (-3, 1, 'inherit')
    """
    kind = type(module).__name__.removeprefix("Lazy").removesuffix("WithIndices")
    if spatial := _SPATIAL.search(kind):
        return -int(spatial[1]) - 1
    if "GroupNorm" in kind or isinstance(module, nn.modules.batchnorm._BatchNorm):
        return 1
    if isinstance(module, nn.LayerNorm):
        return -len(module.normalized_shape)
    if isinstance(
        module,
        (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.RNNBase, nn.MultiheadAttention),
    ):
        return -1
    if "Dropout" in kind or "DropPath" in kind or kind in _ACTIVATIONS or kind in _ELEMENTWISE:
        return "inherit"
    return "rank"


_ELEMENTWISE = frozenset(
    "LeakyReLU PReLU RReLU LogSigmoid Softshrink Hardshrink Tanhshrink Threshold".split()
)


def axis_of(where: int | str, tensor: torch.Tensor) -> int | None:
    """Axis of the units in a tensor of this rank; ``None`` where it has one unit.

    Example:
        >>> axis_of("rank", torch.zeros(2, 3, 4, 4)), axis_of(-3, torch.zeros(3, 4, 4))
        (1, 0)
        >>> axis_of(-1, torch.zeros(7)) is None
        True
    """
    rank = tensor.dim()
    if rank < 2:
        return None
    axis = where if isinstance(where, int) else 1 if rank in (4, 5) else -1
    axis = axis + rank if axis < 0 else axis
    return axis if 0 <= axis < rank else rank - 1


def _is_wrapped(parent: nn.Module, child: str) -> bool:
    return child in _WRAPPED or (child == "module" and type(parent).__name__ in _WRAPPERS)
