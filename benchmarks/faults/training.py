"""One training, step by step, and the moments at which something may be done to it.

A situation and a fault are lists of actions; an observer looks on. None of them knows the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults.networks import Forgers, Network

#: Factor of the learning rate at a step of so many.
Schedule = Callable[[int, int], float]

#: When an action takes place: once before the first step, before the batch is drawn, with the
#: batch, between backward pass and update, and after the observer has seen the step.
WHEN = ("start", "begin", "batch", "gradient", "end")

#: Optimizers for parameters in groups, each with its rate, where the usual one will not do.
Optimize = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


class Observer(Protocol):
    """What looks on and says in the end what it found."""

    def after_step(self, loss: Tensor, accuracy: float) -> None:
        """A step has been made.

        Args:
            loss: of the batch, a scalar.
            accuracy: share of its targets that the model put first; NaN where it predicts none.
        """

    def close(self) -> list[dict[str, Any]]:
        """No more steps; alerts as :class:`shiftwatch.Alert` has them, as plain values."""


#: Begins to look on; called before the first step.
Attach = Callable[[nn.Module, Sequence[torch.optim.Optimizer]], Observer]


@dataclass
class Training:
    """All that an action may lay its hands on.

    Args:
        step: counted from 0.
        strikes: step at which the fault begins; ``None`` in a healthy run.
        parts: pieces in which a batch is accumulated.
        enlarged: factor on the loss before it is sent back.
        clip: largest norm of all gradients; ``None`` for any.
        cleared: whether gradients are set back before each step.
        applied: whether the optimizer makes its step.
        lower: whether the model computes in bfloat16.
        rows: bool[samples], those that may be drawn; ``None`` for all.
        accuracy: share of the last batch's targets that the model put first; NaN where it
            predicts none.
        memory: what an action keeps from step to step, under its name.
    """

    network: Network
    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    schedule: Schedule
    steps: int
    size: int
    strikes: int | None = None
    step: int = 0
    x: Tensor = field(default_factory=lambda: torch.zeros(0))
    y: Tensor = field(default_factory=lambda: torch.zeros(0))
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] = field(init=False)
    parts: int = 1
    enlarged: float = 1.0
    clip: float | None = None
    cleared: bool = True
    applied: bool = True
    lower: bool = False
    rows: np.ndarray | None = None
    accuracy: float = math.nan
    memory: dict[str, Any] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=np.random.default_rng)

    def __post_init__(self) -> None:
        self.loss = self.network.task.loss

    @property
    def since(self) -> int:
        """Steps since the fault began, 0 at its first; negative before."""
        return self.step - (self.steps if self.strikes is None else self.strikes)

    @property
    def groups(self) -> Iterator[dict[str, Any]]:
        """Parameter groups of all optimizers."""
        for optimizer in self.optimizers:
            yield from optimizer.param_groups

    def module(self, name: str) -> Any:
        """A module by its dotted name."""
        return self.model.get_submodule(name)


def cosine(step: int, steps: int) -> float:
    """A warm-up of 24 steps, then half a cosine to nothing."""
    return min(1.0, (step + 1) / 24) * (1 + math.cos(math.pi * step / steps)) / 2


def constant(step: int, steps: int) -> float:
    """The same all along."""
    return 1.0


@dataclass(frozen=True)
class Action:
    """Something that is done to a training at every step, or once at the start."""

    when: str
    do: Callable[[Training], None]


@dataclass(frozen=True)
class Plan:
    """How a network is trained where nothing is wrong.

    Args:
        rate: factor on the network's own learning rate.
        weights: seed of the initial weights; ``None`` for that of all else.
        optimize: makes the optimizer; ``None`` for the network's own kind.
        groups: gives parameter groups with a ``rate``, a factor; ``None`` for one of all.
    """

    network: Network
    seed: int
    steps: int = 240
    size: int = 48
    schedule: Schedule = constant
    rate: float = 1.0
    weights: int | None = None
    optimize: Optimize | None = None
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None


@dataclass(frozen=True)
class Trace:
    """What is left of a training.

    Args:
        losses: float64[steps].
        outputs: the model's output on samples that are always the same, in evaluation mode, after
            the steps that were asked for: step to float64[samples, values].
        alerts: what the observer found.
    """

    losses: np.ndarray
    outputs: dict[int, np.ndarray]
    alerts: list[dict[str, Any]]


def train(
    plan: Plan,
    actions: Sequence[Action] = (),
    *,
    strikes: int | None = None,
    attach: Attach | None = None,
    probes: Sequence[int] = (),
    other: tuple[int, int] | None = None,
) -> Trace:
    """Train as planned, with what the actions do to it.

    Args:
        strikes: step from which on a fault's actions take place.
        attach: brings an observer.
        probes: steps after which the output is asked for. Not beside an observer, which
            would take it for an evaluation.
        other: a step, and a number of 1 or more: from there on other batches are drawn.
    """
    training = _prepare(plan, strikes)
    act = {when: [a.do for a in actions if a.when == when] for when in WHEN}
    for do in act["start"]:
        do(training)
    observer = attach(training.model, training.optimizers) if attach is not None else None
    losses, outputs = np.full(plan.steps, np.nan), {}
    for step in range(plan.steps):
        training.step = step
        salt = other[1] if other is not None and step >= other[0] else 0
        training.random = np.random.default_rng((plan.seed, salt, step))
        for group in training.groups:
            group["lr"] = group["peak"] * plan.schedule(step, plan.steps)
        for do in act["begin"]:
            do(training)
        _draw(training)
        for do in act["batch"]:
            do(training)
        loss = _learn(training, act["gradient"])
        losses[step] = float(loss.detach())
        if observer is not None:
            observer.after_step(loss, training.accuracy)
        for do in act["end"]:
            do(training)
        if step in probes:
            outputs[step] = _output(training)
    alerts = observer.close() if observer is not None else []
    return Trace(losses, outputs, alerts)


def _prepare(plan: Plan, strikes: int | None) -> Training:
    """Model and optimizers, the same for the same seed."""
    torch.manual_seed(plan.seed if plan.weights is None else plan.weights)
    network = plan.network
    model = network.build()
    parts = [model]
    if isinstance(model, Forgers):
        parts = [model.generator, model.discriminator]
    split = plan.groups or (lambda part: [{"params": list(part.parameters()), "rate": 1.0}])
    optimizers = []
    for part in parts:
        groups = split(part)
        for group in groups:
            group["lr"] = group["peak"] = network.rate * plan.rate * group.pop("rate")
        optimizers.append((plan.optimize or _usual(network))(groups))
    return Training(
        network, model, optimizers, plan.schedule, plan.steps, plan.size, strikes=strikes
    )


def _usual(network: Network) -> Optimize:
    """The optimizer that a network is trained with."""
    momentum, decay = network.momentum, network.decay
    if momentum is not None:
        return lambda groups: torch.optim.SGD(groups, momentum=momentum, weight_decay=decay)
    if decay:
        return lambda groups: torch.optim.AdamW(groups, weight_decay=decay)
    return lambda groups: torch.optim.Adam(groups)


def _draw(training: Training) -> None:
    """A batch at random, a copy of its own."""
    x, y = training.network.task.samples()
    rows = np.arange(len(x)) if training.rows is None else np.flatnonzero(training.rows)
    chosen = torch.from_numpy(training.random.choice(rows, training.size))
    training.x, training.y = x[chosen], y[chosen]


def _learn(training: Training, before_update: Sequence[Callable[[Training], None]]) -> Tensor:
    """One step of learning; gives back the loss."""
    model = training.model
    if isinstance(model, Forgers):
        return _forge(training, model, before_update)
    if training.cleared:
        training.optimizers[0].zero_grad()
    total, right = torch.zeros(()), list[Tensor]()
    for x, y in zip(
        training.x.chunk(training.parts), training.y.chunk(training.parts), strict=True
    ):
        with torch.autocast("cpu", torch.bfloat16) if training.lower else nullcontext():
            output = model(x)
        loss = training.loss(output.float(), x, y) / training.parts
        (loss * training.enlarged).backward()
        total = total + loss.detach()
        if training.network.task.predicts:
            right.append((output.detach().argmax(-1) == y).flatten())
    training.accuracy = float(torch.cat(right).float().mean()) if right else math.nan
    _update(training, training.optimizers[0], model, before_update)
    return total


def _forge(
    training: Training, model: Forgers, before_update: Sequence[Callable[[Training], None]]
) -> Tensor:
    """The discriminator's step, then the generator's; gives back the latter's loss."""
    first, second = training.optimizers
    noise = training.random.normal(size=(len(training.x), *training.network.task.noise))
    fake = model.generator(torch.from_numpy(noise).float() * training.memory.get("noise", 1.0))
    if training.cleared:
        second.zero_grad()
    real = model.discriminator(training.x.flatten(1))
    loss = F.softplus(-real).mean() + F.softplus(model.discriminator(fake.detach())).mean()
    (loss * training.enlarged).backward()
    _update(training, second, model.discriminator, before_update)
    if training.cleared:
        first.zero_grad()
    loss = F.softplus(-model.discriminator(fake)).mean()
    (loss * training.enlarged).backward()
    _update(training, first, model.generator, before_update)
    return loss


def _update(
    training: Training,
    optimizer: torch.optim.Optimizer,
    part: nn.Module,
    before_update: Sequence[Callable[[Training], None]],
) -> None:
    """Let gradients be changed, clip them, and make the optimizer's step."""
    for do in before_update:
        do(training)
    if training.clip is not None:
        nn.utils.clip_grad_norm_(part.parameters(), training.clip)
    if training.applied:
        optimizer.step()


@torch.no_grad()
def _output(training: Training) -> np.ndarray:
    """What the model makes of 96 samples that are always the same, mode and state left alone."""
    model, task = training.model, training.network.task
    modes = {module: module.training for module in model.modules()}
    model.eval()
    x = task.samples()[0][:96]
    if task.noise:
        rng = np.random.default_rng(96)
        x = torch.from_numpy(rng.normal(size=(96, *task.noise))).float()
    output = model(x).double().flatten(1).numpy()
    for module, mode in modes.items():
        module.training = mode
    return np.asarray(output)
