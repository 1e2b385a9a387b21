"""What the page of a comparison says about each measure, and how it colours it."""

from __future__ import annotations

from shiftwatch.report.glossary import Entry

_LOG = "0.7 is twice, 2.3 ten times, 0 alike, below 0 smaller."


def _entries(*entries: Entry) -> dict[str, Entry]:
    return {entry.key: entry for entry in entries}


#: The differences, by key of :data:`shiftwatch.comparison.LIMITS`; above 0 is more in B.
MEASURES = _entries(
    Entry(
        "nonfinite", "Not finite", "Share of values that are NaN or infinite, B − A.", "signed", 0.1
    ),
    Entry("dead_fraction", "Dead units", "Share of units that fell silent, B − A.", "signed", 0.5),
    Entry(
        "saturation",
        "Saturation",
        "Share of values where the activation is nearly flat, B − A.",
        "signed",
        0.5,
    ),
    Entry(
        "drift",
        "Drift",
        "How far the layer's values have moved from where the run began, in mean and spread: "
        "how many times as far in B, in doublings, and no more than the difference in standard "
        "deviations. 1 is twice as far.",
        "signed",
        3.0,
    ),
    Entry(
        "mean_shift",
        "Mean",
        "Mean of B − mean of A, in standard deviations of A.",
        "signed",
        3.0,
    ),
    Entry(
        "variance_shift",
        "Spread",
        "Logarithm of the variance of B ÷ that of A. 1.4 is twice the standard deviation, 0 alike.",
        "signed",
        3.0,
    ),
    Entry(
        "js",
        "Distribution",
        "Jensen–Shannon divergence of both histograms, from 0 (the same) to 0.69 (nothing shared).",
        full=0.7,
    ),
    Entry(
        "weight",
        "Weight size",
        f"Logarithm of the size of B's weights ÷ A's. {_LOG}",
        "signed",
        2.3,
    ),
    Entry(
        "gradient",
        "Gradient",
        "Logarithm of B's gradient at the layer's output ÷ A's, each relative to the run's other "
        f"layers. {_LOG}",
        "signed",
        4.6,
    ),
    Entry(
        "update",
        "Update size",
        f"Logarithm of B's updates ÷ A's, each relative to the weights. {_LOG}",
        "signed",
        4.6,
    ),
)

#: The sizes that they compare, which each run has by itself.
SIZES = _entries(
    Entry("nonfinite", "Not finite", "", "share"),
    Entry("dead_fraction", "Dead units", "", "share"),
    Entry("saturation", "Saturation", "", "share"),
    Entry("drift", "Drift from its start, in standard deviations", "", "positive", 3.0),
    Entry("mean_shift", "Mean", "", "signed"),
    Entry("variance_shift", "Standard deviation", "", "log"),
    Entry("weight", "Size of the weights", "", "log"),
    Entry("gradient", "Gradient relative to other layers", "", "log"),
    Entry("update", "Update relative to the weight", "", "log"),
)
