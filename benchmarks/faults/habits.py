"""What people do to a training on purpose: schedules, actions, changes of the batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults import layers
from benchmarks.faults.training import Action, Training

# Schedules: the factor of the learning rate at a step of so many.


def warm(step: int, steps: int) -> float:
    """Up in a line over a third of the run."""
    return min(1.0, (step + 1) / (steps / 3))


def stairs(step: int, steps: int) -> float:
    """A tenth after each third."""
    return float(0.1 ** (3 * step // steps))


def restarts(step: int, steps: int) -> float:
    """Four half cosines, each from the top."""
    part = steps // 4
    return (1 + math.cos(math.pi * (step % part) / part)) / 2 + 1e-4


def one_cycle(step: int, steps: int) -> float:
    """Up for a third of the run, from a tenth to two and a half, then down to next to nothing."""
    share = step / steps
    if share < 0.3:
        return 0.1 + 2.4 * share / 0.3
    return 2.5 * max(1e-3, 1 - (share - 0.3) / 0.7)


def triangles(step: int, steps: int) -> float:
    """Up and down between a tenth and double, four times."""
    part = steps / 4
    return 0.1 + 1.9 * (1 - abs(2 * (step % part) / part - 1))


def jump(factor: float, step: int, steps: int) -> float:
    """Another rate from the middle of the run on."""
    return factor if step > steps // 2 else 1.0


# What is done during the training.


def every(count: int, do: Callable[[Training], None]) -> Action:
    """At the end of every so-manieth step."""

    def act(training: Training) -> None:
        if training.step % count == count - 1:
            do(training)

    return Action("end", act)


def once(do: Callable[[Training], None], share: float = 0.5, when: str = "begin") -> Action:
    """At one step, at this share of the run."""

    def act(training: Training) -> None:
        if training.step == round(share * training.steps):
            do(training)

    return Action(when, act)


def fixed(**values: Any) -> Action:
    """Fields of the training that are other than usual all along."""

    def act(training: Training) -> None:
        for name, value in values.items():
            setattr(training, name, value)

    return Action("start", act)


def sized(size: Callable[[int, int], int]) -> Action:
    """A size of the batch that depends on step and steps."""

    def act(training: Training) -> None:
        training.size = size(training.step, training.steps)

    return Action("begin", act)


def on_batch(
    change: Callable[[Training], Tensor], since: float = 0.0, until: float = 1.0
) -> Action:
    """The batch is changed between these shares of the run."""

    def act(training: Training) -> None:
        if since * training.steps <= training.step < until * training.steps:
            training.x = change(training)

    return Action("batch", act)


def evaluate(training: Training) -> None:
    """Three batches in evaluation mode, and back."""
    model = training.model
    model.eval()
    with torch.no_grad():
        x = training.network.task.samples()[0]
        for i in range(3):
            model(x[100 * i : 100 * (i + 1)])
    model.train()


def trunk_only(thawed: float, training: Training) -> None:
    """All but the last layer with weights stand still until this share of the run."""
    free = training.step >= thawed * training.steps
    head = list(training.model.children())[-1]
    mine = {id(p) for p in head.parameters()}
    for parameter in training.model.parameters():
        parameter.requires_grad_(free or id(parameter) in mine)


def freeze_norm(training: Training) -> None:
    """Running statistics and affine parameters of batch norms stay as they are."""
    for name in layers.of_kind(training.model, "batchnorm"):
        training.module(name).eval()
    for parameter in layers.parameters_of(training.model, "batchnorm"):
        parameter.requires_grad_(False)


def average(training: Training) -> None:
    """Keep an average of the weights, as for an evaluation with it."""
    now = [p.detach().clone() for p in training.model.parameters()]
    kept = training.memory.setdefault("average", now)
    training.memory["average"] = [a.lerp(p, 0.05) for a, p in zip(kept, now, strict=True)]


@torch.no_grad()
def put(training: Training, values: list[Tensor]) -> list[Tensor]:
    """Other weights into the model; gives back those that were there."""
    old = [p.detach().clone() for p in training.model.parameters()]
    for parameter, value in zip(training.model.parameters(), values, strict=True):
        parameter.copy_(value)
    return old


def evaluate_average(training: Training) -> None:
    """The average goes in, is evaluated, and goes out again."""
    old = put(training, training.memory["average"])
    evaluate(training)
    put(training, old)


def adopt_average(training: Training) -> None:
    """Training goes on from the average."""
    put(training, training.memory["average"])


def resume(training: Training) -> None:
    """Model and optimizers are saved and loaded."""
    training.model.load_state_dict(copy.deepcopy(training.model.state_dict()))
    for optimizer in training.optimizers:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


@torch.no_grad()
def prune(training: Training) -> None:
    """The smallest 30 % of the weights of all layers become zero."""
    for name in layers.of_kind(training.model, "weights"):
        weight = layers.weight(training.module(name))
        weight.mul_(weight.abs() > weight.abs().flatten().quantile(0.3))


@torch.no_grad()
def close_branches(training: Training) -> None:
    """Every branch beside a shortcut begins at zero."""
    for name in layers.of_kind(training.model, "block"):
        layers.ending(training.model, name)[0].weight.zero_()


def drop_branches(training: Training) -> None:
    """A tenth of the branches is left out at each step."""
    for name in layers.of_kind(training.model, "block"):
        block = training.module(name)
        kept = training.random.random() > 0.1
        training.memory.setdefault(name, block.inner.forward)
        full = training.memory[name]
        block.inner.forward = full if kept else torch.zeros_like


def drop_more(training: Training) -> None:
    """Dropout from the usual to twice that."""
    for name in layers.of_kind(training.model, "dropout"):
        training.module(name).p *= 2


def skip_some(training: Training) -> None:
    """Every sixtieth step is left out, as a loss scaler does after an overflow."""
    training.applied = training.step % 60 != 30


def only(classes: Callable[[int, int], list[int]]) -> Action:
    """Classes that are drawn, by step and steps."""

    def act(training: Training) -> None:
        y = training.network.task.samples()[1].numpy()
        training.rows = np.isin(y, classes(training.step, training.steps))

    return Action("begin", act)


def few(training: Training) -> None:
    """Only every twentieth sample is ever drawn."""
    number = len(training.network.task.samples()[0])
    training.rows = np.arange(number) % 20 == 0


def rare(training: Training) -> None:
    """Classes 0 to 4 are ten times as frequent as the others."""
    y = training.network.task.samples()[1].numpy()
    rows = np.random.default_rng(0).random(len(y))
    training.rows = (y < 5) | (rows < 0.1)


def mislabelled(share: float, training: Training) -> None:
    """Some targets belong to other samples."""
    wrong = torch.from_numpy(training.random.random(len(training.y)) < share)
    training.y = torch.where(wrong, training.y.flip(0), training.y)


def hard_batch(training: Training) -> None:
    """One batch with targets of other samples: the loss jumps, and recovers by itself."""
    training.y = training.y.flip(0)


# Changes of the batch's inputs.


def noisy(training: Training) -> Tensor:
    """Noise of 0.3 deviations."""
    noise = training.random.normal(size=tuple(training.x.shape)) * 0.3
    return training.x + torch.from_numpy(noise).float()


def shifted(training: Training) -> Tensor:
    """Each batch by up to one pixel."""
    across, down = training.random.integers(-1, 2, 2).tolist()
    return training.x.roll((across, down), (-1, -2))


def erased(training: Training) -> Tensor:
    """A square of 3 × 3 pixels is blank."""
    a, b = training.random.integers(0, 5, 2).tolist()
    x = training.x.clone()
    x[..., a : a + 3, b : b + 3] = x.min()
    return x


def mixed(training: Training) -> Tensor:
    """Mixup (Zhang et al. 2018), with the target of the larger part."""
    share = max(float(training.random.beta(0.4, 0.4)), 0.5)
    share = max(share, 1 - share)
    return share * training.x + (1 - share) * training.x.flip(0)


def blurred(training: Training) -> Tensor:
    """Each pixel the mean of itself and its neighbour."""
    return 0.7 * training.x + 0.3 * training.x.roll(1, -1)


def cropped(training: Training) -> Tensor:
    """6 × 6 pixels of 8 × 8."""
    return training.x[..., 1:7, 1:7]


def shortened(training: Training) -> Tensor:
    """Half the sequence."""
    half = training.x.shape[1] // 2
    if training.network.task.classes:
        return training.x[:, 2 : 2 + half]
    training.y = training.y[:, :half]
    return training.x[:, :half]


def padded(training: Training) -> Tensor:
    """Sequences of any length from two thirds on, the rest symbol 0, which is no target."""
    x, length = training.x.clone(), training.x.shape[1]
    ends = torch.from_numpy(training.random.integers(2 * length // 3, length + 1, len(x)))
    beyond = torch.arange(length) >= ends[:, None]
    x[beyond] = 0
    training.y = training.y.masked_fill(beyond, -100)
    return x


def smoothed(output: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy with a tenth of the target spread over all classes."""
    return F.cross_entropy(output.reshape(-1, output.shape[-1]), y.reshape(-1), label_smoothing=0.1)


