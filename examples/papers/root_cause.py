"""Where a fault began: asked of drift, of the order of alarms, of a layer's own part, and of shiftwatch.

python examples/papers/root_cause.py [--quick]

Causal inference for root cause analysis (Li et al. 2022, KDD) takes for the cause what changed although
what it depends on did not. For a layer that can be asked exactly, by replaying it on inputs that were
kept: Y - Y' = [f(X) - f(X')] + [f(X') - f'(X')], where X', Y' are its input and output at an earlier check
on the same images (in evaluation mode), f' what it computed then. The second bracket is its own part.

Here networks of eight layers learn the digits, without and with BatchNorm, and eight kinds of fault strike
their layers 1, 3 or 5, counted from 0. Faults that change neither loss nor function beyond what healthy runs
differ are left out (benchmarks/faults/oracle.py). Four methods are told between which two checks
something broke, 1, 10 or 50 steps apart, and name a layer: the one that drifted most; the first in order
whose drift is over a limit; the one whose drift gained most over that of its input; the one whose own part grew
most. shiftwatch is told nothing, keeps no input and replays nothing: what counts is the origin of its first
incident after the fault, and a fault that it misses counts against it.
"""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import torch
from paper import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    Claim,
    main,
    panels,
    plain,
    share,
)  # fmt: skip
from torch import nn

from benchmarks.faults import layers, oracle
from benchmarks.faults.data import IMAGES
from benchmarks.faults.faults import BY_CODE
from benchmarks.faults.intervals import clopper_pearson
from benchmarks.faults.networks import Network, skeleton
from benchmarks.faults.networks.dense import dense
from benchmarks.faults.observers import Shiftwatch, silence
from benchmarks.faults.training import Plan, train

#: Layer starts anew, bias far down, its rate × 3,000, sigmoid for ReLU, no ReLU, a bit flips, weights × 5,
#: rows shuffled.
FAULTS = ("F15", "F16", "F17", "F18b", "F19", "F40", "F40c", "F40f")
ORIGINS, LAYERS = (1, 3, 5), 8
STEPS, STRIKES, SIBLINGS = 208, 140, 3
APART = (1, 10, 50)  # steps from one check to the next
IMAGES_SHOWN = 96  # those of the oracle
PAIRS, LIMIT = 8, 5.0  # healthy pairs of checks that say what is usual, and how unusual is too much
METHODS = ("largest drift", "first over a limit", "drift gain", "local replay")
NETWORKS = {
    "without BatchNorm": Network(
        "eight layers", "dense", partial(dense, (64, *[64] * 7)), IMAGES, 1e-3
    ),
    "with BatchNorm": Network(
        "eight layers, BatchNorm", "dense", partial(dense, (64, *[64] * 7), nn.ReLU, nn.BatchNorm1d),
        IMAGES, 1e-3,
    ),
}  # fmt: skip


def blocks(model: nn.Sequential) -> list[list[str]]:
    """Names of the modules of each layer: a linear one, with norm and activation behind it."""
    found: list[list[str]] = []
    for name, module in model.named_children():
        if isinstance(module, nn.Linear):
            found.append([])
        if found:
            found[-1].append(name)
    return found


def distance(now: torch.Tensor, before: torch.Tensor) -> float:
    """Root mean square of the difference over that of what was before; 1e30 where that is not finite."""
    now, before = now.double(), before.double()
    apart = (now - before).square().mean().sqrt() / before.square().mean().sqrt()
    return min(float(apart.nan_to_num(1e30)), 1e30)


