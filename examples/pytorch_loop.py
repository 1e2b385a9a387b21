"""A PyTorch loop and the two lines it takes: watch(model), monitor.step().

python examples/pytorch_loop.py
"""

import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from shiftwatch.integrations.torch import watch

FOLDER = Path(os.environ.get("SHIFTWATCH_DIR", "shiftwatch-runs"))
STEPS, SPIKE = 300, 200

torch.manual_seed(0)
torch.set_num_threads(1)  # a net this small only loses by sharing its work
pixels, digits = load_digits(return_X_y=True)
x = torch.tensor(pixels, dtype=torch.float32)
x, y = (x - x.mean()) / x.std(), torch.tensor(digits)

model = nn.Sequential()
for name, layer in (
    ("fc1", nn.Linear(64, 128)), ("relu1", nn.ReLU()),
    ("fc2", nn.Linear(128, 64)), ("relu2", nn.ReLU()),
    ("head", nn.Linear(64, 10)),
):  # fmt: skip
    model.add_module(name, layer)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

with watch(model, optimizer=optimizer, run=FOLDER / "pytorch_loop") as monitor:
    for step in range(STEPS):
        # The fault: a schedule that is wrong for three steps.
        optimizer.param_groups[0]["lr"] = 5.0 if SPIKE <= step < SPIKE + 3 else 0.05
        batch = torch.randint(len(x), (64,))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss)

# Each alert went to stderr when it was raised. Afterwards they are values:
print(f"The learning rate was a hundred times too high from step {SPIKE} on. Raised:")
for alert in monitor.alerts:
    print(f"  {alert.severity}: {alert.message}")
first = monitor.alerts[0]
print(f"It began in {first.origin}. {first.advice}")
print(f"The report: {monitor.report(FOLDER / 'pytorch_loop' / 'report.html')}")
