"""Weights that are computed, adapted, pruned or quantised."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.truth.harness import PARTLY, Training, cell, training

ORDER = 40


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 4))


def supervised(
    model: nn.Module, *shape: int, at: dict[int, Callable[[nn.Module], Any]] | None = None
) -> Training:
    """Random batches; before the named steps something is done to the model."""
    shape = shape or (8,)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        nonlocal optimizer
        if at and i in at:
            at[i](model)
            optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, *shape)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        if i != 3:
            return loss
        model.eval()
        with torch.no_grad():
            out = model(torch.randn(16, *shape))
        model.train()
        return loss, out

    return training(model, step)


def parametrized(how: Any) -> nn.Sequential:
    model = mlp()
    how(model[0]), how(model[2])
    return model


@cell(
    "`parametrizations.weight_norm`",
    note="weights are the parameters that the optimizer updates: magnitude and direction, not the product of the two",
)
def weight_norm() -> Training:
    return supervised(parametrized(parametrizations.weight_norm))


@cell(
    "`parametrizations.spectral_norm`", note="likewise: the weight before it is divided by its norm"
)
def spectral_norm() -> Training:
    return supervised(parametrized(parametrizations.spectral_norm))


@cell("`parametrizations.orthogonal`", note="likewise")
def orthogonal() -> Training:
    return supervised(parametrized(parametrizations.orthogonal))


@cell("`nn.utils.weight_norm`", warns="`torch.nn.utils.weight_norm` is deprecated", note="likewise")
def old_weight_norm() -> Training:
    return supervised(parametrized(nn.utils.weight_norm))


@cell(
    "`nn.utils.spectral_norm`",
    warns="`torch.nn.utils.spectral_norm` is deprecated",
    note="likewise",
)
def old_spectral_norm() -> Training:
    return supervised(parametrized(nn.utils.spectral_norm))


class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        return x + 0.1 * x.tanh()


@cell("an own parametrization", note="likewise")
def own_parametrization() -> Training:
    return supervised(
        parametrized(lambda m: parametrize.register_parametrization(m, "weight", Symmetric()))
    )


GONE = "the module has no such parameter any more"


@cell(
    "a parametrization that comes while it is watched",
    weights=PARTLY,
    updates=PARTLY,
    missing=("0:weight", "0:update", "0:*original0]"),
    dark={"0.weight": GONE},
    note="one that keeps one tensor is followed; one that makes two of it is not, and the message says so",
)
def late_parametrization() -> Training:
    return supervised(mlp(), at={4: lambda m: parametrizations.weight_norm(m[0])})


@cell(
    "a parametrization that is removed",
    weights=PARTLY,
    updates=PARTLY,
    missing=("0:weight*", "0:update*"),
    dark={"0.parametrizations.weight.original0, 0.original1": "no part of the model any more"},
    note="the weight that takes its place is not seen, and the message says so",
)
def removed_parametrization() -> Training:
    return supervised(
        parametrized(parametrizations.weight_norm),
        at={4: lambda m: parametrize.remove_parametrizations(m[0], "weight")},
    )


@cell("pruning (`nn.utils.prune`)", note="likewise: `weight_orig`, without the mask")
def pruned() -> Training:
    return supervised(parametrized(lambda m: prune.l1_unstructured(m, "weight", 0.3)))


@cell(
    "pruning that comes while it is watched",
    note="the parameter is followed through its change of name",
)
def late_pruning() -> Training:
    return supervised(
        mlp(),
        at={
            3: lambda m: prune.l1_unstructured(m[0], "weight", 0.3),
            6: lambda m: prune.remove(m[0], "weight"),
        },
    )


class Lora(nn.Module):
    """A frozen linear layer and a product of two thin ones."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Any) -> Any:
        return self.base(x) + self.up(self.down(x))

    def merged(self) -> nn.Linear:
        with torch.no_grad():
            self.base.weight += self.up.weight @ self.down.weight
        return self.base


def adapt(model: nn.Module) -> None:
    model[0], model[2] = Lora(model[0]), Lora(model[2])


def merge(model: nn.Module) -> None:
    model[0], model[2] = model[0].merged(), model[2].merged()
    model.requires_grad_(True)


@cell("LoRA", note="a frozen weight has no update")
def lora() -> Training:
    model = mlp()
    adapt(model)
    return supervised(model)


@cell(
    "LoRA that comes while it is watched",
    outputs=PARTLY,
    gradients=PARTLY,
    weights=PARTLY,
    updates=PARTLY,
    missing=("*.down:*", "*.up:*"),
    dark={"0.down, 0.up, 2.down, … (4 layers)": "it came after watch()"},
    note="what was there goes on being seen, under its old name; new layers are not, and one message names them",
)
def late_lora() -> Training:
    return supervised(mlp(), at={4: adapt})


@cell(
    "LoRA that is merged",
    dark={"0.down, 0.up, 2.down, … (4 layers)": "it is no part of the model any more"},
    note="what is gone is named, what stays goes on being seen",
)
def merged_lora() -> Training:
    model = mlp()
    adapt(model)
    return supervised(model, at={4: merge})


WARNS = "torch.ao.quantization is deprecated|Please use quant_min|torch.quantize_per"


class Quantised(nn.Module):
    """Convolution, BatchNorm and ReLU, to be fused, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = (
            torch.ao.quantization.QuantStub(),
            torch.ao.quantization.DeQuantStub(),
        )
        self.conv, self.relu = nn.Conv2d(1, 4, 3), nn.ReLU()
        self.head = nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        x = self.relu(self.conv(self.quant(x)))
        return self.dequant(self.head(x.flatten(1)))


@cell(
    "quantisation-aware training (`prepare_qat`)",
    warns=WARNS,
    note="outputs as the next layer gets them; weights before they are rounded",
)
def qat() -> Training:
    model = Quantised().train()
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
    return supervised(torch.ao.quantization.prepare_qat(model), 1, 4, 4)


@cell(
    "a dynamically quantised copy",
    warns=WARNS,
    note="the copy is not watched, and adds nothing to the record",
)
def quantised_copy() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        optimizer.step()
        if i % 3 != 2:
            return loss
        small = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model).eval(), {nn.Linear})
        return loss, small(torch.randn(16, 8))

    return training(model, step, optimizer)


@cell(
    "a dynamically quantised model",
    warns=WARNS,
    note="outputs are seen; quantised weights are no parameters",
)
def quantised() -> Training:
    model = torch.ao.quantization.quantize_dynamic(mlp().eval(), {nn.Linear})
    model.append(nn.Linear(4, 4))
    return supervised(model.train())