class Looking:
    """shiftwatch, and beside it the same images shown to a copy of the model after some steps.

    Args:
        pairs: steps after which drift and own part of each layer are taken, each with the earlier
            step to compare with.
        moments: steps after which the oracle wants outputs.
    """

    def __init__(self, pairs, moments) -> None:
        self.pairs, self.moments = pairs, moments
        self.wanted = {step for pair in pairs for step in pair}
        self.kept: dict[int, tuple[list, list]] = {}
        self.drift, self.own, self.outputs = {}, {}, {}

    def __call__(self, model, optimizers):
        self.model, self.step = model, -1
        self.shiftwatch = Shiftwatch(model, optimizers)
        return self

    def after_step(self, loss, accuracy) -> None:
        self.shiftwatch.after_step(loss, accuracy)
        self.step += 1
        if self.step in self.wanted | self.moments:
            self.show(deepcopy(self.model).eval(), IMAGES.samples()[0][:IMAGES_SHOWN].flatten(1))

    @torch.no_grad()
    def show(self, copy, x) -> None:
        """Inputs and outputs of each layer; and its outputs for inputs of earlier steps."""
        parts = [nn.Sequential(*(copy.get_submodule(n) for n in names)) for names in blocks(copy)]
        inputs, outputs = [], []
        for part in parts:
            inputs.append(x)
            outputs.append(x := part(x))
        self.kept[self.step] = inputs, outputs
        self.outputs[self.step] = x.double().numpy()
        for pair in (pair for pair in self.pairs if pair[1] == self.step):
            earlier, usual = self.kept[pair[0]]
            again = [part(x) for part, x in zip(parts, earlier, strict=True)]
            self.drift[pair] = list(map(distance, outputs, usual))
            self.own[pair] = list(map(distance, again, usual))

    def close(self) -> list:
        return self.shiftwatch.close()


def pairs(apart: int, phase: int) -> list[tuple[int, int]]:
    """Healthy pairs of checks, and last the one between whose checks the fault strikes."""
    last = STRIKES - 1 - phase
    return [(now - apart, now) for now in (*(last - 2 * i for i in range(PAIRS)), last + apart)]


def named(drift: np.ndarray, own: np.ndarray) -> list[int]:
    """The layer that each method names, -1 for none, from float64[pairs, layers], the last pair in question."""
    entering = np.hstack([np.zeros((len(drift), 1)), drift[:, :-1]])
    gain = _log(drift) - _log(entering)
    unusual = np.flatnonzero(_scores(_log(drift)) > LIMIT)
    growth = _log(own)[-1] - np.median(_log(own)[:-1], axis=0)
    return [
        int(drift[-1].argmax()),
        int(unusual[0]) if len(unusual) else -1,
        int(_scores(gain).argmax()),
        int(growth.argmax()),
    ]


def _log(x: np.ndarray) -> np.ndarray:
    return np.log(1e-9 + x)


def _scores(x: np.ndarray) -> np.ndarray:
    """How far the last row is from the median of those before, in their robust deviations."""
    middle = np.median(x[:-1], axis=0)
    spread = 1.4826 * np.median(np.abs(x[:-1] - middle), axis=0)
    return (x[-1] - middle) / np.maximum(spread, 0.05)


def ask(network: Network, seed: int):
    """Of the faults that did harm: who is right, and which edited a weight.

    Returns:
        bool[faults, methods by checks apart and shiftwatch last], bool[faults].
    """
    plan, moments = Plan(network, 400 + seed, STEPS), oracle.probes(STRIKES, STEPS)
    others = (None, *((STRIKES, i + 1) for i in range(SIBLINGS)))
    twin, *siblings = (train(plan, probes=moments, other=other) for other in others)
    model, right, edited = skeleton(network), [], []
    layer_of = {name: i for i, names in enumerate(blocks(model)) for name in names}
    phases = np.random.default_rng(seed)
    for fault, origin in product(map(BY_CODE.get, FAULTS), ORIGINS):
        asked = [pairs(apart, int(phases.integers(apart))) for apart in APART]
        looking = Looking([pair for some in asked for pair in some], {*moments})
        struck = [fault.action(layers.of_kind(model, fault.where)[origin])]
        with silence():
            trace = train(plan, struck, strikes=STRIKES, attach=looking)
        seen = {step: looking.outputs[step] for step in moments}
        if oracle.judge(replace(trace, outputs=seen), twin, siblings, STRIKES).killed:
            later = [alert for alert in trace.alerts if alert["detected"] >= STRIKES]
            answers = [
                *(named(*(np.array([of[p] for p in some]) for of in (looking.drift, looking.own)))
                  for some in asked),
                [layer_of.get(alert["origin"], -1) for alert in later[:1]] or [-1],
            ]  # fmt: skip
            right.append([answer == origin for some in answers for answer in some])
            edited.append("corruption" in fault.kinds)
    return np.array(right), np.array(edited)


