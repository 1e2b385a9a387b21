"""Tensors of other kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from tests.truth.harness import NONE, PARTLY, SAID, Training, cell, training

ORDER = 45


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 4))


def fed(
    model: nn.Module, make: Any, loss_of: Any, optimizer: Any = None, **options: Any
) -> Training:
    """What ``make`` makes goes in; ``loss_of`` what comes out is minimised."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(make(i)))
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer, **options)


def jagged(i: int, layout: Any) -> Any:
    parts = [torch.randn(n, 8) for n in (3, 5, 2, 6)]
    return torch.nested.nested_tensor(parts, layout=layout)


@cell(
    "nested tensors (`layout=torch.jagged`)",
    note="their rows, one after the other, without padding",
)
def nested_jagged() -> Training:
    return fed(mlp(), lambda i: jagged(i, torch.jagged), lambda out: out.values().square().mean())


@cell(
    "nested tensors of the older layout (strided)",
    outputs=SAID,
    inputs=SAID,
    gradients=SAID,
    missing=("*:output", "*:gradient", "*:input"),
    dark={**dict.fromkeys("012", "nested tensor that is not jagged"), "<input>": "not jagged"},
    note="likewise those that leave a dense layer",
    warns="The PyTorch API of nested tensors",
)
def nested_strided() -> Training:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    return fed(
        model,
        lambda i: jagged(i, torch.strided),
        lambda out: torch.nested.to_padded_tensor(out, 0.0).square().mean(),
    )


