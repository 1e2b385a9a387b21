"""Where a fault strikes: layers of a kind, one of them by its place, and its neighbours."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from benchmarks.faults.networks import Attention, Block

NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
ACTIVATIONS = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid,
    nn.PReLU, nn.ReLU6, nn.SELU, nn.CELU, nn.Hardswish, nn.Mish, nn.Softplus, nn.Softsign,
)  # fmt: skip

#: What the name of a kind of layer stands for. Of layers that carry, those are left out that end a branch
#: beside a shortcut: many a net begins with those at zero, on purpose.
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "linear": (nn.Linear,),
    "weights": (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.RNNBase),
    "carrying": (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.RNNBase),
    "norm": NORMS,
    "batchnorm": (_BatchNorm,),
    "activation": ACTIVATIONS,
    "dropout": (nn.Dropout,),
    "embedding": (nn.Embedding,),
    "recurrent": (nn.RNNBase,),
    "attention": (Attention,),
    "block": (Block,),
}


def leaves(model: nn.Module) -> list[str]:
    """Names of all modules without children, in order of execution."""
    return [name for name, module in model.named_modules() if not any(module.children())]


def of_kind(model: nn.Module, kind: str) -> list[str]:
    """Names of all modules of a kind, in order; of layers with weights the last is the head."""
    return [name for name, module in model.named_modules() if isinstance(module, KINDS[kind])]


def at(model: nn.Module, kind: str, place: float) -> str | None:
    """Name of the module of this kind at a place between 0, the first, and 1, the last.

    The head is left out where there are others: what strikes there has no layer after it.
    """
    names = of_kind(model, kind)
    if kind in ("weights", "linear", "carrying") and len(names) > 1:
        names = names[:-1]
    if kind == "carrying":
        ends = set(_ends(model))
        names = [name for name in names if name not in ends]
    return names[round(place * (len(names) - 1))] if names else None


def _ends(model: nn.Module) -> Iterator[str]:
    """The last layer with weights of each branch beside a shortcut."""
    for block in of_kind(model, "block"):
        inside = [n for n in of_kind(model, "weights") if n.startswith(f"{block}.inner")]
        yield from inside[-1:]


def ending(model: nn.Module, block: str) -> list[nn.Module]:
    """The last layer or norm with weights of the branch beside a block's shortcut, and what follows it."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, *NORMS)
    inside = [
        m
        for n, m in model.named_modules()
        if n.startswith(f"{block}.inner.") or n == f"{block}.inner"
    ]
    inside = [m for m in inside if not any(m.children())]
    return inside[max(i for i, m in enumerate(inside) if isinstance(m, kinds)) :]


def seen_at(model: nn.Module, name: str) -> str:
    """The layer at which a fault in this module can first be seen.

    That of attention is its projection, since its arithmetic has no module; that of a block is its
    norm, or whatever follows it.
    """
    module = model.get_submodule(name)
    if isinstance(module, Attention):
        return f"{name}.proj"
    if isinstance(module, Block):
        if module.after is not None:
            return f"{name}.after"
        names = leaves(model)
        last = max(i for i, leaf in enumerate(names) if leaf.startswith(f"{name}."))
        return next(
            n for n in names[last + 1 :] if not isinstance(model.get_submodule(n), nn.Flatten)
        )
    return name


def near(model: nn.Module, name: str) -> list[str]:
    """The layers before and after one; the model's input and the first layer are neighbours."""
    order = ["<input>", *leaves(model)]
    i = order.index(name)
    return order[max(0, i - 1) : i] + order[i + 1 : i + 2]


def weight(module: nn.Module) -> nn.Parameter:
    """The weight that a fault changes; of a recurrent layer that on its own state."""
    found = getattr(module, "weight_hh_l0", None)
    return module.weight if found is None else found


def bias(module: nn.Module) -> nn.Parameter:
    """Likewise the bias."""
    found = getattr(module, "bias_hh_l0", None)
    return module.bias if found is None else found


def parameters_of(model: nn.Module, kind: str) -> Iterator[nn.Parameter]:
    """Parameters of all layers of a kind."""
    for name in of_kind(model, kind):
        yield from model.get_submodule(name).parameters()