def study(seeds):
    """Both networks, every fault at every origin."""
    torch.set_num_threads(1)
    asked = {name: [ask(net, seed) for seed in seeds] for name, net in NETWORKS.items()}
    found = {name: np.concatenate([right for right, _ in some]) for name, some in asked.items()}
    together = np.concatenate(list(found.values()))
    edited = np.concatenate([edited for some in asked.values() for _, edited in some])

    def right(who: str, answers: np.ndarray, **limit: float) -> Claim:
        return share(f"{who}: right layer", int(answers.sum()), len(answers), **limit)

    def method(name: str, apart: int, **limit: float) -> Claim:
        when = f"every {apart} steps" if apart > 1 else "every step"
        return right(f"{name}, checks {when}", together[:, column(name, apart)], **limit)

    claims = [
        method("largest drift", 1, high=0.7),
        method("first over a limit", 1, low=0.6),
        method("first over a limit", 50, high=0.5),
        method("drift gain", 1, low=0.8),
        method("drift gain", 50, low=0.5),
        method("local replay", 1, low=0.85),
        method("local replay", 50, low=0.75),
        right("shiftwatch", together[:, -1], low=0.85),
        right("shiftwatch, faults that edit no weight", together[~edited, -1], low=0.85),
    ]
    return draw(found), claims


def column(method: str, apart: int) -> int:
    """Where the answers of a method stand."""
    return APART.index(apart) * len(METHODS) + METHODS.index(method)


def draw(found):
    """A bar with its interval for each method and distance of checks; shiftwatch last."""
    figure, axes = panels(2, "Where did it begin? Faults whose layer is named", sharey=True)
    for axis, (name, right) in zip(axes, found.items(), strict=True):
        for i, (apart, colour) in enumerate(zip(APART, (BLUE, SKY, ORANGE), strict=True)):
            for j, method in enumerate(METHODS):
                label = f"checks {apart} step{'s' * (apart > 1)} apart" if j == 0 else None
                bar(axis, j + 0.26 * (i - 1), right[:, column(method, apart)], colour, label)
        last = len(METHODS) + 0.3  # room for a word
        bar(axis, last, right[:, -1], VERMILION, "at its own alarm")
        axis.axhline(100 / LAYERS, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate("chance", (last - 0.52, 100 / LAYERS), xytext=(0, 3), textcoords="offset points",
                      ha="center", fontsize=8.5, color=FAINT)  # fmt: skip
        names = (name.replace(" ", "\n", 1) for name in (*METHODS, "shiftwatch"))
        axis.set_xticks([*range(len(METHODS)), last], names)
        axis.set_xlim(-0.6, last + 0.45)
        axis.set_yticks(range(0, 101, 20), [f"{v} %" for v in range(0, 101, 20)])
        axis.set_ylim(0, 104)
        plain(axis, f"{name}, {len(right)} faults")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False,
                  fontsize=8.5, labelcolor=INK)  # fmt: skip
    return figure


def bar(axis, x: float, right: np.ndarray, colour: str, label: str | None) -> None:
    """Share of right answers and its interval of 95 %."""
    low, high = clopper_pearson(int(right.sum()), len(right))
    middle = right.mean()
    axis.bar(
        x, 100 * middle, 0.24, color=colour, label=label,
        yerr=[[100 * (middle - low)], [100 * (high - middle)]], error_kw={"elinewidth": 1, "ecolor": INK},
    )  # fmt: skip


if __name__ == "__main__":
    main(study, seeds=2)
