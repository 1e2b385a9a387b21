"""The demo without a framework: a network written by hand, watched through arrays.

``shiftwatch demo`` runs the demo of an installed framework where there is one (packages
announce theirs under the entry point group ``shiftwatch.demos``) and this one otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from shiftwatch.monitor import Monitor
from shiftwatch.records import INPUT, Alert

#: How the lines of a demo are printed.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Truth:
    """What a scenario does to a training, and what a monitor should make of it.

    Args:
        name: of the scenario, and of its run folder.
        what: one line for the reader.
        step: at which the fault strikes; ``None`` for a healthy run.
        kinds: kinds of alert of which at least one names the fault.
        origins: layers that are right; empty where every layer is hit at once.
    """

    name: str
    what: str
    step: int | None = None
    kinds: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Whether the monitor got a scenario right, and in which words."""

    truth: Truth
    right: bool
    found: str
    seconds: float
    run: Path | None = field(default=None)


def judge(truth: Truth, alerts: Sequence[Alert], seconds: float, run: Path | None) -> Outcome:
    """Compare what was raised with what was done.

    A healthy run must be silent. A fault must be named with a right kind at a right origin, by
    its first incident, and not before it struck.
    """
    if truth.step is None:
        found = "no alert" if not alerts else f"{len(alerts)} alerts, first: {alerts[0]}"
        return Outcome(truth, not alerts, found, seconds, run)
    if not alerts:
        return Outcome(truth, False, "no alert", seconds, run)
    first = [a for a in alerts if a.incident == alerts[0].incident]
    named = any(a.kind in truth.kinds for a in first)
    placed = not truth.origins or first[0].origin in truth.origins
    kinds = ", ".join(dict.fromkeys(a.kind for a in first))
    delay = first[0].detected - truth.step
    found = f"{kinds} from {first[0].origin} at step {first[0].step}, raised {delay:+d} steps"
    return Outcome(truth, named and placed and first[0].step >= truth.step, found, seconds, run)


def table(outcomes: Sequence[Outcome]) -> str:
    """Verdicts against the truth, a line each."""
    width = max(len(o.truth.name) for o in outcomes)
    return "\n".join(
        f"  {'ok   ' if o.right else 'WRONG'} {o.truth.name:<{width}}  "
        f"{o.truth.what}\n        {'':<{width}}found: {o.found}  ({o.seconds:.1f} s)"
        for o in outcomes
    )


def find_demo() -> tuple[Callable[..., list[Outcome]], str]:
    """The demo to run, and why it is that one.

    Returns:
        A function of ``(folder, say, *, quick)``, and a sentence; empty for a framework's demo.
    """
    reasons = []
    for entry in sorted(entry_points(group="shiftwatch.demos"), key=lambda e: e.name):
        try:
            return entry.load(), ""
        except ImportError as error:
            reasons.append(f"{entry.name}'s needs {error.name or error}")
    why = "; ".join(reasons) or "no framework has announced one"
    return run, f"No framework demo can run here ({why}): a hand-written NumPy network instead."


# -- the network -----------------------------------------------------------------------------


@dataclass
class Network:
    """Three dense layers with ReLU and softmax, trained by plain gradient descent."""

    rng: np.random.Generator
    sizes: tuple[int, ...] = (64, 48, 32, 10)

    def __post_init__(self) -> None:
        pairs = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        self.weights = [self.rng.normal(0, np.sqrt(2 / a), (a, b)) for a, b in pairs]
        self.biases = [np.zeros(b) for b in self.sizes[1:]]

    def forward(self, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Values before and after each activation; the last layer has none."""
        before, after = [], [x]
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            before.append(after[-1] @ w + b)
            after.append(np.maximum(before[-1], 0) if i < len(self.weights) - 1 else before[-1])
        return before, after

    def train(self, x: np.ndarray, y: np.ndarray, rate: float, monitor: Monitor) -> float:
        """One step of gradient descent, shown to the monitor; returns the loss."""
        before, after = self.forward(x)
        monitor.observe(INPUT, x)
        for i, values in enumerate(before, start=1):
            monitor.observe(f"fc{i}", values)
            if i < len(before):
                monitor.observe(f"relu{i}", after[i], activation="relu")
        logits = before[-1] - before[-1].max(1, keepdims=True)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        loss = float(-np.log(p[np.arange(len(y)), y] + 1e-12).mean())
        delta = (p - np.eye(p.shape[1])[y]) / len(y)
        for i in reversed(range(len(self.weights))):
            monitor.observe(f"fc{i + 1}", delta, tensor="gradient")
            grad_w, grad_b = after[i].T @ delta, delta.sum(0)
            if i:
                delta = (delta @ self.weights[i].T) * (before[i - 1] > 0)
            self.weights[i] -= rate * grad_w
            self.biases[i] -= rate * grad_b
            monitor.observe(f"fc{i + 1}", self.weights[i], tensor="weight")
        monitor.step(loss=loss)
        return loss


def _data(rng: np.random.Generator, number: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes of noisy 8 × 8 patterns, normalised."""
    patterns = rng.normal(size=(10, 64))
    y = rng.integers(0, 10, number)
    x = patterns[y] + rng.normal(0, 1.5, (number, 64))
    return (x - x.mean()) / x.std(), y


_STEPS, _FAULT = 400, 250

_SCENARIOS: tuple[tuple[Truth, str], ...] = (
    (Truth("healthy", "warm-up and cosine schedule"), ""),
    (
        Truth(
            "input",
            "input no longer normalised",
            _FAULT,
            ("variance_shift", "mean_shift"),
            (INPUT,),
        ),
        "input",
    ),
    (Truth("dead", "bias of fc2 pushed down", _FAULT, ("dead", "mean_shift"), ("fc2",)), "bias"),
)


def run(folder: Path, say: Say = print, *, quick: bool = False) -> list[Outcome]:
    """Train the network healthy and with faults; judge every run.

    Args:
        folder: where the run folders go.
        say: called with each line of progress.
        quick: the healthy run and the data fault alone.
    """
    outcomes = []
    for truth, fault in _SCENARIOS[:2] if quick else _SCENARIOS:
        started = time.perf_counter()
        rng = np.random.default_rng(0)
        x, y = _data(rng)
        network = Network(rng)
        with Monitor(run=folder / truth.name, config={"scenario": truth.what}) as monitor:
            for step in range(_STEPS):
                rate = 0.1 * min(1.0, (step + 1) / 50) * (1 + np.cos(np.pi * step / _STEPS)) / 2
                if fault == "bias" and step == _FAULT:
                    network.biases[1] -= 30.0
                pick = rng.integers(0, len(x), 64)
                batch = x[pick] * (16.0 if fault == "input" and step >= _FAULT else 1.0)
                network.train(batch, y[pick], rate, monitor)
        seconds = time.perf_counter() - started
        outcomes.append(judge(truth, monitor.alerts, seconds, monitor.run))
        say(f"{truth.name}: {outcomes[-1].found}")
    return outcomes
