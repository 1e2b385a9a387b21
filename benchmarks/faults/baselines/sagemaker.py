"""Amazon SageMaker Debugger: its built-in rules for neural networks, with their default limits.

The rules are evaluated by closed software; what is written here follows their documentation. Left out are
TensorVariance, which has no default limit, and those about validation, images, trees and idle
jobs.

References:
    Rauschmayr et al. (2021), "Amazon SageMaker Debugger", MLSys.
    https://docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html
    https://github.com/awslabs/sagemaker-debugger-rulesconfig: tensors are saved at every 500th step.
"""

from __future__ import annotations

import numpy as np

from benchmarks.faults.baselines.recording import Recording
from benchmarks.faults.baselines.signs import Sign, of_layers, of_run


def sagemaker(r: Recording, interval: int = 500) -> list[Sign]:
    """All rules, on the tensors of every so-manieth step.

    They are given all weights, gradients and outputs, which a user must ask for. A tensor that is
    not saved is taken to be unchanged if it was at every step in between.
    """
    at = np.arange(0, r.steps, interval)
    rules = (_vanishing_gradient, _exploding_tensor, _dead_relu, _saturated_activation)
    rules += (_poor_initialization, _unchanged_tensor, _all_zero, _loss_not_decreasing)
    if interval == 1:  # as its documentation demands
        rules += (_weight_update_ratio,)
    return [sign for rule in rules for sign in rule(r, at)]


def _vanishing_gradient(r: Recording, at: np.ndarray) -> list[Sign]:
    """Mean of a gradient's absolute values below 1e-7."""
    value = r["gradient.mean_abs"][at]
    return of_layers(
        r, value < 1e-7, "vanishing", "gradient", "VanishingGradient",
        value=value, limit=1e-7, steps=at,
    )  # fmt: skip


def _exploding_tensor(r: Recording, at: np.ndarray) -> list[Sign]:
    """Any value that is not finite."""
    return [
        sign
        for tensor in ("output", "gradient", "weight")
        for sign in of_layers(
            r, r[f"{tensor}.finite"][at] == 0, "nonfinite", tensor, "ExplodingTensor", steps=at
        )
    ]


def _dead_relu(r: Recording, at: np.ndarray) -> list[Sign]:
    """More than half of a layer's units active in less than a hundredth."""
    value = r["output.idle"][at]
    return of_layers(
        r, (value > 0.5) & r.with_activation("relu"), "dead", "output", "DeadRelu",
        value=value, limit=0.5, steps=at,
    )  # fmt: skip


def _saturated_activation(r: Recording, at: np.ndarray) -> list[Sign]:
    """More than half of a layer's units with hardly an input within the limits."""
    value = r["gate.saturated"][at]
    return of_layers(
        r, (value > 0.5) & r.with_activation("tanh", "sigmoid"), "saturation", "input",
        "SaturatedActivation", value=value, limit=0.5, steps=at,
    )  # fmt: skip


def _poor_initialization(r: Recording, at: np.ndarray) -> list[Sign]:
    """In the first ten steps: variances of the inputs of ReLUs a factor of ten apart, a gradient
    whose 5th and 95th percentile are less than 0.001 apart, or no smaller loss in five steps.
    """
    at, rule = at[at < 10], "PoorWeightInitialization"
    signs = []
    relu = r.with_activation("relu")
    if relu.any():
        variance = r["gate.variance"][at][:, relu]
        ratio = variance.max(1) / np.maximum(variance.min(1), 1e-30)
        signs += of_run(ratio > 10, "variance_shift", rule, value=ratio, limit=10, steps=at)
    spread = r["gradient.spread"][at]
    signs += of_layers(
        r, spread < 1e-3, "vanishing", "gradient", rule, value=spread, limit=1e-3, steps=at
    )
    best = np.minimum.accumulate(r.loss)
    stuck = np.array([bool(t >= 5 and best[t] >= best[t - 5]) for t in at])
    return signs + of_run(stuck, "loss", rule, steps=at)


def _unchanged_tensor(r: Recording, at: np.ndarray) -> list[Sign]:
    """A weight that ``numpy.allclose`` takes for the same at three saved steps."""
    changes = np.cumsum(r["weight.same"] == 0, axis=0)[at]
    fired = np.zeros(changes.shape, bool)
    fired[2:] = (changes[2:] == changes[:-2]) & ~np.isnan(r["weight.same"][at][2:])
    return of_layers(r, fired, "frozen", "weight", "UnchangedTensor", steps=at)


def _all_zero(r: Recording, at: np.ndarray) -> list[Sign]:
    """Every value of a tensor zero; of outputs those of ReLUs, which are a collection."""
    every = np.ones(len(r.layers), bool)
    parts = (
        ("weight", "collapse", every),
        ("gradient", "vanishing", every),
        ("output", "dead", r.with_activation("relu")),
    )
    return [
        sign
        for tensor, kind, which in parts
        for sign in of_layers(
            r, (r[f"{tensor}.zero"][at] == 1) & which, kind, tensor, "AllZero", steps=at
        )
    ]


def _loss_not_decreasing(r: Recording, at: np.ndarray) -> list[Sign]:
    """A loss that did not fall by a thousandth, in ten steps or from one saved step to the next."""
    at = at[:: max(1, 10 // (at[1] - at[0]))] if len(at) > 1 else at
    fired = np.zeros(len(at), bool)
    fired[1:] = ~(r.loss[at[1:]] < 0.999 * r.loss[at[:-1]])
    return of_run(fired, "loss", "LossNotDecreasing", value=r.loss[at], steps=at)


def _weight_update_ratio(r: Recording, at: np.ndarray) -> list[Sign]:
    """An update of ten times the weight, or of less than 1e-8 of it."""
    value, rule = r["weight.update"][at], "WeightUpdateRatio"
    large = of_layers(r, value > 10, "update", "weight", rule, value=value, limit=10, steps=at)
    return large + of_layers(
        r, value < 1e-8, "frozen", "weight", rule, value=value, limit=1e-8, steps=at
    )
