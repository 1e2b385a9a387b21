"""Healthy but tricky: what people do to a training on purpose, and what must raise nothing.

Codes up to H40 are those of a list of such situations; a letter tells apart several of one kind. Left
out are those that one process on a CPU cannot show (several ranks, a compiler) and a new task with
other inputs, which is to be reported: the data did change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.faults import layers
from benchmarks.faults.habits import (
    adapt,
    adopt_average,
    average,
    bandit,
    blurred,
    by_depth,
    close_branches,
    cropped,
    drop_branches,
    drop_more,
    erased,
    evaluate,
    evaluate_average,
    every,
    few,
    fixed,
    freeze_norm,
    hard_batch,
    jump,
    mislabelled,
    mixed,
    noisy,
    on_batch,
    once,
    one_cycle,
    only,
    padded,
    prune,
    rare,
    restarts,
    resume,
    shifted,
    shortened,
    sized,
    skip_some,
    smoothed,
    stairs,
    triangles,
    trunk_only,
    warm,
)
from benchmarks.faults.networks import Network, skeleton
from benchmarks.faults.training import Action, Plan, Schedule, cosine

LONG = 1300  # steps: from 1,024 on a window is 64 of them


@dataclass(frozen=True)
class Situation:
    """A way to train that is fine.

    Args:
        code: its place in the list.
        plan: fields of :class:`Plan` that differ from the usual.
        actions: what is done during the training.
        fits: whether it makes sense for a network.
    """

    code: str
    name: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    fits: Callable[[Network], bool] = lambda network: True

    def planned(self, plan: Plan) -> Plan:
        """A plan, changed as the situation wants it."""
        return replace(plan, **self.plan)


# Which networks a situation is for.


def images(network: Network) -> bool:
    """Its input is pixels, and it is given them."""
    return network.task.real and not network.task.noise


def classes(network: Network) -> bool:
    """It tells digits apart."""
    return network.task.classes


def without_batchnorm(network: Network) -> bool:
    """It can learn from one sample at a time."""
    return not has(network, "batchnorm") and network.family != "gan"


def has(network: Network, kind: str) -> bool:
    """Whether it has layers of this kind."""
    return bool(layers.of_kind(skeleton(network), kind))


def closable(network: Network) -> bool:
    """Its branches end in a layer that may begin at zero: before a rectifier, biases below zero would
    leave units that nothing wakes.
    """
    model = skeleton(network)
    ends = [layers.ending(model, name) for name in layers.of_kind(model, "block")]
    return bool(ends) and all(isinstance(m, nn.Dropout) for end in ends for m in end[1:])


def single(network: Network) -> bool:
    """It has one optimizer and can be called."""
    return network.family != "gan"


def _schedules() -> list[Situation]:
    """Learning rates over time, short and long."""
    curves: dict[str, tuple[str, Schedule]] = {
        "H02": ("linear warm-up", warm),
        "H03": ("step decay", stairs),
        "H04": ("warm-up and cosine", cosine),
        "H05": ("warm restarts", restarts),
        "H06": ("one cycle", one_cycle),
        "H06b": ("cyclic", triangles),
    }
    found = [Situation(code, name, {"schedule": curve}) for code, (name, curve) in curves.items()]
    for code, (name, curve) in curves.items():
        plan = {"schedule": curve, "steps": LONG}
        found.append(Situation(f"{code}L", f"{name}, long", plan, fits=lambda n: n.short))
    return found


SITUATIONS = (
    Situation("H01", "nothing special"),
    Situation("H01L", "nothing special, long", {"steps": LONG}, fits=lambda n: n.short),
    *_schedules(),
    Situation("H07", "batch four times as large", actions=(sized(lambda i, n: 32 if i < n // 2 else 128),)),
    Situation("H07b", "batch a quarter as large", actions=(sized(lambda i, n: 96 if i < n // 2 else 24),)),
    Situation("H08", "accumulation of four parts", actions=(fixed(parts=4),), fits=single),
    Situation("H09", "batch of one", {"size": 1, "rate": 0.1}, fits=without_batchnorm),
    Situation("H09b", "batch of two", {"size": 2, "rate": 0.2}, fits=without_batchnorm),
    Situation("H09c", "batch of four", {"size": 4, "rate": 0.3}),
    Situation("H10", "short last batch", actions=(sized(lambda i, n: 5 if i % 23 == 22 else 48),)),
    Situation(
        "H11", "head alone, then all", fits=single,
        actions=(Action("begin", partial(trunk_only, 0.5)),),
    ),
    Situation("H12", "learning rate by depth", {"groups": by_depth}, fits=single),
    Situation("H13", "trunk frozen", actions=(Action("begin", partial(trunk_only, 2.0)),), fits=single),
    Situation("H14", "evaluation in between", actions=(every(40, evaluate),), fits=single),
    Situation("H15", "more dropout from the middle on", actions=(once(drop_more),), fits=lambda n: has(n, "dropout")),
    Situation("H15b", "stochastic depth", actions=(Action("begin", drop_branches),), fits=lambda n: has(n, "block")),
    Situation("H20", "bfloat16", actions=(fixed(lower=True),), fits=lambda n: n.family not in ("gan", "recurrent")),
    Situation("H20b", "steps skipped by a loss scaler", actions=(Action("begin", skip_some),), fits=single),
    Situation(
        "H21", "averaged weights for evaluation", fits=single,
        actions=(every(1, average), every(50, evaluate_average)),
    ),
    Situation("H21b", "averaged weights adopted", actions=(every(1, average), once(adopt_average, 0.6, "end"))),
    Situation("H22", "blurred, then sharp", actions=(on_batch(blurred, until=0.5),), fits=images),
    Situation(
        "H22b", "longer sequences from the middle on", actions=(on_batch(shortened, until=0.5),),
        fits=lambda n: n.task.name in ("rows", "text"),
    ),
    Situation(
        "H22c", "larger images from the middle on", actions=(on_batch(cropped, until=0.5),),
        fits=lambda n: n.family in ("convolution", "residual") and images(n),
    ),
    Situation(
        "H23", "classes in blocks of four", fits=classes,
        actions=(only(lambda i, n: [(i // 10 + k) % 10 for k in range(4)]),),
    ),
    Situation("H23b", "half of the classes first", actions=(only(lambda i, n: list(range(5 if i < n // 2 else 10))),), fits=classes),
    Situation("H24", "mixup", actions=(on_batch(mixed),), fits=classes),
    Situation("H24b", "noise from the middle on", actions=(on_batch(noisy, since=0.5),), fits=images),
    Situation("H24c", "noise until the middle", actions=(on_batch(noisy, until=0.5),), fits=images),
    Situation("H24d", "shifts by a pixel", actions=(on_batch(shifted),), fits=images),
    Situation("H24e", "squares erased", actions=(on_batch(erased),), fits=images),
    Situation("H28", "resumed with its state", actions=(once(resume, when="end"),)),
    Situation("H31", "learning rate times four", {"schedule": partial(jump, 4.0), "rate": 0.5}),
    Situation("H31b", "learning rate found by a range test", {"rate": 3.0}, fits=lambda n: n.family != "gan"),
    Situation("H32", "pruned in the middle", actions=(once(prune, when="end"),)),
    Situation("H33", "gradients clipped", actions=(fixed(clip=0.5),)),
    Situation("H34", "batch norms frozen late", {"schedule": cosine}, (once(freeze_norm, 0.7),), fits=lambda n: has(n, "batchnorm")),
    Situation("H35", "learnt by heart", {"steps": LONG}, (Action("start", few),), fits=lambda n: n.short),
    Situation("H36", "padded sequences", actions=(on_batch(padded),), fits=lambda n: n.task.name == "text"),
    Situation("H39", "branches begin at zero", actions=(Action("start", close_branches),), fits=closable),
    Situation("H40", "one hard batch", actions=(once(hard_batch, 0.6, "batch"),), fits=single),
    Situation("H41", "label smoothing", actions=(fixed(loss=smoothed),), fits=classes),
    Situation("H42", "a fifth of the labels wrong", actions=(Action("batch", partial(mislabelled, 0.2)),), fits=classes),
    Situation("H43", "rare classes", actions=(Action("start", rare),), fits=classes),
    Situation("H44", "AdamW", {"optimize": partial(torch.optim.AdamW, weight_decay=0.1), "rate": 1.0}, fits=lambda n: n.momentum is None),
    Situation("H44b", "RMSprop", {"optimize": torch.optim.RMSprop, "rate": 0.5}, fits=lambda n: n.momentum is None),
    Situation("H44c", "SGD with decay", {"optimize": partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-3)}, fits=lambda n: n.momentum is not None),
    Situation("H44d", "plain SGD, large rate", {"optimize": torch.optim.SGD, "rate": 4.0}, fits=lambda n: n.momentum is not None),
    Situation("H26", "a bandit's policy", actions=(fixed(loss=bandit),), fits=classes),
    Situation("H38", "adapters that begin at zero", {"rate": 2.0}, (Action("start", adapt),), fits=lambda n: n.family == "transformer"),
)  # fmt: skip

#: Every situation by its code.
BY_CODE = {situation.code: situation for situation in SITUATIONS}
