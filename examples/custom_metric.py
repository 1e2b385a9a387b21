"""A metric of one's own, a rule that judges it, and a reporter that acts on its alerts.

python examples/custom_metric.py
"""

import os
from pathlib import Path

import numpy as np

from shiftwatch import Monitor, Report, Rule, Summary
from shiftwatch.rules import DEFAULT

FOLDER = Path(os.environ.get("SHIFTWATCH_DIR", "shiftwatch-runs"))
STEPS, FAULT = 200, 120


def peak_ratio(summary: Summary) -> np.ndarray:
    """Largest size over root mean square, per site: few values that carry everything."""
    largest = np.maximum(np.abs(summary.moments.min), np.abs(summary.moments.max))
    return largest / summary.rms


def on_report(report: Report) -> None:
    """Called with every window: send a mail, stop the job, …"""
    for alert in report.alerts:
        if alert.metric == "peak_ratio":
            print(f"on_report: {alert.layer} since step {alert.step}: {alert.message}")


rules = [*DEFAULT, Rule("peak_ratio", 30.0, layers="attention*", severity="critical")]
rng = np.random.default_rng(0)

with Monitor(
    run=FOLDER / "custom_metric",
    metrics={"peak_ratio": peak_ratio},
    rules=rules,
    reporters=[on_report],
) as monitor:
    for step in range(STEPS):
        values = rng.normal(size=(32, 64))
        if step >= FAULT:
            values[0, 0] = 60.0  # one unit of one sample: mean and spread hardly notice
        monitor.observe("attention", values)
        monitor.step()

print(f"One value in 2,048 became large at step {FAULT}.")
steps, ratio = monitor.history.series("peak_ratio", "attention")
print(f"peak_ratio was {ratio[steps < FAULT].max():.1f} at most, and is {ratio[-1]:.1f} now.")
