"""Two runs, afterwards: which layer departs first, and when.

python examples/compare_runs.py

The same as `shiftwatch compare RUN RUN`, in Python.
"""

import os
from pathlib import Path

import numpy as np

import shiftwatch
from shiftwatch import Monitor
from shiftwatch.compare import compare
from shiftwatch.report import render_comparison

FOLDER = Path(os.environ.get("SHIFTWATCH_DIR", "shiftwatch-runs"))
STEPS, CHANGE = 240, 120


def train(name: str, slow_drift: float) -> None:
    """Three layers; in the second one something creeps in, too slowly for the eye."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, (2 / 16) ** 0.5, (16, 16)) for _ in range(3)]
    with Monitor(run=FOLDER / name) as monitor:
        for step in range(STEPS):
            values = rng.normal(size=(64, 16))
            for i, weight in enumerate(weights, start=1):
                values = values @ weight
                if i == 2:
                    values += slow_drift * max(0, step - CHANGE)
                monitor.observe(f"layer{i}", values)
                values = np.maximum(values, 0)
            monitor.step()


train("good", slow_drift=0.0)
train("new", slow_drift=0.05)

good, new = shiftwatch.open(FOLDER / "good"), shiftwatch.open(FOLDER / "new")
result = compare(good, new)
print(f"In the new run, layer2 drifts from step {CHANGE} on. The comparison says:")
print(result.verdict)
for difference in result.differences:
    since = "no" if difference.departed is None else f"from step {difference.departed}"
    shift = difference.last["mean_shift"]
    print(f"  {difference.layer}: departs: {since}, mean_shift {shift:+.2f} at the end")
page = FOLDER / "compare.html"
page.write_text(render_comparison(good, new), encoding="utf-8")
print(f"The page: {page}")