def bandit(output: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Regret of a guess drawn from the outputs; its gradient is that of the policy.

    Only whether the guess was right is known, not what would have been (Williams 1992).
    """
    guess = torch.distributions.Categorical(logits=output).sample()
    reward = (guess == y).float()
    chosen = output.log_softmax(-1).gather(-1, guess[..., None])[..., 0]
    policy = -((reward - reward.mean()) * chosen).mean()
    return 1 - reward.mean() + policy - policy.detach()


# Adapters.


class Adapted(nn.Module):
    """A dense layer that is frozen, and a narrow one beside it that begins at zero: LoRA (Hu et al. 2021)."""

    def __init__(self, frozen: nn.Linear, rank: int = 8) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(x) + self.up(self.down(x))
        return out


def adapt(training: Training) -> None:
    """All dense layers but the head learn by adapters alone."""
    model = training.model
    for name in layers.of_kind(model, "linear")[:-1]:
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], Adapted(model.get_submodule(name)))
    (group,) = training.groups
    group["params"] = [p for p in model.parameters() if p.requires_grad]


# Optimizers.


def by_depth(model: nn.Module) -> list[dict[str, Any]]:
    """Each module with parameters learns 1.3 times as fast as the one before it."""
    owned = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    groups, taken = [], set[int]()
    for i, module in enumerate(reversed(owned)):
        mine = [p for p in module.parameters(recurse=False) if id(p) not in taken]
        taken |= {id(p) for p in mine}
        if mine:
            groups.append({"params": mine, "rate": 1.3**-i})
    return groups
