"""What the page says about each metric, and how it colours it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Entry:
    """One metric in words.

    Args:
        key: the metric's name everywhere.
        title: as a heading.
        words: its formula in words, one sentence.
        scale: ``"signed"`` (two colours about zero), ``"positive"`` (from zero up),
            ``"share"`` (0 … 1), or ``"log"``.
        full: the colour scale reaches at least this far, so that noise, and the drift of a
            healthy network, stay pale.
    """

    key: str
    title: str
    words: str = ""
    scale: str = "positive"
    full: float = 0.0


_ENTRIES = (
    Entry(
        "mean_shift",
        "Mean shift",
        "(mean now − mean of the reference) ÷ standard deviation of the reference. "
        "±1 is a move by one standard deviation.",
        "signed",
        3.0,
    ),
    Entry(
        "variance_shift",
        "Variance shift",
        "Logarithm of variance now ÷ variance of the reference. 0 is no change, above is wider.",
        "signed",
        3.0,
    ),
    Entry(
        "kl",
        "KL divergence",
        "Kullback–Leibler divergence of the window now from the reference, in nats: how badly "
        "the reference explains what is seen now. 0 is the same distribution.",
        full=2.0,
    ),
    Entry(
        "js",
        "JS divergence",
        "Jensen–Shannon divergence: symmetric and bounded, "
        "from 0 (same distribution) to ln 2 = 0.69 nats (nothing shared).",
        full=0.7,
    ),
    Entry(
        "psi",
        "PSI",
        "Population stability index: sum over bins of (share now − share then) × "
        "ln(share now ÷ share then).",
        full=2.0,
    ),
    Entry(
        "wasserstein",
        "Wasserstein distance",
        "How far values have to be carried, on average, to turn the reference into the window "
        "now, relative to the spread of the reference.",
        full=3.0,
    ),
    Entry(
        "ks",
        "KS distance",
        "Kolmogorov–Smirnov: the largest gap between the two cumulative distributions, 0 … 1.",
        "share",
    ),
    Entry(
        "hellinger",
        "Hellinger distance",
        "Distance between the square roots of the two histograms, 0 … 1.",
        "share",
    ),
    Entry(
        "saturation",
        "Saturation",
        "Share of outputs in the flat part of the activation, where its slope is under 5 % of "
        "the largest slope. Little gradient passes there.",
        "share",
    ),
    Entry(
        "dead_fraction",
        "Dead units",
        "Share of units that were not active once in the window: their activation was flat for "
        "every sample, so they do not learn.",
        "share",
    ),
    Entry("zero_fraction", "Zeros", "Share of values that are exactly zero.", "share"),
    Entry(
        "nonfinite",
        "Non-finite",
        "NaN and infinite values. Any at all is a fault, apart from steps that a loss scaler skips.",
        "positive",
    ),
    Entry(
        "std",
        "Standard deviation",
        "Spread of the values, on a logarithmic scale: down the network it should neither "
        "vanish nor explode.",
        "log",
    ),
    Entry("rms", "Root mean square", "Typical size of the values, on a logarithmic scale.", "log"),
    Entry("mean", "Mean", "Average of the finite values.", "signed"),
    Entry(
        "variance", "Variance", "Square of the standard deviation, on a logarithmic scale.", "log"
    ),
    Entry(
        "kurtosis",
        "Kurtosis",
        "Weight of the tails: mean fourth power of the distance to the mean ÷ squared variance, "
        "on a logarithmic scale; 3 for a normal distribution.",
        "log",
    ),
    Entry("skewness", "Skewness", "Asymmetry: third central moment ÷ std³.", "signed", 1.0),
    Entry(
        "subnormal",
        "Subnormal",
        "Share of values too small for the number type's full precision: about to become zero.",
        "share",
    ),
    Entry(
        "probe_wasserstein",
        "Probe: Wasserstein",
        "On inputs that stay the same, how far outputs have moved since the first probe, in its "
        "standard deviations: the work of the weights alone.",
        full=1.0,
    ),
    Entry(
        "probe_kl",
        "Probe: Gaussian KL",
        "On inputs that stay the same, symmetric divergence of each unit from the first probe, in "
        "nats, averaged over units.",
        full=1.0,
    ),
    Entry(
        "batchnorm_gap",
        "BatchNorm gap",
        "Distance of the mean that enters a batch normalisation from its running mean, in running "
        "standard deviations, averaged over channels. Evaluation uses the running ones.",
        full=1.0,
    ),
    Entry(
        "batchnorm_stretch",
        "BatchNorm stretch",
        "Size of log₂ (standard deviation that enters a batch normalisation ÷ its running one), "
        "averaged over channels.",
        full=1.0,
    ),
    Entry(
        "relative_update",
        "Relative update",
        "Size of one update ÷ size of the weight (root mean squares), on a logarithmic scale. "
        "About 10⁻³ is usual.",
        "log",
    ),
)

GLOSSARY = {entry.key: entry for entry in _ENTRIES}

#: Order in which the page offers metrics; others follow in the order of the run.
ORDER = tuple(GLOSSARY)

#: Metrics of the table of all layers, in order, where the run has them.
TABLE = (
    "mean_shift",
    "variance_shift",
    "kl",
    "js",
    "saturation",
    "dead_fraction",
    "zero_fraction",
    "nonfinite",
    "std",
    "relative_update",
)


def title(key: str) -> str:
    """A metric as a heading, known or not.

    Example:
        >>> title("kl"), title("my_metric")
        ('KL divergence', 'My metric')
    """
    return GLOSSARY[key].title if key in GLOSSARY else key.replace("_", " ").capitalize()


def entry(key: str, values: np.ndarray) -> Entry:
    """The entry of a key; for an unknown one a plain entry whose scale follows its values.

    Example:
        >>> entry("my_metric", np.array([-1.0, 2.0])).scale
        'signed'
    """
    if key in GLOSSARY:
        return GLOSSARY[key]
    known = values[np.isfinite(values)]
    scale = "positive"
    if known.size and known.min() < 0:
        scale = "signed"
    elif known.size and key.endswith(("fraction", "share")) and known.max() <= 1:
        scale = "share"
    elif known.size and known.min() > 0 and known.max() / known.min() > 1e3:
        scale = "log"
    return Entry(key, title(key), _first_line(key), scale)


def _first_line(key: str) -> str:
    """First sentence of the metric's own docstring; empty for a user's own number."""
    try:
        from shiftwatch.catalogue import metrics
    except ImportError:
        return ""
    function = metrics.get(key)
    return (getattr(function, "__doc__", None) or "").strip().split("\n")[0]
