"""What the faults do: small functions of a training and the name of the layer that they strike.

They look at ``training.since``, the steps since the fault began, and draw no number from torch's
generator, so that all else stays as in the run without the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.faults import layers
from benchmarks.faults.training import Training

Strike = Callable[[Training, str], None]


def once(strike: Strike) -> Strike:
    """At the first step only, and without a gradient."""

    def act(training: Training, layer: str) -> None:
        if training.since == 0:
            with torch.no_grad():
                strike(training, layer)

    return act


# The optimizer.


def faster(factor: float, steps: int, training: Training, layer: str) -> None:
    """Another learning rate for so many steps."""
    if training.since < steps:
        for group in training.groups:
            group["lr"] *= factor


def unwarmed(factor: float, steps: int, training: Training, layer: str) -> None:
    """So many times the highest learning rate for so many steps, in place of any warm-up."""
    if training.since < steps:
        for group in training.groups:
            group["lr"] = factor * group["peak"]


def runaway(training: Training, layer: str) -> None:
    """The learning rate grows by 8 % per step, whatever the schedule says."""
    for i, group in enumerate(training.groups):
        rate = training.memory.setdefault(f"rate {i}", group["lr"])
        group["lr"] = rate * 1.08 ** (training.since + 1)


def separate(training: Training, layer: str) -> dict[str, Any]:
    """A parameter group for one layer; the same at every call."""
    if "group" not in training.memory:
        mine = {id(p) for p in training.module(layer).parameters()}
        optimizer = next(o for o in training.optimizers if mine & _held(o))
        old = next(g for g in optimizer.param_groups if mine & {id(p) for p in g["params"]})
        new = {**old, "params": [p for p in old["params"] if id(p) in mine]}
        old["params"] = [p for p in old["params"] if id(p) not in mine]
        optimizer.param_groups.append(new)
        training.memory["group"] = new
    group: dict[str, Any] = training.memory["group"]
    return group


def _held(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def layer_faster(factor: float, steps: int, training: Training, layer: str) -> None:
    """Another learning rate for one layer."""
    group = separate(training, layer)
    if training.since < steps:
        group["lr"] *= factor


def option(name: str, value: Any, training: Training, layer: str) -> None:
    """Another option of the optimizer."""
    for group in training.groups:
        if name in group:
            group[name] = value


def heavier(training: Training, layer: str) -> None:
    """Momentum of 0.999, or betas of that size."""
    for group in training.groups:
        if "betas" in group:
            group["betas"] = (0.999, group["betas"][1])
        else:
            group["momentum"] = 0.999


def not_cleared(training: Training, layer: str) -> None:
    """Gradients add up from step to step."""
    training.cleared = False


def clipped(training: Training, layer: str) -> None:
    """Gradients are clipped to next to nothing."""
    training.clip = 1e-4


def enlarged(factor: float, training: Training, layer: str) -> None:
    """The loss is scaled, and gradients are not scaled back."""
    training.enlarged = factor


def forgotten(training: Training, layer: str) -> None:
    """Parameters of one layer leave the optimizer."""
    mine = {id(p) for p in training.module(layer).parameters()}
    for group in training.groups:
        group["params"] = [p for p in group["params"] if id(p) not in mine]


def detached_copy(training: Training, layer: str) -> None:
    """The optimizers move the parameters of a copy."""
    for group in training.groups:
        group["params"] = [nn.Parameter(p.detach().clone()) for p in group["params"]]


def reset_state(training: Training, layer: str) -> None:
    """The optimizer forgets its moments, as after a load of the model alone."""
    for optimizer in training.optimizers:
        optimizer.state.clear()


def coarse(training: Training, layer: str) -> None:
    """Weights are kept in bfloat16, so that small updates are lost."""
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.copy_(parameter.bfloat16().float())


# Gradients, between backward pass and update.


def gradients(change: Callable[[Tensor, Training], Tensor]) -> Strike:
    """Another gradient, of one layer or of all."""

    def act(training: Training, layer: str) -> None:
        part = training.module(layer) if layer else training.model
        for parameter in part.parameters():
            if parameter.grad is not None:
                parameter.grad = change(parameter.grad, training)

    return act


def flipped_gradient(gradient: Tensor, training: Training) -> Tensor:
    """The exponent's highest bit of one value flips, once."""
    return flip(gradient, 30) if training.since == 0 else gradient


def not_finite_gradient(gradient: Tensor, training: Training) -> Tensor:
    """An overflow, once."""
    return gradient * float("inf") if training.since == 0 else gradient


# Weights.


def weights(change: Callable[[Tensor, Training], Tensor]) -> Strike:
    """Other weights in one layer, once."""

    def act(training: Training, layer: str) -> None:
        weight = layers.weight(training.module(layer))
        weight.copy_(change(weight.detach().clone(), training))

    return once(act)


def flip(values: Tensor, bit: int) -> Tensor:
    """One bit of the value in the middle."""
    flipped = values.detach().clone().contiguous()
    flat = flipped.view(-1)
    place = flat.numel() // 2
    flat.view(torch.int32)[place] ^= 1 << bit
    return flipped


def shuffled(values: Tensor, training: Training) -> Tensor:
    """Rows in another order."""
    return values[torch.from_numpy(training.random.permutation(len(values)))]


def alike(values: Tensor, training: Training) -> Tensor:
    """All rows the same."""
    return values[:1].expand_as(values).clone()


def thinned(values: Tensor, training: Training) -> Tensor:
    """Nine of ten weights zero, the largest too."""
    kept = torch.from_numpy(training.random.random(tuple(values.shape)) < 0.1)
    return values * kept


