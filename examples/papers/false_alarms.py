"""What monitors find, and what they raise for nothing: the same healthy and faulty runs shown to all.

python examples/papers/false_alarms.py [--quick]

Zhang et al. (2021), AutoTrainer, ICSE, Wardat et al. (2022), DeepDiagnosis, ICSE, and Schoop et al. (2021),
UMLAUT, CHI, judge a training by fixed limits. From the logs published with DeepDiagnosis one can count how
often such rules speak on models that train well: on 68 of 188 for DeepDiagnosis, 103 of 113 for UMLAUT.

Here three dense networks learn the digits, by plain SGD, by SGD with momentum and BatchNorm, and by Adam:
45 healthy runs, on fifteen schedules and habits, and ten kinds of fault that strike in the middle.
Faults that change neither loss nor function beyond what healthy runs differ are left out (the oracle of
benchmarks/faults). Every run is seen by shiftwatch with its defaults and by the published rules of the
others, with their own defaults (benchmarks/faults/baselines says where they depart). A healthy run with any
alarm counts as a false alarm; a fault counts as found where anything new is raised from its first step
on, so a tool that speaks all the time finds nearly everything: read both numbers together.
The networks are of the benchmark's design set, with a seed of their own: shiftwatch's limits know their like.
``python -m benchmarks.faults.compare`` does the same for a thousand runs of networks that chose no limit.
"""

import torch
from paper import main, share

from benchmarks.faults.baselines import BASELINES, judged
from benchmarks.faults.baselines.recording import Recorder, Recording
from benchmarks.faults.baselines.signs import alerts, of_layers
from benchmarks.faults.cases import Case
from benchmarks.faults.compare import only, standing
from benchmarks.faults.frontier import frontier
from benchmarks.faults.observers import Shiftwatch
from benchmarks.faults.runs import join, judge, watch

NETWORKS = ("dense relu narrow", "dense relu batchnorm deep", "dense silu")
#: Nothing special, seven learning rates, batches enlarged, reduced, accumulated and cut short, evaluations, a
#: resume, clipping.
HEALTHY = (
    "H01", "H02", "H03", "H04", "H05", "H06", "H06b", "H31",
    "H07", "H07b", "H08", "H10", "H14", "H28", "H33",
)  # fmt: skip
#: Learning rate × 100, gradients never cleared and negated; a layer that starts anew, its bias far down, its
#: activation a sigmoid, its weights × 5; input × 4, samples all alike, targets of other samples.
FAULTS = (
    "F01b",
    "F05",
    "F41c",
    "F15",
    "F16",
    "F18b",
    "F40c",
    "F34",
    "F35",
    "F36",
)
STEPS, STRIKES, SEED = 200, 125, 601
OURS, ZEROS = "shiftwatch", "70 % zeros"


def cases() -> list[Case]:
    """All runs, those of a network beside each other; a fault's place is another at each."""
    runs = []
    for network in NETWORKS:
        runs += [Case("papers", network, code, SEED, STEPS) for code in HEALTHY]
        for i, code in enumerate(FAULTS):
            runs.append(Case("papers", network, code, SEED, STEPS, STRIKES, (0.5, 0.0, 1.0)[i % 3]))
    return runs


class All:
    """shiftwatch and a recording for all others, of one run."""

    def __init__(self, model, optimizers) -> None:
        self.recorder = Recorder(model, optimizers, said)
        self.shiftwatch = Shiftwatch(model, optimizers)

    def after_step(self, loss, accuracy) -> None:
        self.shiftwatch.after_step(loss, accuracy)
        self.recorder.after_step(loss, accuracy)

    def close(self) -> list[dict]:
        ours = [{**alert, "by": OURS} for alert in self.shiftwatch.close()]
        return [*ours, *self.recorder.close()]


def said(recording: Recording) -> list[dict]:
    """Alerts of all baselines, and of a rule that takes a ReLU for dead where 70 % of its values are zero."""
    zeros = recording["output.nonpositive"]
    dead = (zeros >= 0.7) & recording.with_activation("relu")
    signs = of_layers(recording, dead, "dead", "output", "zeros", value=zeros, limit=0.7)
    return [*judged(recording), *alerts(ZEROS, signs)]


def study(seeds):
    """Every run once."""
    torch.set_num_threads(1)
    runs = cases()
    verdicts = {case.key: judge(case) for case in runs if case.strikes is not None}
    rows = list(join(runs, verdicts, {case.key: watch(case, All) for case in runs}).values())
    found = [standing(tool, only(rows, tool)) for tool in (OURS, ZEROS, *BASELINES)]
    of = {s.observer: s for s in found}
    ours, others = of[OURS], [s for s in found if s.observer != OURS]
    quiet = max((s for s in others if s.loud <= 0.1 * s.healthy), key=lambda s: s.found)
    keen = min((s for s in others if s.found >= 0.7 * s.killed), key=lambda s: s.loud)
    claims = [
        share("shiftwatch: healthy runs with an alarm", ours.loud, ours.healthy, high=0.1),
        share("shiftwatch: faults found", ours.found, ours.killed, 0.75),
        *(
            share(f"{tool}: healthy runs with an alarm", of[tool].loud, of[tool].healthy, 0.9)
            for tool in ("z > 3", "PSI > 0.25", "UMLAUT")
        ),
        share("others with ≤ 10 % false alarms: faults found by the best", quiet.found, quiet.killed, high=0.4),
        share("others that find ≥ 70 %: healthy runs with an alarm of the best", keen.loud, keen.healthy, 0.2),
    ]  # fmt: skip
    return frontier(found, "small"), claims


if __name__ == "__main__":
    main(study, seeds=1)
