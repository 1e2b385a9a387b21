"""Make docs/gallery.md and its pictures: real trainings, each broken in one way, and mended.

    python docs/gallery.py [NAME …] [--into FOLDER]

Every fault is trained twice from one seed, once as it is and once with its cure, both watched with
the defaults. Fails where a fault is not found under its kind, or where the cure raises anything.
Needs PyTorch, scikit-learn and matplotlib; about half a minute on one core.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from shiftwatch.integrations.torch import watch
from shiftwatch.records import INPUT, Alert
from shiftwatch.run import Run

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

DOCS = Path(__file__).parent
STEPS, FAULT = 240, 160
INK, FAINT, BROKEN, CURED = "#222222", "#8a8a8a", "#D55E00", "#0072B2"  # Okabe and Ito's


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's 1,797 digits: pixels as they are, 0 to 16, [n, 64], and labels [n]."""
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels, dtype=torch.float32), torch.tensor(labels)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Mean 0 and deviation 1 over the whole set."""
    return (pixels - 4.9) / 6.0


def mlp(
    activation: type[nn.Module] = nn.ReLU,
    hidden: int = 3,
    norm: float | None = None,
    first: nn.Module | None = None,
) -> nn.Sequential:
    """Dense layers of 96 units; a BatchNorm of that momentum after each, a layer before all."""
    net = nn.Sequential()
    if first is not None:
        net.add_module("scale", first)
    for i, (a, b) in enumerate(pairwise([64, *[96] * hidden]), start=1):
        net.add_module(f"fc{i}", nn.Linear(a, b))
        if norm is not None:
            net.add_module(f"bn{i}", nn.BatchNorm1d(b, momentum=norm))
        net.add_module(f"act{i}", activation())
    net.add_module("head", nn.Linear(96, 10))
    return net


class Standardise(nn.Module):
    """Each sample to mean 0 and deviation 1."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred / (x.std(1, keepdim=True) + self.eps)


@dataclass
class Training:
    """What a case may lay its hands on. ``broken`` is whether this is the run with the fault."""

    broken: bool
    model: nn.Module = field(default_factory=mlp)
    rate: float = 0.05
    optimizer: torch.optim.Optimizer | None = None
    pixels: torch.Tensor = field(default_factory=lambda: torch.zeros(0))  # of this step
    before: Callable[[int], None] = lambda step: None  # called before every step
    prepare: Callable[[torch.Tensor], torch.Tensor] = normalised
    alerts: Callable[[], int] = lambda: 0  # raised so far
    since: int = 0  # first step of the fault
    evaluates: bool = False

    def made(self) -> torch.optim.Optimizer:
        """The optimizer, SGD with momentum unless the case brought its own."""
        if self.optimizer is None:
            self.optimizer = torch.optim.SGD(self.model.parameters(), self.rate, momentum=0.9)
        return self.optimizer


def nonfinite(training: Training) -> None:
    """A scanner delivers one blank page."""
    training.model = mlp(first=Standardise(0.0 if training.broken else 1e-5))
    training.since = FAULT

    def blank(step: int) -> None:
        if step == FAULT:
            training.pixels[7] = 0.0

    training.before = blank


def dead(training: Training) -> None:
    """One step at three hundred times the rate."""
    training.since = FAULT

    def leap(step: int) -> None:
        factor = 300 if step == FAULT and training.broken else 1
        training.made().param_groups[0]["lr"] = training.rate * factor

    training.before = leap


def saturation(training: Training) -> None:
    """Weights drawn with deviation 1."""
    training.model = mlp(nn.Tanh)
    for module in training.model:
        if isinstance(module, nn.Linear) and training.broken:
            nn.init.normal_(module.weight)