class Graph(nn.Module):
    """Message passing: a sparse matrix times what a layer puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, given: Any) -> Any:
        links, x = given
        return self.b(torch.relu(links @ self.a(x)))


def linked(layout: Any) -> Any:
    def make(i: int) -> Any:
        dense = (torch.rand(16, 16) < 0.2).float()
        links = dense.to_sparse() if layout == torch.sparse_coo else dense.to_sparse_csr()
        return links, torch.randn(16, 8)

    return make


@cell(
    "a sparse input (COO)",
    inputs=PARTLY,
    missing=("<input>:input",),
    dark={"<input>": "its layout is torch.sparse_coo"},
    note="what is sparse is not sampled; what comes with it and what is made of it is",
)
def sparse_coo() -> Training:
    return fed(Graph(), linked(torch.sparse_coo), lambda out: out.square().mean())


@cell(
    "a sparse input (CSR)",
    inputs=PARTLY,
    missing=("<input>:input",),
    dark={"<input>": "its layout is torch.sparse_csr"},
    note="likewise",
    warns="Sparse CSR tensor support is in beta",
)
def sparse_csr() -> Training:
    return fed(Graph(), linked(torch.sparse_csr), lambda out: out.square().mean())


class First(nn.Module):
    """A layer that puts out a sparse tensor."""

    def forward(self, x: Any) -> Any:
        return x.relu().to_sparse()


class Dense(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.to_dense()


@cell(
    "a layer with a sparse output",
    outputs=PARTLY,
    gradients=PARTLY,
    missing=("1:output", "1:gradient"),
    dark={"1": "its layout is torch.sparse_coo"},
    note="likewise",
)
def sparse_output() -> Training:
    model = nn.Sequential(nn.Linear(8, 16), First(), Dense(), nn.Linear(16, 4))
    return fed(model, lambda i: torch.randn(16, 8), lambda out: out.square().mean())


@cell(
    "sparse gradients (`Embedding(sparse=True)`)",
    inputs=NONE,
    note="gradients are those of outputs, which are dense",
)
def sparse_gradients() -> Training:
    model = nn.Sequential(nn.Embedding(32, 8, sparse=True), nn.Tanh(), nn.Linear(8, 4))
    optimizers = [
        torch.optim.SparseAdam(model[0].parameters(), lr=0.01),
        torch.optim.SGD(model[2].parameters(), lr=0.05),
    ]

    def step(i: int) -> Any:
        model.zero_grad()
        loss = model(torch.randint(32, (16, 4))).square().mean()
        loss.backward()
        for one in optimizers:
            one.step()
        return loss, model[0].weight.grad.to_dense()

    return training(model, step, optimizers)


class Real(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.abs()


COMPLEX = "only real floats are sampled"


@cell(
    "complex numbers",
    outputs=PARTLY,
    inputs=SAID,
    gradients=PARTLY,
    weights=PARTLY,
    updates=PARTLY,
    unheard=("<input>:input", *(f"{i}:{t}" for i in range(3) for t in ("output", "gradient"))),
    missing=("0:weight*", "2:weight*", "0:update*", "2:update*"),
    dark={
        "<input>[0]": "only real floats of",
        **dict.fromkeys("012", COMPLEX),
        **dict.fromkeys(("0.weight", "0.bias", "2.weight", "2.bias"), "holds no plain values"),
    },
    note="what is complex is not sampled, and said; what is real in such a model is",
)
def complex_numbers() -> Training:
    model = nn.Sequential(
        nn.Linear(8, 16, dtype=torch.cfloat),
        nn.Tanh(),
        nn.Linear(16, 8, dtype=torch.cfloat),
        Real(),
        nn.Linear(8, 4),
    )
    return fed(
        model, lambda i: torch.randn(16, 8, dtype=torch.cfloat), lambda out: out.square().mean()
    )


@cell("`torch.view_as_real`: complex parameters kept as real ones")
def viewed() -> Training:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(9, 2) / 3)
            self.head = nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            return self.head(
                torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(self.weight))
            )

    return fed(Spectral(), lambda i: torch.randn(16, 16), lambda out: out.square().mean())


EMPTY = "holds no plain values"


@cell(
    "the meta device",
    outputs=NONE,
    inputs=NONE,
    gradients=NONE,
    weights=NONE,
    updates=NONE,
    dark={
        **dict.fromkeys(("<input>", *"01234"), "on the meta device and holds no values"),
        **{f"{i}.{key}": EMPTY for i in (0, 2, 4) for key in ("weight", "bias")},
    },
    note="there are no values, which is said; the run goes on",
)
def meta() -> Training:
    model = mlp().to("meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        optimizer.zero_grad()
        model(torch.randn(16, 8, device="meta")).sum().backward()
        optimizer.step()

    return training(model, step, optimizer)


@cell("`FakeTensorMode` around some passes", note="passes without values leave no trace")
def fake() -> Training:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def step(i: int) -> Any:
        if i in (0, 3):
            with FakeTensorMode(allow_non_fake_inputs=True):
                model(torch.randn(16, 8)).sum()
        optimizer.zero_grad()
        loss = model(torch.randn(16, 8)).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step, optimizer)


def changed(change: Any, dtype: Any = torch.float32, at: int = 4, given: Any = None) -> Training:
    model = mlp()
    state: dict[str, Any] = {
        "dtype": torch.float32,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05),
    }

    def step(i: int) -> Any:
        if i == at:
            change(model)
            state["dtype"] = dtype
            state["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.05)
        optimizer = state["optimizer"]
        optimizer.zero_grad()
        loss = model(torch.randn(16, 8, dtype=state["dtype"])).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return training(model, step)


@cell("`model.double()` on the way", note="each step in the type that it has")
def to_double() -> Training:
    return changed(lambda m: m.double(), torch.float64)


@cell("`model.bfloat16()` on the way", note="likewise")
def to_bfloat16() -> Training:
    return changed(lambda m: m.bfloat16(), torch.bfloat16)


def swapped(model: nn.Module) -> None:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


@cell("`swap_tensors` (parameters swapped in a conversion)", note="likewise")
def swapping() -> Training:
    return changed(swapped, torch.float64)


@cell("`torch.utils.swap_tensors`", note="what is swapped in is no update of the optimizer's")
def swapping_by_hand() -> Training:
    def swap(model: nn.Module) -> None:
        torch.utils.swap_tensors(model[0].weight, nn.Parameter(torch.randn(32, 8) / 3))

    return changed(swap)


@cell(
    "parameters replaced by assignment", note="likewise; the new one is seen from the next step on"
)
def assigned() -> Training:
    def assign(model: nn.Module) -> None:
        model[0].weight = nn.Parameter(model[0].weight.detach().clone())

    return changed(assign)


@cell("parameters replaced by larger ones", note="likewise")
def grown() -> Training:
    def grow(model: nn.Module) -> None:
        model[0].weight = nn.Parameter(torch.randn(36, 8) / 3)
        model[0].bias = nn.Parameter(torch.zeros(36))
        model[2].weight = nn.Parameter(torch.randn(8, 36) / 7)

    return changed(grow)


@cell(
    "a layer replaced by another",
    outputs=PARTLY,
    gradients=PARTLY,
    weights=PARTLY,
    updates=PARTLY,
    missing=("2 (new):*",),
    dark={"2": "it came after watch()"},
    note="what took its place is not seen, and one message says so and what to do",
)
def replaced() -> Training:
    def replace(model: nn.Module) -> None:
        model[2] = nn.Linear(32, 8)

    return changed(replace)


@cell("`load_state_dict(assign=True)`", note="likewise")
def loaded() -> Training:
    def load(model: nn.Module) -> None:
        model.load_state_dict(
            {k: v.detach() * 0.5 for k, v in model.state_dict().items()}, assign=True
        )
        model.requires_grad_(True)

    return changed(load)


class Tagged(torch.Tensor):
    """A tensor of the user's own class."""


@cell("tensors of an own class", note="as plain tensors, if the class leaves dispatch alone")
def subclass() -> Training:
    return fed(
        mlp(), lambda i: torch.randn(16, 8).as_subclass(Tagged), lambda out: out.square().mean()
    )


@cell(
    "float8 parameters",
    weights=PARTLY,
    missing=("weight:weight",),
    dark={"weight.weight": "holds no plain values"},
    note="only 16, 32 and 64 bits are sampled; the rest of the model is seen",
)
def eighth() -> Training:
    class Eighth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(
                torch.randn(8, 8).to(torch.float8_e4m3fn), requires_grad=False
            )
            self.head = nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.head(x @ self.weight.float())

    return fed(Eighth(), lambda i: torch.randn(16, 8), lambda out: out.square().mean())


@cell("expanded and strided parameters")
def strided() -> Training:
    model = mlp()
    model[0].weight = nn.Parameter(torch.randn(8, 32).t() / 3)
    return fed(model, lambda i: torch.randn(16, 8), lambda out: out.square().mean())


@cell(
    "CUDA",
    cuda=True,
    note="this row is tested where there is CUDA, and nowhere else; all other rows are tested everywhere, "
    "also on the path that tensors of a device take, with tensors of the CPU in their place",
)
def cuda() -> Training:
    return fed(
        mlp().cuda(), lambda i: torch.randn(16, 8, device="cuda"), lambda out: out.square().mean()
    )
