"""The population stability index alarms by chance: its customary limits know nothing of the sample.

python examples/papers/psi_null.py [--quick]

Yurdakul (2018), Statistical Properties of Population Stability Index, Western Michigan University; the
limits 0.1 and 0.25 are Lewis's (1994), An Introduction to Credit Scoring. Two samples of n and m values of
one distribution over K bins have an index of about (1/n + 1/m) times a chi-square of K - 1 degrees: at 32
bins and 256 values it averages 0.24, so that 0.25 is crossed in every third comparison and 0.1 in all,
though nothing has changed. With 2,048 values neither ever is.

Half a value is added to every bin, against empty ones, which takes some 5 % off at 256 values. On
shiftwatch's own bins the same holds, with as many bins as the sample happens to occupy; psi_null says
what chance alone makes, and what is judged is the rest.
"""

import numpy as np
from paper import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    VERMILION,
    at_least,
    at_most,
    legend,
    main,
    panels,
    plain,
    within,
)  # fmt: skip
from scipy.stats import chi2

from shiftwatch import metrics, summarize
from shiftwatch.divergences.nulls import NULLS

BINS, PAIRS = 32, 20_000
SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
OWN_PAIRS = 100  # on shiftwatch's bins, per size
LIMITS = (0.1, 0.25)


def index(size: int, seed: int) -> np.ndarray:
    """Of pairs of samples of one uniform distribution: [pairs]."""
    rng = np.random.default_rng((seed, size))
    counts = rng.multinomial(size, np.full(BINS, 1 / BINS), size=(2, PAIRS))
    p, q = (counts + 0.5) / (size + BINS / 2)
    return ((p - q) * np.log(p / q)).sum(-1)


def own(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """shiftwatch's psi of pairs of samples of one normal distribution, and its null: [pairs] each."""
    rng = np.random.default_rng((seed, size))
    samples = rng.normal(size=(OWN_PAIRS, 2, size))
    pairs = [(summarize(a), summarize(b)) for a, b in samples]
    return tuple(
        np.array([float(f(a, b)) for a, b in pairs]) for f in (metrics["psi"], NULLS["psi"])
    )


def study(seeds):
    """The index by chance, on 32 equal bins and on shiftwatch's."""
    small, large = (np.array([index(size, seed) for seed in seeds]) for size in (256, 2048))
    ours = np.array(
        [[own(size, seed) for size in SIZES] for seed in seeds]
    )  # [seed, size, 2, pair]
    expected = (2 / 256) * (BINS - 1)
    share = ours.mean((0, 3))
    claims = [
        within("256 values: mean over (K − 1)(1/n + 1/m)", small.mean(1) / expected, 0.9, 1.1),
        within(
            "256 values: variance over 2 (K − 1)(1/n + 1/m)²",
            small.var(1) / (2 * (BINS - 1) * (2 / 256) ** 2), 0.85, 1.15,
        ),
        within("256 values: share over 0.25", (small > 0.25).mean(1), 0.3, 0.55),
        at_least("256 values: share over 0.1", (small > 0.1).mean(1), 0.99),
        at_most("2,048 values: share over 0.1", (large > 0.1).mean(1), 0.001),
        within("shiftwatch's psi over its psi_null, 64 to 4,096 values", share[:, 0] / share[:, 1], 0.95, 1.05),
    ]  # fmt: skip
    return draw(small[0], large[0], ours[0]), claims


def draw(small, large, ours):
    """The index's distribution by chance, and its size by number of values."""
    figure, (left, right) = panels(2, "The stability index of two samples of one distribution")
    for values, size, colour in ((small, 256, VERMILION), (large, 2048, BLUE)):
        x = np.linspace(0, 0.5, 500)
        law = chi2.pdf(x * size / 2, BINS - 1)
        density, edges = np.histogram(values, 60, density=True)
        height = density * (2 / size) / law.max()
        left.stairs(height, edges, fill=True, color=colour, alpha=0.3, label=f"{size:,} values")
        left.plot(x, law / law.max(), color=colour, linewidth=1.5)
    left.set_xlim(0, 0.5)
    left.set_ylim(0, 1.25)
    left.set_yticks([])
    legend(left, loc="upper right")
    plain(left, f"{BINS} equal bins; lines: chi-square", "index", "density, to one height")
    mean = ours[:, 0].mean(-1)
    low, high = np.percentile(ours[:, 0], (5, 95), axis=-1)
    right.fill_between(
        SIZES, low, high, color=ORANGE, alpha=0.25, linewidth=0, label="5 to 95 % of pairs"
    )
    right.plot(SIZES, mean, "o", color=ORANGE, markersize=5, label="psi, mean")
    right.plot(SIZES, ours[:, 1].mean(-1), color=INK, linewidth=1.5, label="psi_null")
    right.set_xlim(56, 5200)
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(SIZES, [f"{s:,}" for s in SIZES])
    ticks = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
    right.set_yticks(ticks, [f"{t:g}" for t in ticks])
    right.minorticks_off()
    legend(right, loc="upper right")
    plain(right, "shiftwatch's bins, normal values", "values in each sample", "index")
    for limit in LIMITS:
        left.axvline(limit, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        right.axhline(limit, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    left.annotate("limits: 0.1, 0.25", (0.257, 0.97), fontsize=8.5, color=FAINT)
    return figure


if __name__ == "__main__":
    main(study)