def variance_shift(training: Training) -> None:
    """Other files come without the division."""
    training.since = FAULT
    seen = 0

    def prepare(pixels: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += 1
        late = seen > FAULT and training.broken
        return pixels - 4.9 if late else normalised(pixels)

    training.prepare = prepare


def mean_shift(training: Training) -> None:
    """Later images are negatives: ink is 0 and paper 16."""
    training.since = FAULT

    def invert(step: int) -> None:
        if step >= FAULT and training.broken:
            training.pixels.neg_().add_(16.0)

    training.before = invert


def distribution_shift(training: Training) -> None:
    """Every file is read from four pixels too late."""
    training.since = FAULT

    def late(step: int) -> None:
        if step >= FAULT and training.broken:
            training.pixels = training.pixels.roll(-4, dims=1)

    training.before = late


def exploding(training: Training) -> None:
    """Weight decay with the wrong sign."""
    training.since = 80

    def decay(step: int) -> None:
        if step >= 80:
            training.made().param_groups[0]["weight_decay"] = -1.0 if training.broken else 1e-3

    training.before = decay


def vanishing(training: Training) -> None:
    """Seven sigmoids in a row."""
    training.model = mlp(nn.Sigmoid if training.broken else nn.ReLU, hidden=7)
    if not training.broken:
        for module in training.model:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def batchnorm(training: Training) -> None:
    """A momentum of 0, which in PyTorch means: keep the statistics as they are."""
    training.model = mlp(norm=0.0 if training.broken else 0.1)
    training.evaluates = True


def frozen(training: Training) -> None:
    """The optimizer is made before the model is rebuilt."""
    if training.broken:
        old = mlp()
        training.optimizer = torch.optim.SGD(old.parameters(), training.rate, momentum=0.9)


def update(training: Training) -> None:
    """Adam at a rate meant for SGD."""
    rate = 0.05 if training.broken else 0.001
    training.optimizer = torch.optim.Adam(training.model.parameters(), rate)


def collapse(training: Training) -> None:
    """Every weight begins with one value."""
    for name, parameter in training.model.named_parameters():
        if training.broken:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 0.02)


def corruption(training: Training) -> None:
    """The highest bit of an exponent flips in one weight of fc2."""
    training.since = FAULT
    weight = training.model.get_parameter("fc2.weight")
    kept: dict[str, Any] = {}

    def flip(step: int) -> None:
        if step == FAULT - 8:
            kept["model"] = copy.deepcopy(training.model.state_dict())
            kept["optimizer"] = copy.deepcopy(training.made().state_dict())
        if step == FAULT:
            with torch.no_grad():
                weight.view(torch.int32)[5, 3] ^= 1 << 30
        if not training.broken and training.alerts() and kept:
            training.model.load_state_dict(kept["model"])
            training.made().load_state_dict(kept["optimizer"])
            kept.clear()

    training.before = flip


@dataclass(frozen=True)
class Case:
    """One entry of the gallery.

    Args:
        title: the fault in a few words.
        setup: changes a training; its name is the kind under which it must be found.
        story: what happened, in Markdown.
        cure: what was done, in Markdown.
        layer, tensor, metric: which series is drawn.
        label: what the series is, with its unit.
        logarithmic: whether it is drawn over a logarithmic axis.
        again: whether the cure acts after the fault was found, which is then raised once more.
    """

    title: str
    setup: Callable[[Training], None]
    story: str
    cure: str
    layer: str
    metric: str
    label: str
    tensor: str = "output"
    logarithmic: bool = False
    again: bool = False

    @property
    def kind(self) -> str:
        return self.setup.__name__


