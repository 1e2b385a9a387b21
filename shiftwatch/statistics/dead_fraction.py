"""Dead fraction: the share of units that have fallen silent and stay so."""

from __future__ import annotations

import numpy as np

from shiftwatch.summaries.summary import Summary
from shiftwatch.summaries.units import Units

# -ln 1e-6: a healthy unit is silent for this long once in a million.
_PATIENCE = 14.0
_LONGEST = 512


def dead_fraction(summary: Summary, min_samples: int = 64) -> np.ndarray:
    r"""Share of units that are dead at the end of the window.

    A unit that is active at rate $r$ is silent for $k$ values in a row with probability
    $(1 - r)^k$. It counts as dead once its last silence is longer than chance allows:

    $$k \ge \mathrm{clip}\left(\frac{14}{-\ln(1 - r)},\ \text{min\_samples},\ 512\right)$$

    where $14 = -\ln 10^{-6}$, $r$ is the unit's rate in this very window, and silence is
    counted in whole recorded calls. A unit never seen active is dead after ``min_samples``
    values, one that was active half of the time after as many, one active in 1 of 20 after
    273. From 1 in 37 on the limit is 512: what is that rare takes no part in learning,
    though by chance alone such a unit may count as dead for a while.

    The share of zeros says nothing about units: 35 to 55 % of the values, and in sparse
    networks far more, are zero in good health. Rules on it account for 58 of 68 false
    alarms of one published tool. 3 to 7 % of the units of a ReLU network are never
    active from initialisation on, so judge growth.

    Args:
        summary: of a site with an activation, units kept.
        min_samples: values of a unit that must have been seen, and shortest silence that
            counts.

    Returns:
        float64[...], 0 to 1, among the units with at least ``min_samples`` values; NaN
        where there is none of those, where units were not kept, or where the site has no
        activation that can be flat.

    Cost: about ten operations per unit.

    Example:
        >>> import numpy as np
        >>> from shiftwatch import summarize
        >>> values = np.ones((100, 4)); values[:, 0] = 0; values[30:, 1] = 0
        >>> early, late = (summarize(v, activation="relu") for v in (values[:30], values[30:]))
        >>> float(dead_fraction(early + late))
        0.5

    References:
        Lu, Shin, Su & Karniadakis (2020), Commun. Comput. Phys. 28: units born dead.
        Sokar et al. (2023), ICML: dormant units. See ``dormant``.
        Wardat et al. (2022), DeepDiagnosis, ICSE: the rule on 70 % zeros.
    """
    units = summary.units
    if units is None:
        return np.full(summary.shape, np.nan)
    return np.where(summary.bounded, dead_share(units, min_samples), np.nan)


def dead_share(units: Units, min_samples: int = 64) -> np.ndarray:
    """The same of units alone, whatever the activation: float64[...]."""
    return units.average(dead_units(units, min_samples))


def dead_units(units: Units, min_samples: int = 64) -> np.ndarray:
    """Which they are: float64[units], 1 for dead, 0 for alive, NaN with too few values."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = units.active / (units.count - units.silent)  # while it was alive
        patience = _PATIENCE / -np.log1p(-rate)
    need = np.where(units.active > 0, np.clip(patience, min_samples, _LONGEST), min_samples)
    dead = (units.silent >= need).astype(float)
    known = units.count >= min_samples
    return np.where(known, dead, np.nan)
