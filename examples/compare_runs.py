"""An MLP with and without BatchNorm: what it changes, in which layer, since when.

python examples/compare_runs.py

Three hidden layers of sigmoids, as in figure 1 of Ioffe & Szegedy (2015), trained on the digits at the
same learning rate. The same as `shiftwatch compare RUN RUN`, in Python.
"""

import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import shiftwatch
from shiftwatch.integrations.torch import watch
from shiftwatch.report import render_comparison

FOLDER = Path(os.environ.get("SHIFTWATCH_DIR", "shiftwatch-runs"))
STEPS = 1000

torch.set_num_threads(1)
pixels, digits = load_digits(return_X_y=True)
x = torch.tensor((pixels - pixels.mean()) / pixels.std(), dtype=torch.float32)
y = torch.tensor(digits)


def mlp(batchnorm: bool) -> nn.Sequential:
    """Three hidden layers of 100 units and their sigmoids."""
    net = nn.Sequential()
    for i, width in enumerate((64, 100, 100), start=1):
        net.add_module(f"fc{i}", nn.Linear(width, 100, bias=not batchnorm))
        if batchnorm:
            net.add_module(f"bn{i}", nn.BatchNorm1d(100))
        net.add_module(f"act{i}", nn.Sigmoid())
    net.add_module("head", nn.Linear(100, 10))
    return net


def train(name: str, batchnorm: bool) -> Path:
    """One training, watched."""
    torch.manual_seed(0)
    model = mlp(batchnorm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    criterion = nn.CrossEntropyLoss()
    with watch(model, optimizer=optimizer, run=FOLDER / name) as monitor:
        for _ in range(STEPS):
            chosen = torch.randint(len(x), (60,))
            loss = criterion(model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step(loss=loss)
    return FOLDER / name


plain, batchnorm = train("plain", False), train("batchnorm", True)

found = shiftwatch.compare(plain, batchnorm)
print(found)
for difference in found.differences:
    if difference.departs:
        print(f"  {difference.sentence}")
page = FOLDER / "compare.html"
page.write_text(render_comparison(plain, batchnorm, comparison=found), encoding="utf-8")
print(f"The page: {page}")
