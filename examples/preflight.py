"""check(model, batch): initialisation, wiring and data, looked at before the first step.

python examples/preflight.py
"""

import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from shiftwatch.integrations.torch import check, watch

FOLDER = Path(os.environ.get("SHIFTWATCH_DIR", "shiftwatch-runs"))

torch.manual_seed(0)
torch.set_num_threads(1)  # a net this small only loses by sharing its work
pixels, digits = load_digits(return_X_y=True)
x, y = torch.tensor(pixels, dtype=torch.float32) * (255 / 16), torch.tensor(digits)
criterion = nn.CrossEntropyLoss()


def network(activation: type[nn.Module], hidden: int = 6) -> nn.Sequential:
    model = nn.Sequential()
    for i in range(hidden):
        model.add_module(f"fc{i}", nn.Linear(64, 64))
        model.add_module(f"act{i}", activation())
    model.add_module("head", nn.Linear(64, 10))
    return model


# Three faults that raise no error: sigmoids this deep, pixels up to 255, and a softmax before a
# loss that has its own.
broken = network(nn.Sigmoid)
broken.add_module("softmax", nn.Softmax(1))
print(check(broken, (x[:64], y[:64]), loss=criterion))

# The same, mended as the advice says.
x = (x - x.mean()) / x.std()
model = network(nn.ReLU)
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
nn.init.normal_(model.head.weight, 0, 0.02)  # small logits: the loss starts at chance
result = check(model, (x[:64], y[:64]), loss=criterion)
print()
print(result.table())

# And then it trains.
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
with watch(model, optimizer=optimizer, run=FOLDER / "preflight") as monitor:
    for _ in range(200):
        batch = torch.randint(len(x), (64,))
        loss = criterion(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss)
print()
print(f"Fit to train: {result.ok}. The loss fell from {result.loss:.2f} to {loss.item():.2f}.")
