"""Nulls: what each divergence comes to by chance alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shiftwatch.divergences.gaussian_kl import gaussian_kl_null
from shiftwatch.divergences.hellinger import hellinger_null
from shiftwatch.divergences.js import js_null
from shiftwatch.divergences.kl import kl_null, reverse_kl_null
from shiftwatch.divergences.ks import ks_null
from shiftwatch.divergences.mean_shift import mean_shift_null
from shiftwatch.divergences.octaves import octaves_null
from shiftwatch.divergences.psi import psi_null
from shiftwatch.divergences.variance_shift import variance_shift_null
from shiftwatch.divergences.wasserstein import wasserstein_null
from shiftwatch.divergences.worst_unit_shift import worst_unit_shift_null
from shiftwatch.summaries.summary import Summary

#: Divergence name to its expected value for two windows of one distribution.
NULLS: dict[str, Callable[[Summary, Summary], np.ndarray]] = {
    "mean_shift": mean_shift_null,
    "variance_shift": variance_shift_null,
    "kl": kl_null,
    "reverse_kl": reverse_kl_null,
    "gaussian_kl": gaussian_kl_null,
    "js": js_null,
    "psi": psi_null,
    "hellinger": hellinger_null,
    "wasserstein": wasserstein_null,
    "octaves": octaves_null,
    "ks": ks_null,
    "worst_unit_shift": worst_unit_shift_null,
}
