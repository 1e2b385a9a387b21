"""Copies, and what is saved."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.truth.harness import Training, cell, training

ORDER = 60


def with_copies(make: Callable[[nn.Module], Any]) -> Training:
    """At the third step something is made of the model; what it computes then is compared."""
    model = nn.Sequential(
        nn.Linear(8, 32),
        nn.ReLU(),
        nn.BatchNorm1d(32),
        nn.Linear(32, 16),
        nn.Tanh(),
        nn.Linear(16, 4),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    made: list[Any] = []

    def step(i: int) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,)))
        loss.backward()
        if i == 2:
            made.append(make(model))
        optimizer.step()
        outs = [one(torch.randn(16, 8)) for one in made]
        for out in outs:
            out.sum().backward()  # through the copy, and through nothing of the model's
        return loss, outs

    return training(model, step, optimizer)


@cell("`copy.deepcopy`", note="the copy is not watched, and adds nothing to the record")
def deep() -> Training:
    return with_copies(lambda model: copy.deepcopy(copy.deepcopy(model)))


@cell("`pickle`", note="likewise")
def pickled() -> Training:
    return with_copies(lambda model: pickle.loads(pickle.dumps(model)))


def _saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@cell("`torch.save(model)`, loaded with `weights_only=False`", note="likewise")
def saved() -> Training:
    return with_copies(_saved)


@cell("`state_dict`, loaded with `weights_only=True`", note="holds nothing of shiftwatch")
def state() -> Training:
    def make(model: nn.Module) -> nn.Module:
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        fresh = copy.deepcopy(model)
        fresh.load_state_dict(torch.load(file, weights_only=True))
        return fresh

    return with_copies(make)


_ELSEWHERE = """
import sys, torch
sys.modules["shiftwatch"] = None  # importing it, or anything in it, fails
torch.set_num_threads(1)
model = torch.load("model.pt", weights_only=False)
torch.save(model(torch.load("x.pt")), "y.pt")
assert not any(name.startswith("shiftwatch.") for name in sys.modules)
"""


def _abroad(model: nn.Module) -> Callable[[Any], Any]:
    """The model in another process, which cannot import shiftwatch."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(copy.deepcopy(model), Path(folder, "model.pt"))
        x = torch.ones(16, 8)
        torch.save(x, Path(folder, "x.pt"))
        done = subprocess.run(
            [sys.executable, "-c", _ELSEWHERE],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        y = torch.load(Path(folder, "y.pt"))
    return lambda _: y.clone().requires_grad_()


@cell(
    "`torch.save(model)`, loaded where shiftwatch is not installed",
    note="loads, and computes the same",
)
def abroad() -> Training:
    return with_copies(_abroad)
