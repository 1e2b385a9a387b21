"""Other monitors on the same runs: their published rules with their default limits, as pure functions.

One run serves all: it is recorded in full (:mod:`~benchmarks.faults.baselines.recording`), and each
baseline is a function of the recording. How often a tool looks is its default; where that is so
seldom that it would see next to nothing here, there is a second one that looks at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.faults.baselines.autotrainer import autotrainer
from benchmarks.faults.baselines.deepdiagnosis import deepdiagnosis
from benchmarks.faults.baselines.distributions import psi, z_score
from benchmarks.faults.baselines.recording import Recorder, Recording
from benchmarks.faults.baselines.sagemaker import sagemaker
from benchmarks.faults.baselines.scalars import loss_spike, zclip
from benchmarks.faults.baselines.signs import Sign, alerts
from benchmarks.faults.baselines.umlaut import umlaut

#: Every baseline by its name.
BASELINES: dict[str, Callable[[Recording], list[Sign]]] = {
    "SageMaker Debugger /500": sagemaker,
    "SageMaker Debugger": partial(sagemaker, interval=1),
    "AUTOTRAINER": autotrainer,
    "DeepDiagnosis": deepdiagnosis,
    "UMLAUT": umlaut,
    "loss spike": loss_spike,
    "ZClip": zclip,
    "z > 3": partial(z_score, limit=3.0),
    "z > 6": partial(z_score, limit=6.0),
    "PSI > 0.25": psi,
}


def judged(recording: Recording) -> list[dict[str, Any]]:
    """Alerts of all baselines; ``by`` tells whose."""
    return [alert for name, rules in BASELINES.items() for alert in alerts(name, rules(recording))]


def baselines(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Recorder:
    """Begin to record."""
    return Recorder(model, optimizers, judged)
