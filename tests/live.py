"""Trainings that write while they are watched: real ones, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRAINING = """
import pickle, sys
from pathlib import Path
import numpy as np
from shiftwatch import Monitor

folder, break_at = Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
state = Path(f"{folder}.state")
monitor = Monitor(run=folder)
if state.exists():
    monitor.load_state_dict(pickle.loads(state.read_bytes()))
for line in sys.stdin:  # as many steps as it is told to take
    for _ in range(int(line)):
        step = monitor.steps
        x = rng.normal(size=(32, 16))
        monitor.observe("<input>", x)
        for name in ("fc1", "fc2", "fc3"):
            x = np.maximum(x + 0.1 * rng.normal(size=x.shape), 0.0)
            if name == "fc2" and step >= break_at:
                x[0] = np.nan
            monitor.observe(name, x, activation="relu")
            x = np.nan_to_num(x)
        monitor.step(loss=2.0 / (1 + 0.02 * step))
    if len(sys.argv) > 3:
        state.write_bytes(pickle.dumps(monitor.state_dict()))
    print(monitor.steps, flush=True)
monitor.close()
"""


class Training:
    """A training that takes steps when it is told to, and ends when it is let go.

    Args:
        folder: its run.
        break_at: the step at which fc2 begins to put out NaN.
        keep: write a checkpoint after each call, and go on from it in the next process.
    """

    def __init__(self, folder: Path, break_at: int = 10**9, *, keep: bool = False) -> None:
        command = [sys.executable, "-c", TRAINING, str(folder), str(break_at)]
        self.process = subprocess.Popen(
            [*command, "keep"] if keep else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def steps(self, number: int) -> int:
        """Take so many steps; how many were taken in all."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        """Close the run in good order."""
        self.process.communicate()

    def kill(self) -> None:
        """As when memory is short."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of a condition; fails where there is none in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
    return value
