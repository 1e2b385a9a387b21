"""BatchNorm does not lessen internal covariate shift, by the definition that counts for gradients.

python examples/papers/santurkar.py [--quick]

Santurkar, Tsipras, Ilyas & Madry (2018), How Does Batch Normalization Help Optimization?, NeurIPS,
definition 2.1: the shift of a layer is how far its gradient moves when the layers before
it take their step and it does not. It is as large with BatchNorm as without, or larger, and the networks
with it learn better.

Here relative to the gradient, ||G' − G|| / ||G||, since lengths of different networks do not compare;
on the digits, with batches of 128. Sigmoids show it plainly: 8 (last layer) to 100 times (third layer)
the shift, and far better accuracy. Eight layers of ReLU are mixed: at a rate of 0.05 both train well,
the shift of the middle layers is alike and that of the last is smaller with BatchNorm; at 0.5 it is
smaller throughout, where the networks without it fail. What shifts more may train better, so shiftwatch,
which watches the first network of each kind, alarms where training fails and on no other.
"""

from contextlib import nullcontext

import numpy as np
import torch
from paper import (
    BLUE,
    VERMILION,
    Claim,
    at_least,
    at_most,
    batches,
    digits,
    legend,
    main,
    panels,
    plain,
    within,
)  # fmt: skip
from torch import nn
from torch.func import functional_call

from shiftwatch.integrations.torch import watch

STEPS, EVERY, BATCH, UNITS = 1500, 50, 128, 100
#: Panel to activation, hidden layers and learning rate.
KINDS = {
    "3 × sigmoid, rate 0.1": (nn.Sigmoid, 3, 0.1),
    "8 × ReLU, rate 0.05": (nn.ReLU, 8, 0.05),
    "8 × ReLU, rate 0.5": (nn.ReLU, 8, 0.5),
}


def network(activation, hidden: int, batchnorm: bool, seed: int) -> nn.Sequential:
    """Fully connected; small Gaussian weights for sigmoids, He's for ReLU."""
    torch.manual_seed(seed)
    model, wide = nn.Sequential(), 64
    for i in range(1, hidden + 1):
        model.add_module(f"fc{i}", nn.Linear(wide, UNITS))
        if batchnorm:
            model.add_module(f"bn{i}", nn.BatchNorm1d(UNITS))
        model.add_module(f"act{i}", activation())
        wide = UNITS
    model.add_module("head", nn.Linear(UNITS, 10))
    for layer in model:
        if isinstance(layer, nn.Linear):
            he = (2 / layer.in_features) ** 0.5
            small = activation is nn.Sigmoid or layer is model.head
            nn.init.normal_(layer.weight, 0, 0.1 if small else he)
            nn.init.zeros_(layer.bias)
    return model


def shift(model, before, after, x, y) -> np.ndarray:
    """Relative shift of each layer's gradient by one step of the layers before it: [layers]."""
    weights = [name for name in before if name.endswith("weight") and before[name].ndim == 2]
    shifts = []
    for weight in weights:
        names = list(before)
        earlier = names[: names.index(weight)]
        mixed = {**before, **{name: after[name] for name in earlier}}
        own, moved = (gradient(model, each, weight, x, y) for each in (before, mixed))
        shifts.append(float((moved - own).norm() / own.norm()))  # NaN where all units are dead
    return np.array(shifts)


def gradient(model, parameters, name: str, x, y) -> torch.Tensor:
    """Of the loss by one parameter; the model itself stays as it is."""
    leaf = parameters[name].clone().requires_grad_()
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    logits = functional_call(model, {**buffers, **parameters, name: leaf}, (x,))
    return torch.autograd.grad(nn.functional.cross_entropy(logits, y), leaf)[0]


