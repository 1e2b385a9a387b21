"""Statistics: a number of one window, for any number of sites in one call.

Every entry of :data:`STATISTICS` takes a Summary of shape [...] and returns float64[...],
NaN where it does not apply. The key is the statistic's name everywhere: in rules, in the
store, in plots.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shiftwatch.statistics.dead_fraction import dead_fraction as dead_fraction
from shiftwatch.statistics.dormant import dormant as dormant
from shiftwatch.statistics.extremes import maximum as maximum
from shiftwatch.statistics.extremes import minimum as minimum
from shiftwatch.statistics.mean import mean as mean
from shiftwatch.statistics.nonfinite import nonfinite as nonfinite
from shiftwatch.statistics.rank import effective_rank as effective_rank
from shiftwatch.statistics.rank import participation_ratio as participation_ratio
from shiftwatch.statistics.rms import rms as rms
from shiftwatch.statistics.saturation import saturation as saturation
from shiftwatch.statistics.shape import kurtosis as kurtosis
from shiftwatch.statistics.shape import skewness as skewness
from shiftwatch.statistics.std import std as std
from shiftwatch.statistics.subnormal import subnormal as subnormal
from shiftwatch.statistics.zero_fraction import zero_fraction as zero_fraction
from shiftwatch.summaries.summary import Summary

#: Name to function of one window.
STATISTICS: dict[str, Callable[[Summary], np.ndarray]] = {
    "mean": mean,
    "std": std,
    "rms": rms,
    "minimum": minimum,
    "maximum": maximum,
    "skewness": skewness,
    "kurtosis": kurtosis,
    "zero_fraction": zero_fraction,
    "nonfinite": nonfinite,
    "subnormal": subnormal,
    "saturation": saturation,
    "dead_fraction": dead_fraction,
    "dormant": dormant,
}
