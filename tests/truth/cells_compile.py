"""Compiled code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.residual import Net
from tests.truth.harness import PARTLY, SAID, Training, cell, training

ORDER = 25

# The compiler looks at .grad of what a block is given.
WARNS = "The .grad attribute of a Tensor"


def compiled(
    how: str,
    model: nn.Module | None = None,
    backend: str = "aot_eager",
    sizes: Any = (16,),
    **options: Any,
) -> Training:
    """A training of a net that is compiled as ``how`` says."""
    model = Net() if model is None else model
    options = {"backend": backend, "fullgraph": how != "broken", **options}
    run: Any = model
    given: Any = None
    if how in ("before", "late", "broken"):
        run = given = torch.compile(model, **options)
    elif how in ("module", "late module"):
        model.compile(**options)
    elif how in ("blocks", "late blocks"):
        for block in model.blocks:
            block.compile(**options)
    if how.startswith("late"):
        run(torch.randn(16, 8)).sum().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(i: int) -> Any:
        nonlocal run
        if how == "after" and run is model:
            run = torch.compile(model, **options)
        optimizer.zero_grad()
        size = sizes[i % len(sizes)]
        loss = F.cross_entropy(run(torch.randn(size, 8)), torch.randint(4, (size,)))
        loss.backward()
        optimizer.step()
        if i % 4 != 3:
            return loss
        model.eval()
        with torch.no_grad():
            out = run(torch.randn(16, 8))
        model.train()
        return loss, out

    return training(model, step, optimizer, given=given)


@cell(
    "`torch.compile(model)`, then `watch`",
    compiled=True,
    note="no graph break, nothing compiled twice",
)
def before() -> Training:
    return compiled("before")


@cell("`watch`, then `torch.compile(model)`", compiled=True, note="likewise")
def after() -> Training:
    return compiled("after")


@cell("`model.compile()`", compiled=True, note="likewise")
def method() -> Training:
    return compiled("module")


@cell("blocks compiled one by one", compiled=True, warns=WARNS, note="likewise")
def blocks() -> Training:
    return compiled("blocks")


@cell(
    "one compilation for all batch sizes (`dynamic=True`)",
    compiled=True,
    note="each batch is read by its own shape",
)
def dynamic() -> Training:
    return compiled("before", dynamic=True, sizes=(16, 9, 33))


@cell('compiled by Dynamo alone (`backend="eager"`)', compiled=True)
def eager() -> Training:
    return compiled("before", backend="eager")


class Broken(Net):
    """In the middle there is something that cannot be compiled."""

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.stem(x))
        torch._dynamo.graph_break()
        for block in self.blocks:
            x = block(x)
        return self.head(self.drop(x))


@cell(
    "graph breaks of the user's own",
    compiled=True,
    warns=WARNS,
    note="what lies between two graphs is seen as ever",
)
def broken() -> Training:
    return compiled("broken", Broken())


@cell(
    "Inductor",
    compiled=True,
    slow=True,
    note="tested on a net without dropout, which Inductor draws its own way, with or without shiftwatch. "
    "In half precision only layers that are kernels of their own are seen; one message says so",
)
def inductor() -> Training:
    model = Net()
    model.drop.p = 0.0
    return compiled("before", model, backend="inductor")


LATE = "IT WAS COMPILED BEFORE"
HIDDEN = ("*:output", "*:gradient", "*:input")


@cell(
    "compiled, and called before `watch`",
    compiled=True,
    outputs=PARTLY,
    inputs=PARTLY,
    gradients=SAID,
    missing=HIDDEN,
    dark={"Net": LATE},
    note="the code that was compiled stays as it is, and the message says what to do; evaluation, which "
    "is compiled later, is seen",
)
def late() -> Training:
    return compiled("late")


@cell(
    "`model.compile()`, and called before `watch`",
    compiled=True,
    outputs=PARTLY,
    inputs=PARTLY,
    gradients=SAID,
    missing=HIDDEN,
    dark={"Net": LATE},
    note="likewise",
)
def late_method() -> Training:
    return compiled("late module")


@cell(
    "blocks compiled one by one, and called before `watch`",
    compiled=True,
    warns=WARNS,
    outputs=PARTLY,
    inputs=PARTLY,
    gradients=PARTLY,
    missing=("blocks.*",),
    dark={"blocks.0.norm, blocks.0.fc1, blocks.0.act, … (8 layers)": LATE},
    note="likewise; what lies around the blocks is seen",
)
def late_blocks() -> Training:
    return compiled("late blocks")