CASES = (
    Case(
        "A blank page", nonfinite,
        "The first layer brings each sample to mean 0 and deviation 1. At step 160 one sample of "
        "64 is blank: its deviation is 0, and 0/0 is NaN. After one backward pass every weight is.",
        "`centred / (x.std(1, keepdim=True) + 1e-5)`. The same blank page then does nothing.",
        "head", "nonfinite", "values of head not finite,\nshare",
    ),
    Case(
        "One step at three hundred times the rate", dead,
        "A scheduler returns 15 in place of 0.05, for a single step. The loss recovers to a "
        "plateau and looks as if the network had learnt all that it can.",
        "The schedule is corrected. `torch.nn.utils.clip_grad_norm_` would have bounded the step.",
        "act3", "dead_fraction", "dead units of act3,\nshare",
    ),
    Case(
        "Weights that begin too large", saturation,
        "All weights are drawn with deviation 1. With 96 inputs, what enters each tanh has a "
        "deviation of about ten, and hardly any gradient comes back.",
        "The initialisation that `nn.Linear` brings (or Glorot's).",
        "act2", "saturation", "saturated values of act2,\nshare",
    ),
    Case(
        "Other files come without a division", variance_shift,
        "Pixels are centred and divided by their deviation. From step 160 on another loader "
        "serves them, which centres and does not divide.",
        "Both loaders share one function for it.",
        INPUT, "std", "standard deviation of\nthe input", "input",
    ),
    Case(
        "Negatives", mean_shift,
        "From step 160 on images come from a library in which paper is 16 and ink 0. Their "
        "deviation is as before.",
        "`16 - pixels` where they are read.",
        INPUT, "mean", "mean of the input", "input",
    ),
    Case(
        "Every image begins four pixels late", distribution_shift,
        "From step 160 on files come with a longer header, which is taken for the first four pixels. "
        "Mean, deviation and histogram of the input stay as they were; only each pixel's own do not. "
        "(The divergence drawn here moves while the network learns, too; it is not what was judged.)",
        "The length is read from the header.",
        "fc1", "kl", "divergence of fc1 from\nits first windows, nats",
    ),
    Case(
        "Weight decay with the wrong sign", exploding,
        "From step 80 on a penalty is subtracted where it should be added: `weight_decay=-1.0`. Every "
        "weight grows by a twentieth per step, and nothing holds it.",
        "`weight_decay=1e-3`.",
        "fc3", "rms", "size of fc3,\nroot mean square", logarithmic=True,
    ),
    Case(
        "Seven sigmoids in a row", vanishing,
        "A sigmoid's slope is 1/4 at most, so that each layer takes three quarters of the gradient "
        "and more. At the first layer nothing is left, and the loss stays at that of guessing.",
        "Rectifiers with He's initialisation.",
        "fc1", "rms", "gradient at fc1,\nroot mean square", "gradient", logarithmic=True,
    ),
    Case(
        "Running statistics that never move", batchnorm,
        "`BatchNorm1d(momentum=0.0)` stands in a configuration of another framework's habits. In "
        "training all is well, for it uses the statistics of the batch; in evaluation it uses 0 and 1.",
        "`momentum=0.1`, PyTorch's default.",
        "bn2", "batchnorm_stretch", "batch over running deviation\nat bn2, octaves",
    ),
    Case(
        "The optimizer holds another model", frozen,
        "The model is built anew after its optimizer was. Gradients are right, `optimizer.step()` "
        "raises nothing, and no weight of this model moves.",
        "The optimizer is made last.",
        "fc2", "relative_update", "update of fc2 over\nits weight", "update",
    ),
    Case(
        "Adam at the rate of SGD", update,
        "Adam's first steps have the size of the rate, whatever the gradient is: 0.05 per weight, "
        "where weights are about 0.06.",
        "`lr=1e-3`. A warm-up cures it as well.",
        "fc2", "relative_update", "update of fc2 over\nits weight", "update", logarithmic=True,
    ),
    Case(
        "All weights alike", collapse,
        "All weights begin at 0.02 and all biases at 0. The units of a layer compute the same, get the "
        "same gradient, and stay the same for ever: each layer has one unit, 96 times.",
        "Weights are drawn at random.",
        "fc2", "std", "standard deviation of\nthe weights of fc2", "weight",
    ),
    Case(
        "One bit", corruption,
        "At step 160 the highest bit of one weight's exponent flips, one of 24,000 weights.",
        "The checkpoint of eight steps before is loaded, weights and optimizer, when "
        "`monitor.alerts` has grown.",
        "fc2", "rms", "size of fc2,\nroot mean square", logarithmic=True, again=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """A training that has ended."""

    losses: list[float]
    evaluated: dict[int, float]  # step to loss in evaluation, where the case asks for it
    history: Run
    since: int


def train(case: Case, broken: bool) -> Outcome:
    """One watched training."""
    torch.manual_seed(0)
    order = np.random.default_rng(0)
    pixels, labels = digits()
    training = Training(broken)
    case.setup(training)
    model, optimizer = training.model, training.made()
    losses: list[float] = []
    evaluated: dict[int, float] = {}
    with watch(model, optimizer=optimizer, run=False) as monitor:
        training.alerts = lambda: len(monitor.alerts)
        for step in range(STEPS):
            rows = torch.from_numpy(order.integers(0, len(pixels), 64))
            training.pixels = pixels[rows].clone()
            training.before(step)
            x = training.prepare(training.pixels)
            loss = nn.functional.cross_entropy(model(x), labels[rows])
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            monitor.step(loss=loss)
            if training.evaluates and step % 8 == 7:
                model.eval()
                with torch.no_grad():
                    answers = model(normalised(pixels[:256]))
                evaluated[step] = nn.functional.cross_entropy(answers, labels[:256]).item()
                model.train()
    return Outcome(losses, evaluated, monitor.history, training.since)


def draw(case: Case, broken: Outcome, cured: Outcome) -> Any:
    """Loss, and the series that tells, with the fault and without."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 2.7))
    both = (broken, BROKEN, "with the fault", 2.0), (cured, CURED, "cured", 1.6)
    for outcome, colour, label, width in both:
        shown = outcome.evaluated or dict(enumerate(_smooth(outcome.losses)))
        left.plot([*shown], [*shown.values()], color=colour, linewidth=width, label=label)
        steps, values = outcome.history.series(case.metric, case.layer, case.tensor)
        right.plot(steps, values, color=colour, linewidth=width, marker="o", markersize=3)
    left.set_yscale("log")
    left.set_ylim(top=left.get_ylim()[1] ** 1.3 * 2)  # room for a line of text
    if case.logarithmic:
        right.set_yscale("log")
    left.set_title(
        "loss in evaluation" if broken.evaluated else "loss", loc="left", fontsize=10.5, color=INK
    )
    right.set_title(case.label.replace("\n", " "), loc="left", fontsize=10.5, color=INK)
    raised = _raised(broken)[0].detected
    for axis in (left, right):
        _plain(axis)
        axis.set_xlim(-3, STEPS + 3)
        axis.axvline(raised, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
        axis.set_xlabel("step", fontsize=9, color=FAINT, labelpad=1)
    near = raised < STEPS * 0.6
    left.annotate(
        f"raised at step {raised}", (raised, 1.0), xycoords=("data", "axes fraction"),
        xytext=(4 if near else -4, -3), textcoords="offset points", fontsize=8.5, color=INK,
        ha="left" if near else "right", va="top",
    )  # fmt: skip
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper right", ncols=2, frameon=False, fontsize=9.5,
        bbox_to_anchor=(0.995, 1.02), labelcolor=INK,
    )  # fmt: skip
    figure.subplots_adjust(left=0.075, right=0.985, top=0.80, bottom=0.17, wspace=0.2)
    return figure


def _smooth(losses: list[float], number: int = 4) -> np.ndarray:
    """Means of a few steps, NaN from where one is."""
    padded = np.concatenate([[losses[0]] * (number - 1), losses])
    return np.convolve(padded, np.full(number, 1 / number), "valid")


def _plain(axis: Axes) -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#cccccc")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="both", length=0, labelcolor="#555555", labelsize=8.5)
    axis.tick_params(axis="y", which="minor", length=0)


def _raised(outcome: Outcome) -> list[Alert]:
    """Alerts without the notes beside them."""
    return [alert for alert in outcome.history.alerts if alert.incident]


def _wrapped(text: str, width: int = 119, indent: str = "") -> list[str]:
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, width, subsequent_indent=indent, **options)


def _after(steps: int) -> str:
    return (
        ", in the very step" if not steps else f", {steps} step{'s' * (steps > 1)} after it began"
    )


def _followers(number: int) -> str:
    if not number:
        return ""
    many = "s are listed as followers" if number > 1 else " is listed as a follower"
    return f" {number} other layer{many}."


def _last(outcome: Outcome) -> str:
    """Mean of the last losses, as it is said."""
    losses = list(outcome.evaluated.values()) or outcome.losses
    mean = float(np.mean(losses[-20:]))
    return f"{mean:.2f}" if math.isfinite(mean) else "NaN"


def entry(case: Case, broken: Outcome, cured: Outcome) -> Iterator[str]:
    """The Markdown of a case, line by line."""
    alerts = _raised(broken)
    first, chosen = alerts[0], next(a for a in alerts if a.kind == case.kind)
    incident = next(i for i in broken.history.incidents if i.number == first.incident)
    kinds = ", ".join(f"`{kind}`" for kind in dict.fromkeys(alert.kind for alert in alerts))
    where = "the input" if incident.origin == INPUT else f"`{incident.origin}`"
    after = _after(first.detected - broken.since) if broken.since else ""
    yield f"## {case.title} {{#{case.kind}}}"
    yield ""
    label = case.label.replace("\n", " ")
    yield f"![Loss, and {label}, with the fault and cured](gallery/{case.kind}.png)"
    yield ""
    yield from _wrapped(f"**The fault.** {case.story}")
    yield ""
    yield from _wrapped(
        f"**Found** at step {first.detected}{after}, beginning in {where}, as {kinds}."
        f"{_followers(len(incident.followers))}"
    )
    yield ""
    yield "```text"
    for alert in alerts[:4]:
        yield from _wrapped(alert.message, 100, "    ")
    yield "```"
    yield ""
    yield from _wrapped(f"> {chosen.advice}", indent="> ")
    yield ""
    yield from _wrapped(
        f"**The cure.** {case.cure} At the end the loss is {_last(cured)}; "
        f"with the fault it is {_last(broken)}."
    )
    yield ""


HEAD = """\
# A gallery of faults

<!-- Written by python docs/gallery.py; edit that. -->

Each of these trainings is real: a small network, scikit-learn's 8 × 8 digits, 240 steps, watched with the defaults.
Each was broken in one way and trained again from the same seed with the cure. The messages are those that shiftwatch
printed; the dashed line is where it did. `python docs/gallery.py` makes this page and its pictures anew.

How often such faults are found, on networks that were not used to set the limits, is in [Faults and false alarms](faults.md); by which
limits, in [How the alarms work](alarms.md).

"""


def main() -> None:
    """Train, check, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(c.kind for c in CASES))
    parser.add_argument("--into", type=Path, default=DOCS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("shiftwatch").setLevel(logging.CRITICAL)  # alerts are printed on the page
    (given.into / "gallery").mkdir(parents=True, exist_ok=True)
    text, wrong = [HEAD], []
    for case in (c for c in CASES if not given.names or c.kind in given.names):
        broken, cured = train(case, True), train(case, False)
        kinds, said = ([a.kind for a in _raised(outcome)] for outcome in (broken, cured))
        print(
            f"{case.kind}: {', '.join(kinds) or 'nothing'}; cured: {', '.join(said) or 'nothing'}"
        )
        if case.kind not in kinds or bool(said) != case.again:
            wrong.append(case.kind)
            continue
        draw(case, broken, cured).savefig(
            given.into / "gallery" / f"{case.kind}.png", dpi=160, facecolor="white"
        )
        plt.close("all")
        text += [line + "\n" for line in entry(case, broken, cured)]
    if wrong:
        sys.exit(f"Not as the gallery says: {', '.join(wrong)}.")
    if not given.names:
        (given.into / "gallery.md").write_text("".join(text).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