def signs(values: Tensor, training: Training) -> Tensor:
    """The sign and no more."""
    return values.sign() * values.abs().mean()


def one_huge(values: Tensor, training: Training) -> Tensor:
    """A single weight of 10,000."""
    values.view(-1)[values.numel() // 3] = 1e4
    return values


def one_missing(values: Tensor, training: Training) -> Tensor:
    """A single weight that is not a number."""
    values.view(-1)[values.numel() // 3] = float("nan")
    return values


@once
def initial(training: Training, layer: str) -> None:
    """One layer starts anew, as where a checkpoint lacks its key."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.step)
        training.module(layer).reset_parameters()


@once
def pushed_down(training: Training, layer: str) -> None:
    """The bias falls by three times the typical size of what the layer puts out."""
    module = training.module(layer)
    size = module.weight.flatten(1).norm(dim=1).mean()
    module.bias.sub_(3 * size)


def creeping(training: Training, layer: str) -> None:
    """Weights grow by 4 % per step."""
    with torch.no_grad():
        layers.weight(training.module(layer)).mul_(1.04)


def sinking(training: Training, layer: str) -> None:
    """The bias falls by a twentieth of the weights' size per step."""
    module = training.module(layer)
    with torch.no_grad():
        module.bias.sub_(0.05 * module.weight.flatten(1).norm(dim=1).mean())


def fresh(change: Callable[[Tensor], Tensor]) -> Strike:
    """Other weights in one layer from the beginning."""

    def act(training: Training, layer: str) -> None:
        module = training.module(layer)
        weight = layers.weight(module)
        weight.copy_(change(weight.detach().clone()))

    return once(act)


# Operations.


def operation(change: Callable[[Callable[..., Any], Tensor], Any]) -> Strike:
    """A layer computes something else from now on, its module and weights as before."""

    def act(training: Training, layer: str) -> None:
        module = training.module(layer)
        usual = module.forward
        module.forward = lambda x: change(usual, x)

    return once(act)


def attribute(name: str, change: Callable[[Any], Any]) -> Strike:
    """A setting of one module changes."""

    def act(training: Training, layer: str) -> None:
        module = training.module(layer)
        setattr(module, name, change(getattr(module, name)))

    return once(act)


@once
def all_sigmoid(training: Training, layer: str) -> None:
    """Sigmoids in place of all activations."""
    for name in layers.of_kind(training.model, "activation"):
        training.module(name).forward = torch.sigmoid


def evaluating(training: Training, layer: str) -> None:
    """Evaluation mode is not left again."""
    training.model.eval()


def norm_evaluating(training: Training, layer: str) -> None:
    """Batch norms use statistics that they never learned."""
    for name in layers.of_kind(training.model, "batchnorm"):
        training.module(name).eval()


@once
def norm_forgets(training: Training, layer: str) -> None:
    """Running statistics never move."""
    for name in layers.of_kind(training.model, "batchnorm"):
        training.module(name).momentum = 1e-6


@once
def norm_lost(training: Training, layer: str) -> None:
    """Running variances of one layer are a hundredth of what they should be."""
    training.module(layer).running_var.mul_(0.01)


def twice_softmax(training: Training, layer: str) -> None:
    """The loss gets probabilities for logits."""
    usual = training.network.task.loss
    training.loss = lambda output, x, y: usual(output.softmax(-1), x, y)


def louder(training: Training, layer: str) -> None:
    """More dropout by a fiftieth per step."""
    module = training.module(layer)
    module.p = min(0.98, module.p + 0.02)


# Data.


def inputs(change: Callable[[Tensor, Training], Tensor]) -> Strike:
    """Other inputs from now on."""

    def act(training: Training, layer: str) -> None:
        training.x = change(training.x.clone(), training)

    return act


def once_input(value: float, whole: bool, training: Training, layer: str) -> None:
    """One sample, or one value of it, is not finite."""
    if training.since == 0:
        training.x = training.x.clone()
        sample = training.x[3].view(-1)
        sample[slice(None) if whole else slice(20, 21)] = value


def permuted_pixels(x: Tensor, training: Training) -> Tensor:
    """Pixels in an order that is always the same other one."""
    order = torch.from_numpy(np.random.default_rng(7).permutation(64))
    return x.flatten(1)[:, order].view_as(x)


def noise(x: Tensor, training: Training) -> Tensor:
    """Noise of three deviations."""
    return x + 3 * torch.from_numpy(training.random.normal(size=tuple(x.shape))).float()


def two_samples(training: Training, layer: str) -> None:
    """A batch of the same two samples again and again."""
    half = torch.arange(len(training.x)) % 2
    training.x, training.y = training.x[half], training.y[half]


def one_class(training: Training, layer: str) -> None:
    """Only zeros are drawn."""
    training.rows = (training.network.task.samples()[1] == 0).numpy()


def one_symbol(x: Tensor, training: Training) -> Tensor:
    """Every symbol is the same."""
    return torch.zeros_like(x)


def shuffled_targets(training: Training, layer: str) -> None:
    """Targets of other samples."""
    training.y = training.y.roll(1, 0)


def renumbered(training: Training, layer: str) -> None:
    """Every class gets the number of the next one."""
    training.y = (training.y + 1) % (int(training.network.task.samples()[1].max()) + 1)


def quiet_generator(training: Training, layer: str) -> None:
    """The generator is given zeros for noise."""
    training.memory["noise"] = 0.0
