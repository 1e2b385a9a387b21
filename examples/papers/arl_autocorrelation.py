"""Autocorrelation ruins a chart's promise of few false alarms; whitening gives it back.

python examples/papers/arl_autocorrelation.py [--quick]

Johnson & Bagshaw (1974), The Effect of Serial Correlation on the Performance of CUSUM Tests, Technometrics
16; Page (1954), Biometrika 41, for CUSUM; Shin, Ramdas & Rinaldo (2024), E-detectors, New England Journal
of Statistics in Data Science 2. A chart promises a mean run to a false alarm (ARL). The promise is for
independent values; what one measures while a network trains is anything but.

The values are normal, of variance 1, and follow an AR(1) of coefficient φ; nothing ever changes. CUSUM and
the e-detector alarm ten times as often at φ = 0.6 as at 0, whose bound of 1,000 the latter then breaks. On
the innovations x_t − φ̂ x_{t−1}, with φ̂ and the scale from 300 values before the first, all of them keep
what they promise. A Shewhart chart, which adds nothing up, hardly minds. Jump compares a level with where
it was a moment ago; it alarms ten times as often at φ = 0.9, and still once in 6,000 steps only. That is
without its floor of practical size and at a limit of 5 instead of 8, else there would be nothing to show.
"""

import numpy as np
from paper import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    VERMILION,
    at_least,
    at_most,
    main,
    panels,
    plain,
    within,
)  # fmt: skip

from shiftwatch.detectors import Cusum, EDetector, Jump, Shewhart

PHI = np.array([0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
SERIES, STEPS, BEFORE = 300, 6000, 300
DETECTORS = {
    "Jump": Jump(limit=5, floor=0, prior=1),
    "e-detector": EDetector(alpha=1e-3),
    "CUSUM": Cusum(k=0.5, h=5),
    "Shewhart": Shewhart(limit=3, weight=0.005, burn_in=100),
}


def values(seed: int) -> np.ndarray:
    """As they come, and whitened: float64[steps, 2, φ, series], all of variance 1."""
    noise = np.random.default_rng(seed).normal(size=(BEFORE + STEPS, len(PHI), SERIES))
    phi, x = PHI[:, None], np.empty_like(noise)
    x[0] = noise[0]
    for t in range(1, len(x)):
        x[t] = phi * x[t - 1] + np.sqrt(1 - phi**2) * noise[t]
    past, then = x[: BEFORE - 1], x[1:BEFORE]
    learnt = (past * then).sum(0) / np.square(past).sum(0)
    scale = (then - learnt * past).std(0)
    white = (x[BEFORE:] - learnt * x[BEFORE - 1 : -1]) / scale
    return np.stack([x[BEFORE:], white], axis=1)


def mean_run(detector, x: np.ndarray) -> np.ndarray:
    """Mean run to a false alarm: steps looked at before the first one, by number of alarms: [2, φ].

    Where there is no alarm at all, as if there had been one.
    """
    state, first = detector.init(x.shape[1:]), np.full(x.shape[1:], len(x))
    for t, now in enumerate(x):
        if isinstance(detector, Jump):
            if t % 8 == 0:
                state = detector.refresh(state)
            state, jumped = detector.update(state, now, t)
            fired = jumped.fired
        else:
            state, fired = detector.update(state, now)
        first[fired & (first == len(x))] = t + 1
    alarms = (first < len(x)).sum(-1)
    return first.sum(-1) / np.maximum(alarms, 1)


def study(seeds):
    """Mean runs of every detector, raw and whitened, over φ."""
    runs = {name: [] for name in DETECTORS}
    for seed in seeds:
        x = values(seed)
        for name, detector in DETECTORS.items():
            runs[name].append(mean_run(detector, x))
    runs = {name: np.array(r) for name, r in runs.items()}  # [seed, 2, φ]
    at = {phi: int(np.flatnonzero(PHI == phi)[0]) for phi in (0, 0.6, 0.9)}
    raw = {name: r[:, 0] for name, r in runs.items()}
    white = {name: r[:, 1] for name, r in runs.items()}
    kept = [white[name] / white[name][:, :1] for name in ("CUSUM", "e-detector", "Shewhart")]
    b = 5 + 1.166
    theory = (np.exp(b) - b - 1) / 0.5
    claims = [
        within("φ = 0: CUSUM's mean run over Siegmund's formula", raw["CUSUM"][:, 0] / theory, 0.8, 1.2),
        at_least("CUSUM: mean run at φ = 0 over that at 0.6", raw["CUSUM"][:, 0] / raw["CUSUM"][:, at[0.6]], 5),
        at_most("e-detector, promised 1,000: mean run at φ = 0.6", raw["e-detector"][:, at[0.6]], 500, ",.0f"),
        at_least("Shewhart: mean run at any φ over that at 0", raw["Shewhart"] / raw["Shewhart"][:, :1], 0.7),
        at_least("Jump, not whitened: mean run at φ = 0.9", raw["Jump"][:, at[0.9]], 1000, ",.0f"),
        within("whitened: mean run at any φ over that at 0", kept, 0.6, 1.6),
        at_least("whitened e-detector: mean run at any φ", white["e-detector"], 1000, ",.0f"),
    ]  # fmt: skip
    return draw(runs), claims


def draw(runs):
    """Mean runs over φ, as the values come and whitened."""
    title = "Charts for independent values, on values that are not"
    figure, axes = panels(2, title, sharey=True, high=3.9)
    colours = dict(zip(DETECTORS, (BLUE, GREEN, VERMILION, ORANGE), strict=True))
    for axis, kind, words in zip(axes, (0, 1), ("as they come", "whitened"), strict=True):
        for name, run in runs.items():
            mean = run[:, kind].mean(0)
            axis.plot(PHI, mean, "o-", color=colours[name], linewidth=1.8, markersize=4)
            for one in run[:, kind]:
                axis.plot(PHI, one, color=colours[name], linewidth=0.8, alpha=0.35)
            if kind:
                axis.annotate(
                    name, (PHI[-1], mean[-1]), xytext=(8, 0), textcoords="offset points",
                    va="center", fontsize=9, color=colours[name],
                )  # fmt: skip
        axis.plot(PHI[[0, -1]], [1000, 1000], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axis.set_yscale("log")
        axis.set_yticks([100, 1000, 10_000, 100_000], ["100", "1,000", "10,000", "100,000"])
        axis.set_xticks(PHI[::2])
        plain(axis, words, "autocorrelation φ", "" if kind else "steps to a false alarm, mean")
    axes[0].annotate(
        "what the e-detector promises", (PHI[-1], 1150), ha="right", fontsize=8.5, color=FAINT
    )
    axes[1].set_xlim(-0.05, 1.2)
    return figure


if __name__ == "__main__":
    main(study)
