"""The faults: what breaks a training, and what a monitor should make of it.

Codes are those of a list of fifty faults; a letter tells apart several of one kind. Left out are
those that leave no trace in activations, gradients or updates, and those of several ranks; a
collapsing router of experts, and plasticity that is lost over thousands of steps, for their time; and a
schedule begun anew at a resume, which nobody can tell from a warm restart.

What each does is in :mod:`benchmarks.faults.strikes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from benchmarks.faults import layers
from benchmarks.faults.healthy import has, images, single
from benchmarks.faults.networks import Network, skeleton
from benchmarks.faults.strikes import (
    Strike,
    alike,
    all_sigmoid,
    attribute,
    clipped,
    coarse,
    creeping,
    detached_copy,
    enlarged,
    evaluating,
    faster,
    flip,
    flipped_gradient,
    forgotten,
    fresh,
    gradients,
    heavier,
    initial,
    inputs,
    layer_faster,
    louder,
    noise,
    norm_evaluating,
    norm_forgets,
    norm_lost,
    not_cleared,
    not_finite_gradient,
    once,
    once_input,
    one_class,
    one_huge,
    one_missing,
    one_symbol,
    operation,
    option,
    permuted_pixels,
    pushed_down,
    quiet_generator,
    renumbered,
    reset_state,
    runaway,
    shuffled,
    shuffled_targets,
    signs,
    sinking,
    thinned,
    twice_softmax,
    two_samples,
    unwarmed,
    weights,
)
from benchmarks.faults.training import Action, Training
from shiftwatch.records import INPUT

#: The fault sits in no layer of its own: any origin is right.
ANYWHERE = ""


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
        told: whether it can be told from a training as it should be; a fault that cannot is
            reported apart.
        evaluated: whether it shows only where there are evaluations in between.
        anew: whether it is another beginning of the network, which has to be told from other
            beginnings that are healthy.
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
    told: bool = True
    evaluated: bool = False
    anew: bool = False
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
    """It is deep enough for sigmoids to matter, has other activations, and no norms before them."""
    deep = len(layers.of_kind(skeleton(network), "activation")) >= 2
    return deep and not has(network, "norm") and not_sigmoid(network)


def not_sigmoid(network: Network) -> bool:
    """No activation of it is a sigmoid already."""
    return not any(isinstance(module, nn.Sigmoid) for module in skeleton(network).modules())


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
    # Where a branch ends beside a shortcut it is what healthy nets do (H39).
    Fault("F13", "weights zero from the start", ("collapse", "dead", "vanishing", "frozen", "variance_shift"), "carrying", fresh(torch.zeros_like), when="start", moment="start", anew=True),
    Fault("F13b", "weights constant from the start", ("collapse", "dead", "variance_shift", "mean_shift", "saturation"), "weights", fresh(lambda w: torch.full_like(w, float(w.abs().mean()))), when="start", moment="start", anew=True),
    Fault("F14", "weights ×30 from the start", (*MOVED, "vanishing"), "weights", fresh(lambda w: 30 * w), when="start", moment="start", anew=True),
    Fault("F14b", "weights ×0.001 from the start", ("vanishing", "variance_shift", "collapse", "frozen"), "weights", fresh(lambda w: w / 1000), when="start", moment="start", anew=True),
    Fault("F15", "layer starts anew", CHANGED, "weights", initial),
    Fault("F16", "bias far down", CHANGED, "linear", pushed_down),
    Fault("F16b", "bias sinks", CHANGED, "linear", sinking, sudden=False),
    Fault("F17", "learning rate of a layer ×3000, one step", MOVED, "weights", partial(layer_faster, 3000, 1)),
    # Behind norms they are an architecture as healthy as others, and one of these networks.
    Fault("F18", "sigmoids from the start", ("vanishing", "saturation", "collapse", "mean_shift"), ANYWHERE, all_sigmoid, when="start", moment="start", anew=True, fits=gated),
    Fault("F18b", "activation becomes a sigmoid", SHIFTED, "activation", operation(lambda f, x: x.sigmoid()), fits=not_sigmoid),
    Fault("F19", "activation gone", SHIFTED, "activation", operation(lambda f, x: x * 1.0)),
    Fault("F20", "softmax twice", ("vanishing", "exploding", "update", "frozen"), ANYWHERE, twice_softmax, fits=supervised),
    Fault("F21", "norm gone", SHIFTED, "norm", operation(lambda f, x: x * 1.0)),
    Fault("F22", "batch norms in evaluation from the start", ("batchnorm", *MOVED), ANYWHERE, norm_evaluating, moment="start", fits=lambda n: has(n, "batchnorm")),
    Fault("F23", "running statistics never move", ("batchnorm",), ANYWHERE, norm_forgets, when="start", moment="start", evaluated=True, fits=lambda n: has(n, "batchnorm") and single(n)),
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
    # A new task with old inputs, which is as healthy as a change of the classes (H23b).
    Fault("F36b", "classes renumbered", MOVED, ANYWHERE, renumbered, "batch", told=False, fits=supervised),
    Fault("F37", "one class only", (*DATA, "dead"), INPUT, one_class, fits=lambda n: n.task.classes),
    Fault("F38", "two samples repeated", DATA, INPUT, two_samples, "batch", fits=lambda n: n.family != "gan"),
    Fault("F39", "one sample NaN", ("nonfinite",), INPUT, partial(once_input, float("nan"), True), "batch", fits=given),
    Fault("F39b", "one value infinite", ("nonfinite",), INPUT, partial(once_input, float("inf"), False), "batch", fits=given),
    Fault("F39c", "one weight NaN", ("nonfinite", "corruption"), "weights", weights(one_missing)),
    Fault("F40", "highest bit of a weight flips", (*CHANGED, "nonfinite", "exploding"), "weights", weights(lambda w, t: flip(w, 30))),
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
    Fault("F04", "no warm-up at a rate that needs one", (*MOVED, "collapse"), ANYWHERE, partial(unwarmed, 12, 24), moment="start", fits=family("transformer")),
)  # fmt: skip

#: Every fault by its code.
BY_CODE = {fault.code: fault for fault in FAULTS}
