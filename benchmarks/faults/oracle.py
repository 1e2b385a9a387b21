"""Did the fault do anything? Its run beside the same run without it.

A mutant that nobody can tell from the original is no fault: weights times five before a batch
norm change nothing. So each faulty run is compared with its twin, the same to the last bit until
the fault strikes; and the difference with the differences between the twin and its siblings, which
from the same step on drew other batches, as healthy runs do. Where the fault is another beginning of
the network, its siblings draw initial weights of their own, too: another function than the twin's
is what any other weights make. DeepCrime (Humbatova et al. 2021) asks likewise whether a mutant
differs significantly from clean runs; there by their final accuracy.

A fault is killed if the loss or the model's function leaves the twin's by more than a material
size and by twice as much as any sibling's. The observer has no say in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.faults.training import Trace

#: Losses are compared as means of so many steps.
BLOCK = 8

#: Steps after the fault at which the model's outputs are compared; and at the end.
AFTER = (0, 7, 31)

#: Material: a loss half as large again, or two thirds; an output off by a fifth of its spread.
LOSS, OUTPUT = float(np.log(1.5)), 0.2

#: How many times the largest difference among healthy runs a fault must differ.
BEYOND = 2.0


@dataclass(frozen=True)
class Verdict:
    """What a fault did.

    Args:
        killed: whether anybody could tell.
        why: ``"nonfinite"``, ``"loss"``, ``"output"``, or ``""`` for an equivalent mutant.
        loss: largest |log ratio| to the twin's mean losses; infinite where not finite.
        output: largest distance of outputs, in deviations of the twin's.
    """

    killed: bool
    why: str
    loss: float
    output: float


def probes(strikes: int, steps: int) -> list[int]:
    """Steps after which outputs are compared."""
    return sorted({min(strikes + k, steps - 1) for k in AFTER} | {steps - 1})


def judge(faulty: Trace, twin: Trace, siblings: Sequence[Trace], strikes: int) -> Verdict:
    """Compare a faulty run with its twin, beyond the spread of the twin's siblings.

    That spread grows with time, so it is taken up to each moment: what is material at once may be
    no surprise a hundred steps later.

    Args:
        siblings: at least one, as the twin until ``strikes``.
    """
    loss, output = loss_distance(faulty, twin, strikes), output_distance(faulty, twin)
    highest = float(loss.max()), float(output.max())
    if not np.isfinite(highest).all():
        return Verdict(True, "nonfinite", *highest)
    if _beyond(loss, [loss_distance(s, twin, strikes) for s in siblings], LOSS):
        return Verdict(True, "loss", *highest)
    if _beyond(output, [output_distance(s, twin) for s in siblings], OUTPUT):
        return Verdict(True, "output", *highest)
    return Verdict(False, "", *highest)


def _beyond(distance: np.ndarray, spread: Sequence[np.ndarray], material: float) -> bool:
    """Whether a distance is material, and larger than any sibling's until then, at any moment."""
    usual = np.maximum.accumulate(np.max(spread, axis=0))
    return bool((distance > np.maximum(material, BEYOND * usual)).any())


def loss_distance(run: Trace, twin: Trace, strikes: int) -> np.ndarray:
    """|log ratio| of mean losses, float64[blocks since the fault]; infinite where not finite."""
    ours, theirs = (_blocks(trace.losses[strikes:]) for trace in (run, twin))
    with np.errstate(invalid="ignore"):
        found = np.abs(np.log((ours + 1e-3) / (theirs + 1e-3)))
    return np.where(np.isfinite(found), found, np.inf)


def output_distance(run: Trace, twin: Trace) -> np.ndarray:
    """Root mean square of the difference over the deviation of the twin's, float64[moments]."""
    found = []
    for step, theirs in sorted(twin.outputs.items()):
        with np.errstate(over="ignore", invalid="ignore"):
            apart = float(np.sqrt(np.mean((run.outputs[step] - theirs) ** 2)))
        found.append(apart / max(float(theirs.std()), 1e-9) if np.isfinite(apart) else np.inf)
    return np.array(found)


def _blocks(losses: np.ndarray) -> np.ndarray:
    """Means of so many steps, the last block what is left."""
    starts = np.arange(0, len(losses), BLOCK)
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(losses, starts)
    return sums / np.diff(np.append(starts, len(losses)))
