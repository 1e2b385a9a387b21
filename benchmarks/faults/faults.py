"""The faults: small functions that break a training, and what a monitor should make of each.

Codes are those of a list of fifty faults; a letter tells apart several of one kind. Left out are
those that leave no trace in activations, gradients or updates, and those of several ranks.

A fault's function gets the training and the name of the layer it strikes, and looks at
``training.since``, the steps since it began. It draws no number from torch's generator, so that
all else stays as in the run without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.faults import layers
from benchmarks.faults.healthy import has, images
from benchmarks.faults.networks import Network, skeleton
from benchmarks.faults.training import Action, Training
from shiftwatch.records import INPUT

#: The fault sits in no layer of its own: any origin is right.
ANYWHERE = ""

Strike = Callable[[Training, str], None]


@dataclass(frozen=True)
class Fault:
    """Something that breaks a training.

    Args:
        code: its place in the list.
        kinds: kinds of alert of which any names it rightly.
        where: a key of ``layers.KINDS``, ``"<input>"``, or :data:`ANYWHERE`.
        strike: what it does, at every step from its first on.
        when: see ``training.WHEN``.
        moment: ``"start"``, or ``"middle"``, in networks with short steps also ``"late"``.
        sudden: whether it is at its full strength within a step.
        evaluated: whether it shows only where there are evaluations in between.
        fits: whether it makes sense for a network that has such a layer.
    """

    code: str
    name: str
    kinds: tuple[str, ...]
    where: str
    strike: Strike
    when: str = "begin"
    moment: str = "middle"
    sudden: bool = True
    evaluated: bool = False
    fits: Callable[[Network], bool] = lambda network: True

    def layer(self, model: nn.Module, place: float) -> str | None:
        """The module that it strikes; ``""`` for none, ``None`` where the model has no such."""
        if self.where in (ANYWHERE, INPUT):
            return ""
        return layers.at(model, self.where, place)

    def origin(self, model: nn.Module, layer: str) -> str:
        """The layer that a monitor should name, ``"<input>"``, or ``""`` where any is right."""
        return layers.seen_at(model, layer) if layer else self.where

    def action(self, layer: str) -> Action:
        """What is done to the training, from the step on at which it strikes."""

        def act(training: Training) -> None:
            if training.since >= 0:
                self.strike(training, layer)

        return Action(self.when, act)


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


def runaway(training: Training, layer: str) -> None:
    """The learning rate grows by 8 % per step."""
    for group in training.groups:
        group["lr"] *= 1.08 ** (training.since + 1)


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
    return _flip(gradient, 30) if training.since == 0 else gradient


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


def _flip(values: Tensor, bit: int) -> Tensor:
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


def family(*names: str) -> Callable[[Network], bool]:
    """Networks of these families."""
    return lambda network: network.family in names


def supervised(network: Network) -> bool:
    """Its targets are given."""
    return network.family not in ("gan", "autoencoder")


def sgd(network: Network) -> bool:
    """Its optimizer does not rescale gradients."""
    return network.momentum is not None


def gated(network: Network) -> bool:
    """It is deep enough for sigmoids to matter, and has other activations."""
    return len(layers.of_kind(skeleton(network), "activation")) >= 2


def given(network: Network) -> bool:
    """It is called as a whole, so that its input is a node."""
    return images(network) and network.family != "gan"


# Groups of kinds that name a fault rightly.
MOVED = ("update", "exploding", "nonfinite", "dead", "saturation", "mean_shift", "variance_shift", "distribution_shift")  # fmt: skip
STILL = ("frozen", "update", "vanishing")
CHANGED = ("corruption", "mean_shift", "variance_shift", "distribution_shift", "dead", "saturation", "collapse")  # fmt: skip
SHIFTED = ("mean_shift", "variance_shift", "distribution_shift", "collapse", "dead", "saturation")
DATA = ("mean_shift", "variance_shift", "distribution_shift", "collapse")

FAULTS = (
    Fault("F01", "learning rate ×10", ("update", *MOVED), ANYWHERE, partial(faster, 10, 10**9)),
    Fault("F01b", "learning rate ×100, three steps", MOVED, ANYWHERE, partial(faster, 100, 3)),
    Fault("F01c", "learning rate ×1000, one step", MOVED, ANYWHERE, partial(faster, 1000, 1)),
    Fault("F01d", "learning rate ×100 from the start", MOVED, ANYWHERE, partial(faster, 100, 10**9), moment="start"),
    Fault("F01e", "learning rate runs away", MOVED, ANYWHERE, runaway, sudden=False),
    Fault("F02", "learning rate / 10,000", STILL, ANYWHERE, partial(faster, 1e-4, 10**9)),
    Fault("F03", "learning rate of a layer ×100", MOVED, "weights", partial(layer_faster, 100, 10**9)),
    Fault("F05", "gradients never cleared", MOVED, ANYWHERE, not_cleared, sudden=False),
    Fault("F06", "layer not in the optimizer", STILL, "weights", once(forgotten)),
    Fault("F06b", "layer not in the optimizer from the start", STILL, "weights", once(forgotten), when="start", moment="start"),
    Fault("F07", "optimizer holds a copy from the start", STILL, ANYWHERE, once(detached_copy), when="start", moment="start"),
    Fault("F07b", "optimizer holds a copy", STILL, ANYWHERE, once(detached_copy)),
    Fault("F08", "gradients clipped to 1e-4", STILL, ANYWHERE, clipped, fits=sgd),
    Fault("F09", "momentum 0.999", MOVED, ANYWHERE, heavier, sudden=False),
    Fault("F10", "epsilon of Adam 1", STILL, ANYWHERE, partial(option, "eps", 1.0), fits=lambda n: n.momentum is None),
    Fault("F11", "weight decay 10", (*MOVED, "vanishing", "collapse"), ANYWHERE, partial(option, "weight_decay", 10.0)),
    Fault("F12", "loss ×10,000", MOVED, ANYWHERE, partial(enlarged, 1e4), fits=sgd),
    Fault("F12b", "loss ×1e-7", STILL, ANYWHERE, partial(enlarged, 1e-7)),
    Fault("F12c", "gradients overflow", ("nonfinite",), ANYWHERE, gradients(not_finite_gradient), "gradient"),
    Fault("F13", "weights zero from the start", ("collapse", "dead", "vanishing", "frozen", "variance_shift"), "weights", fresh(torch.zeros_like), when="start", moment="start"),
    Fault("F13b", "weights constant from the start", ("collapse", "dead", "variance_shift", "mean_shift", "saturation"), "weights", fresh(lambda w: torch.full_like(w, float(w.abs().mean()))), when="start", moment="start"),
    Fault("F14", "weights ×30 from the start", (*MOVED, "vanishing"), "weights", fresh(lambda w: 30 * w), when="start", moment="start"),
    Fault("F14b", "weights ×0.001 from the start", ("vanishing", "variance_shift", "collapse", "frozen"), "weights", fresh(lambda w: w / 1000), when="start", moment="start"),
    Fault("F15", "layer starts anew", CHANGED, "weights", initial),
    Fault("F16", "bias far down", CHANGED, "linear", pushed_down),
    Fault("F16b", "bias sinks", CHANGED, "linear", sinking, sudden=False),
    Fault("F17", "learning rate of a layer ×3000, one step", MOVED, "weights", partial(layer_faster, 3000, 1)),
    Fault("F18", "sigmoids from the start", ("vanishing", "saturation", "collapse", "mean_shift"), ANYWHERE, all_sigmoid, when="start", moment="start", fits=gated),
    Fault("F18b", "activation becomes a sigmoid", SHIFTED, "activation", operation(lambda f, x: x.sigmoid()), fits=lambda n: n.name != "dense sigmoid"),
    Fault("F19", "activation gone", SHIFTED, "activation", operation(lambda f, x: x * 1.0)),
    Fault("F20", "softmax twice", ("vanishing", "exploding", "update", "frozen"), ANYWHERE, twice_softmax, fits=supervised),
    Fault("F21", "norm gone", SHIFTED, "norm", operation(lambda f, x: x * 1.0)),
    Fault("F22", "batch norms in evaluation from the start", ("batchnorm", *MOVED), ANYWHERE, norm_evaluating, moment="start", fits=lambda n: has(n, "batchnorm")),
    Fault("F23", "running statistics never move", ("batchnorm",), ANYWHERE, norm_forgets, when="start", moment="start", evaluated=True, fits=lambda n: has(n, "batchnorm")),
    Fault("F23b", "running variance / 100", ("batchnorm", "corruption", "variance_shift"), "batchnorm", norm_lost, evaluated=True),
    Fault("F24", "evaluation mode not left", ("batchnorm", *SHIFTED), ANYWHERE, evaluating, fits=lambda n: has(n, "batchnorm") or has(n, "dropout")),
    Fault("F25", "dropout 0.95", SHIFTED, "dropout", attribute("p", lambda p: 0.95)),
    Fault("F25b", "dropout grows", SHIFTED, "dropout", louder, sudden=False),
    Fault("F26", "shortcut gone", SHIFTED, "block", attribute("shortcut", lambda s: 0.0)),
    Fault("F26b", "shortcut three times", SHIFTED, "block", attribute("shortcut", lambda s: 3.0)),
    Fault("F27", "softmax over the wrong axis", SHIFTED, "attention", attribute("axis", lambda a: -2)),
    Fault("F28", "mask gone", SHIFTED, "attention", attribute("causal", lambda c: not c)),
    Fault("F29", "attention scores ×30", SHIFTED, "attention", attribute("scale", lambda s: 30 * s)),
    Fault("F30", "embedding ×100", CHANGED, "embedding", weights(lambda w, t: 100 * w)),
    Fault("F31", "gradient of a layer ×1000", MOVED, "weights", gradients(lambda g, t: 1000 * g), "gradient"),
    Fault("F33", "input not scaled from the start", MOVED, INPUT, inputs(lambda x, t: 50 * x + 40), "batch", "start", fits=given),
    Fault("F34", "input ×4", DATA, INPUT, inputs(lambda x, t: 4 * x), "batch", fits=given),
    Fault("F34b", "input / 16", DATA, INPUT, inputs(lambda x, t: x / 16), "batch", fits=given),
    Fault("F34c", "input inverted", DATA, INPUT, inputs(lambda x, t: x.max() - x), "batch", fits=given),
    Fault("F34d", "input + 3", DATA, INPUT, inputs(lambda x, t: x + 3), "batch", fits=given),
    Fault("F34e", "pixels in another order", DATA, INPUT, inputs(permuted_pixels), "batch", fits=given),
    Fault("F34f", "noise on the input", DATA, INPUT, inputs(noise), "batch", fits=given),
    Fault("F34g", "input grows slowly", DATA, INPUT, inputs(lambda x, t: x * (1 + 0.05 * (t.since + 1))), "batch", sudden=False, fits=given),
    Fault("F35", "all samples alike", DATA, INPUT, inputs(lambda x, t: x[:1].expand_as(x).clone()), "batch", fits=lambda n: n.family != "gan"),
    Fault("F35b", "input zero", DATA, INPUT, inputs(lambda x, t: torch.zeros_like(x)), "batch", fits=given),
    Fault("F35c", "one symbol only", DATA, INPUT, inputs(one_symbol), "batch", fits=lambda n: n.task.name == "text"),
    Fault("F36", "targets of other samples", MOVED, ANYWHERE, shuffled_targets, "batch", fits=supervised),
    Fault("F36b", "classes renumbered", MOVED, ANYWHERE, renumbered, "batch", fits=supervised),
    Fault("F37", "one class only", (*DATA, "dead"), INPUT, one_class, fits=lambda n: n.task.classes),
    Fault("F38", "two samples repeated", DATA, INPUT, two_samples, "batch", fits=lambda n: n.family != "gan"),
    Fault("F39", "one sample NaN", ("nonfinite",), INPUT, partial(once_input, float("nan"), True), "batch", fits=given),
    Fault("F39b", "one value infinite", ("nonfinite",), INPUT, partial(once_input, float("inf"), False), "batch", fits=given),
    Fault("F39c", "one weight NaN", ("nonfinite", "corruption"), "weights", weights(one_missing)),
    Fault("F40", "highest bit of a weight flips", (*CHANGED, "nonfinite", "exploding"), "weights", weights(lambda w, t: _flip(w, 30))),
    Fault("F40b", "one weight 10,000", (*CHANGED, "nonfinite", "exploding"), "weights", weights(one_huge)),
    Fault("F40c", "weights ×5", (*CHANGED, "exploding"), "weights", weights(lambda w, t: 5 * w)),
    Fault("F40d", "weights ×0.1", (*CHANGED, "vanishing"), "weights", weights(lambda w, t: w / 10)),
    Fault("F40e", "weights zero", (*CHANGED, "vanishing"), "weights", weights(lambda w, t: torch.zeros_like(w))),
    Fault("F40f", "rows shuffled", CHANGED, "weights", weights(shuffled)),
    Fault("F40g", "weights negated", CHANGED, "weights", weights(lambda w, t: -w)),
    Fault("F40h", "nine of ten weights zero", CHANGED, "weights", weights(thinned)),
    Fault("F40i", "signs of weights only", CHANGED, "weights", weights(signs)),
    Fault("F40j", "weights creep up", CHANGED, "weights", creeping, sudden=False),
    Fault("F41", "bit of a gradient flips", MOVED, "weights", gradients(flipped_gradient), "gradient"),
    Fault("F41b", "gradient of a layer zero", STILL, "weights", gradients(lambda g, t: torch.zeros_like(g)), "gradient"),
    Fault("F41c", "gradients negated", MOVED, ANYWHERE, gradients(lambda g, t: -g), "gradient"),
    Fault("F43", "state of the optimizer lost", MOVED, ANYWHERE, once(reset_state)),
    Fault("F45", "weights kept in bfloat16", STILL, ANYWHERE, coarse, "end"),
    Fault("F46", "generator without noise", (*DATA, "update"), ANYWHERE, quiet_generator, fits=family("gan")),
    Fault("F47", "units alike", CHANGED, "weights", weights(alike)),
    Fault("F49", "recurrent weights ×4", CHANGED, "recurrent", weights(lambda w, t: 4 * w)),
    Fault("F50", "layer's output ×3", SHIFTED, "linear", operation(lambda f, x: 3 * f(x))),
    Fault("F50b", "layer's output rounded to whole numbers", SHIFTED, "linear", operation(lambda f, x: f(x) + (f(x).round() - f(x)).detach())),
)  # fmt: skip

#: Every fault by its code.
BY_CODE = {fault.code: fault for fault in FAULTS}
