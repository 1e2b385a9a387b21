"""Any framework, or none: a network written by hand, watched through its arrays.

python examples/numpy_only.py
"""

import os
from pathlib import Path

import numpy as np

from shiftwatch import Monitor

FOLDER = Path(os.environ.get("SHIFTWATCH_DIR", "shiftwatch-runs"))
STEPS, FAULT = 320, 200

rng = np.random.default_rng(0)
truth = rng.normal(size=(20, 1))
w1, b1 = rng.normal(0, 0.3, (20, 32)), np.zeros(32)
w2 = rng.normal(0, 0.2, (32, 1))

with Monitor(run=FOLDER / "numpy_only") as monitor:
    for step in range(STEPS):
        if step == FAULT:
            b1 -= 40.0  # the fault: no unit of the hidden layer will ever be active again

        x = rng.normal(size=(64, 20))
        y = np.tanh(x @ truth)
        before = x @ w1 + b1
        hidden = np.maximum(before, 0)
        error = hidden @ w2 - y

        monitor.observe("<input>", x)
        monitor.observe("fc1", before)
        monitor.observe("relu1", hidden, activation="relu")
        monitor.observe("fc2", hidden @ w2)

        back = (error @ w2.T) * (before > 0)
        w2 -= 0.05 * hidden.T @ error / len(x)
        w1 -= 0.05 * x.T @ back / len(x)
        b1 -= 0.05 * back.mean(0)
        monitor.step(loss=float(np.square(error).mean()))

incident = monitor.incidents[0]
print(f"The bias of fc1 was pushed down at step {FAULT}.")
print(f"Found: {', '.join(incident.kinds)} from {incident.origin} at step {incident.step}.")
print(f"The report: {monitor.report(FOLDER / 'numpy_only' / 'report.html')}")