def train(activation, hidden, rate, batchnorm, seed):
    """Shift [checks, layers], test accuracy [checks], and what shiftwatch raised."""
    x, y, x_test, y_test = (torch.from_numpy(a) for a in digits())
    model = network(activation, hidden, batchnorm, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    shifts, accuracies = [], []
    watched = watch(model, optimizer=optimizer, run=False) if seed == 0 else nullcontext()
    with watched as monitor:
        for step, batch in enumerate(batches(len(x), BATCH, STEPS, seed), start=1):
            if step % EVERY == 0:
                before = {name: p.detach().clone() for name, p in model.named_parameters()}
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.step(loss=loss)
            if step % EVERY == 0:
                after = {name: p.detach() for name, p in model.named_parameters()}
                shifts.append(shift(model, before, after, x[batch], y[batch]))
                model.eval()
                with torch.no_grad():
                    accuracies.append(float((model(x_test).argmax(1) == y_test).float().mean()))
                model.train()
    return np.array(shifts), np.array(accuracies), monitor.alerts if monitor else []


def study(seeds):
    """Every kind of network, without and with BatchNorm."""
    torch.set_num_threads(1)
    runs = {
        (kind, batchnorm): [train(*KINDS[kind], batchnorm, seed) for seed in seeds]
        for kind in KINDS
        for batchnorm in (False, True)
    }
    sigmoid, relu, fast = KINDS
    shifts = {key: np.array([np.median(s, axis=0) for s, _, _ in runs[key]]) for key in runs}
    final = {key: np.array([a[-1] for _, a, _ in runs[key]]) for key in runs}
    alerts = {key: runs[key][0][2] for key in runs}
    ratio = {
        kind: shifts[kind, True][:, 1:] / shifts[kind, False][:, 1:] for kind in (sigmoid, relu)
    }
    calm = len(alerts[sigmoid, False]) + len(alerts[sigmoid, True])
    normed = len(alerts[relu, True]) + len(alerts[fast, True])
    failing = alerts[fast, False]
    claims = [
        at_least("sigmoids: shift of layer 3, with BatchNorm over without", ratio[sigmoid][:, 1], 5),
        at_least("sigmoids: shift of the last layer, with over without", ratio[sigmoid][:, -1], 5),
        at_least("sigmoids: accuracy with less without", final[sigmoid, True] - final[sigmoid, False], 0.3),
        within("ReLU: shift of layer 5, with over without", ratio[relu][:, 3], 0.4, 2.5),
        at_least("ReLU: final accuracy of both", [final[relu, False], final[relu, True]], 0.93),
        at_least("ReLU, rate 0.5: accuracy with less without", final[fast, True] - final[fast, False], 0.5),
        at_most("alerts of shiftwatch on either net of sigmoids", calm, 0),
        at_most("alerts of shiftwatch, ReLU with BatchNorm at either rate", normed, 0),
        at_most("alerts of shiftwatch, ReLU at rate 0.05 without", len(alerts[relu, False]), 1),
        Claim(
            "shiftwatch alarms where training fails (ReLU, rate 0.5, without)",
            f"{len(failing)} alerts, first {failing[0].kind} at step {failing[0].detected}"
            if failing else "no alert",
            bool(failing),
        ),
    ]  # fmt: skip
    return draw(runs, shifts), claims


def draw(runs, shifts):
    """Accuracy over training, and the shift by layer, of each kind of network."""
    figure, axes = panels(
        3, "BatchNorm trains better, and not for shifting less", rows=2, high=5.4, sharey="row"
    )
    steps = np.arange(EVERY, STEPS + 1, EVERY)
    for column, kind in enumerate(KINDS):
        above, below = axes[:, column]
        for batchnorm, name, colour in (
            (True, "with BatchNorm", BLUE),
            (False, "without", VERMILION),
        ):
            for seed, (_, accuracy, _) in enumerate(runs[kind, batchnorm]):
                look = {"color": colour, "alpha": 1 if seed == 0 else 0.35, "linewidth": 1.6}
                above.plot(steps, accuracy, **look, label=None if seed else name)
                shift = shifts[kind, batchnorm][seed, 1:]
                layers = np.arange(2, 2 + len(shift))
                below.plot(layers, shift, **look, marker="o", markersize=3)
        above.set_ylim(0, 1.02)
        below.set_yscale("log")
        below.set_xticks(layers)
        first = column == 0
        plain(above, kind, "step", "test accuracy" if first else "")
        plain(below, "", "layer", "shift of its gradient, relative" if first else "")
    legend(axes[0, 0], loc="center right", bbox_to_anchor=(1, 0.72))
    return figure


if __name__ == "__main__":
    main(study)
