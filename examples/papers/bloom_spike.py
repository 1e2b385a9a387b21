"""The gradient norm of BLOOM-176B gave four iterations' notice of a loss spike; a chart hears it.

python examples/papers/bloom_spike.py [--quick]

BigScience (2022), The chronicles of training BLOOM-176B: nine published iterations, 31,214 to 31,222,
around a spike of the loss from 2.2 to 5.1 and back, and ten gradient norms from healthy days of the
same chronicles, which serve here as the past; they are not the iterations right before.

A Shewhart chart on the logarithm of the norm, at its default limit of 5 standard deviations, alarms at
31,215, four iterations before the peak, and at none of the healthy values; only its burn-in is shortened,
to 5 values. So do a CUSUM and an e-detector, on values standardised by all ten. Less good: from a limit of
7 on the Shewhart chart takes the first steps of the spike for noise, learns them and stays silent, for
ten values are a short past. Jump waits for the next value to confirm, and alarms at 31,217 by default. And
a whole Monitor that is shown a gradient of these norms, after 240 steps drawn from the healthy ones,
raises `exploding` only after the peak: its rule asks for a factor of a hundred, and looks at windows.
"""

import numpy as np
from paper import (
    BLUE,
    FAINT,
    INK,
    VERMILION,
    at_least,
    at_most,
    main,
    panels,
    plain,
)  # fmt: skip

from shiftwatch import Monitor
from shiftwatch.detectors import Cusum, EDetector, Jump, Shewhart

HEALTHY = np.array([0.174, 0.242, 0.267, 0.205, 0.150, 0.140, 0.144, 0.135, 0.127, 0.139])
NORMS = np.array([0.242, 0.947, 2.390, 15.886, 145.119, 960.351, 353.201, 379.330, 650.246])
LOSSES = np.array(
    [2.198845, 2.220424, 2.595213, 2.241558, 2.345279, 5.098124, 3.492029, 3.213059, 2.804948]
)
FIRST, PEAK, BURN_IN = 31_214, 31_219, 5


def alarms(detector, values: np.ndarray) -> np.ndarray:
    """Places of the alarms among the values."""
    state, fired = detector.init(()), []
    for time, value in enumerate(values):
        if isinstance(detector, Jump):
            state, jumped = detector.update(detector.refresh(state), np.array(value), time)
            fired.append(bool(jumped.fired))
        else:
            state, now = detector.update(state, np.array(value))
            fired.append(bool(now))
    return np.flatnonzero(fired)


def monitored(seed: int) -> int:
    """Iteration at which a monitor of one gradient, of these norms, raises that it explodes."""
    rng = np.random.default_rng(seed)
    gradient = rng.normal(size=(64, 64))
    gradient /= np.linalg.norm(gradient)
    healthy = 240
    with Monitor(run=False) as monitor:
        for norm in [*rng.choice(HEALTHY, healthy), *NORMS]:
            monitor.observe("model", norm * gradient, tensor="gradient")
            monitor.step()
    (alert,) = monitor.alerts
    assert alert.kind == "exploding"
    return FIRST + alert.detected - healthy


def study(seeds):
    """Every detector on the same nineteen numbers; the monitor's past is drawn by seed."""
    series = np.log(np.concatenate([HEALTHY, NORMS]))
    past = series[: len(HEALTHY)]
    standard = (series - past.mean()) / past.std(ddof=1)
    found = {
        "Shewhart": alarms(Shewhart(burn_in=BURN_IN), series),
        "CUSUM": alarms(Cusum(), standard),
        "e-detector": alarms(EDetector(), standard),
        "Jump, patience 0": alarms(Jump(burn_in=BURN_IN, patience=0), series),
        "Jump": alarms(Jump(burn_in=BURN_IN), series),
    }
    first = {name: FIRST + int(at[0]) - len(HEALTHY) for name, at in found.items()}
    early = [int((at < len(HEALTHY)).sum()) for at in found.values()]
    claims = [
        at_least("Shewhart chart: iterations before the peak", PEAK - first["Shewhart"], 3, ".0f"),
        at_least("CUSUM: iterations before the peak", PEAK - first["CUSUM"], 3, ".0f"),
        at_least("e-detector: iterations before the peak", PEAK - first["e-detector"], 3, ".0f"),
        at_least("Jump without confirmation: iterations before the peak", PEAK - first["Jump, patience 0"], 3, ".0f"),
        at_least("Jump: iterations before the peak", PEAK - first["Jump"], 1, ".0f"),
        at_most(
            "iteration at which a Monitor raises exploding", [monitored(s) for s in seeds],
            FIRST + len(NORMS) - 1, ",.0f",
        ),
        at_most("alarms of any on healthy values", early, 0, ".0f"),
    ]  # fmt: skip
    return draw(first), claims


def draw(first):
    """Gradient norm and loss, and which detector alarmed when."""
    figure, axes = panels(
        1, "BLOOM-176B: the gradient norm knows before the loss does",
        rows=2, high=5.2, sharex=True, height_ratios=(1.7, 1),
    )  # fmt: skip
    above, below = axes[:, 0]
    at, past = np.arange(len(NORMS)), np.linspace(-4, -1, len(HEALTHY))
    above.plot(past, HEALTHY, "o", color=FAINT, markersize=4)
    above.annotate(
        "ten values of healthy days", (past.mean(), 0.4), ha="center", fontsize=9, color=FAINT
    )
    above.plot(at, NORMS, "o-", color=VERMILION, linewidth=1.8, markersize=5)
    below.plot(at, LOSSES, "o-", color=BLUE, linewidth=1.8, markersize=5)
    together = {}
    for name, iteration in first.items():
        together.setdefault(iteration, []).append(name)
    for row, (iteration, names) in enumerate(together.items()):
        height = 40 * 8**row
        above.plot(
            [iteration - FIRST] * 2, [NORMS[iteration - FIRST], height], color=INK, linewidth=0.9
        )
        above.annotate(
            ", ".join(names), (iteration - FIRST, height), xytext=(-4, 0), ha="right", va="center",
            textcoords="offset points", fontsize=9, color=INK,
        )  # fmt: skip
    for axis in (above, below):
        axis.axvline(PEAK - FIRST, color=BLUE, linewidth=0.9, linestyle=(0, (4, 3)))
    below.annotate(
        "peak of the loss", (PEAK - FIRST, 4.9), xytext=(6, 0), textcoords="offset points",
        fontsize=9, color=BLUE,
    )  # fmt: skip
    above.set_yscale("log")
    above.set_ylim(0.08, 2e4)
    below.set_ylim(2, 5.4)
    below.set_xticks(at, [f"{FIRST + i:,}" for i in at])
    plain(above, "gradient norm, and who alarms")
    plain(below, "loss", "iteration")
    return figure


if __name__ == "__main__":
    main(study)
