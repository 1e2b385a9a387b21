"""The demo: real images, a small CNN and two MLPs, one healthy run and five faults.

Run it with ``shiftwatch demo``. Every training is watched with the defaults; nothing tells
the monitor what is going to happen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from shiftwatch.demo import Outcome, Say, Truth, judge
from shiftwatch.integrations.torch import watch
from shiftwatch.records import INPUT

STEPS, FAULT = 360, 240


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's 1,797 scanned digits, 8 × 8 pixels, normalised: [n, 1, 8, 8] and [n]."""
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return (images - images.mean()) / images.std(), torch.tensor(y)


def mlp(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Four dense layers."""
    widths = (64, 128, 128, 64, 10)
    net = nn.Sequential()
    net.append(nn.Flatten())
    for i, (a, b) in enumerate(pairwise(widths), start=1):
        net.add_module(f"fc{i}", nn.Linear(a, b))
        if i < len(widths) - 1:
            net.add_module(f"act{i}", activation())
    return net


def cnn() -> nn.Sequential:
    """Three convolutions with batch normalisation, and a dense layer."""
    net = nn.Sequential()
    for i, (a, b) in enumerate(((1, 16), (16, 32), (32, 32)), start=1):
        net.add_module(f"conv{i}", nn.Conv2d(a, b, 3, padding=1, bias=False))
        net.add_module(f"bn{i}", nn.BatchNorm2d(b))
        net.add_module(f"relu{i}", nn.ReLU())
    net.add_module("pool", nn.AdaptiveAvgPool2d(2))
    net.add_module("flatten", nn.Flatten())
    net.add_module("head", nn.Linear(128, 10))
    return net


@dataclass
class Training:
    """What a fault may lay its hands on, just before a step."""

    model: nn.Sequential
    optimizer: torch.optim.Optimizer
    x: torch.Tensor
    rate: float

    def parameter(self, name: str) -> nn.Parameter:
        """Parameter by its dotted name."""
        return self.model.get_parameter(name)


Fault = Callable[[Training, int], None]


def spike(training: Training, since: int) -> None:
    """Three steps at a hundred times the learning rate."""
    if since < 3:
        training.rate *= 100


def dead(training: Training, since: int) -> None:
    """The bias of a layer before a ReLU is pushed far below zero, once."""
    if since == 0:
        with torch.no_grad():
            training.parameter("fc2.bias").sub_(8.0)


def saturate(training: Training, since: int) -> None:
    """The weights before a sigmoid grow twentyfold, once."""
    if since == 0:
        with torch.no_grad():
            training.parameter("fc2.weight").mul_(20.0)


def corrupt(training: Training, since: int) -> None:
    """One weight of the second convolution is overwritten, once."""
    if since == 0:
        with torch.no_grad():
            training.parameter("conv2.weight")[5, 3, 1, 1] = 1e4


def unnormalise(training: Training, since: int) -> None:
    """From now on the pixels come as they are, 0 to 16."""
    training.x.mul_(6.0).add_(4.9)


@dataclass(frozen=True)
class Scenario:
    """A training and what happens to it."""

    truth: Truth
    model: Callable[[], nn.Sequential]
    fault: Fault | None = None


SCENARIOS = (
    Scenario(Truth("healthy", "CNN with BatchNorm, warm-up and cosine schedule"), cnn),
    Scenario(
        Truth("spike", "MLP, learning rate ×100 for three steps", FAULT, ("update", "exploding")),
        mlp,
        spike,
    ),
    Scenario(
        Truth("dead", "MLP, bias of fc2 pushed down", FAULT, ("dead", "corruption"), ("fc2",)),
        mlp,
        dead,
    ),
    Scenario(
        Truth("saturated", "sigmoid MLP, weights of fc2 ×20", FAULT, ("saturation", "corruption"), ("fc2",)),
        lambda: mlp(nn.Sigmoid),
        saturate,
    ),
    Scenario(
        Truth("corrupted", "CNN, one weight of conv2 overwritten", FAULT, ("corruption",), ("conv2",)),
        cnn,
        corrupt,
    ),
    Scenario(
        Truth(
            "input", "CNN, input no longer normalised", FAULT,
            ("variance_shift", "mean_shift"), (INPUT,),
        ),
        cnn,
        unnormalise,
    ),
)  # fmt: skip


def train(scenario: Scenario, run: Path | bool, steps: int = STEPS, seed: int = 0) -> Outcome:
    """One watched training; returns the verdict on it."""
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    x, y = digits()
    model = scenario.model()
    adaptive = any(isinstance(m, nn.Sigmoid) for m in model)
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(model.parameters(), lr=3e-3)
        if adaptive
        else torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    )
    peak = optimizer.param_groups[0]["lr"]
    started = time.perf_counter()
    with watch(model, optimizer=optimizer, run=run) as monitor:
        for step in range(steps):
            rows = torch.from_numpy(order.integers(0, len(x), 64))
            rate = peak * min(1.0, (step + 1) / 40) * (1 + math.cos(math.pi * step / steps)) / 2
            training = Training(model, optimizer, x[rows].clone(), rate)
            if scenario.fault is not None and step >= FAULT:
                scenario.fault(training, step - FAULT)
            for group in optimizer.param_groups:
                group["lr"] = training.rate
            loss = nn.functional.cross_entropy(model(training.x), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
    return judge(scenario.truth, monitor.alerts, time.perf_counter() - started, monitor.run)


def main(folder: Path, say: Say = print, *, quick: bool = False) -> list[Outcome]:
    """Every scenario in turn.

    Args:
        folder: where the run folders go, one per scenario.
        say: called with each line of progress.
        quick: the healthy run and the data fault alone.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nets this small only lose by sharing their work
    outcomes = []
    try:
        for scenario in (SCENARIOS[0], SCENARIOS[-1]) if quick else SCENARIOS:
            outcomes.append(train(scenario, folder / scenario.truth.name))
            say(f"{scenario.truth.name}: {outcomes[-1].found}")
    finally:
        torch.set_num_threads(threads)
    return outcomes
