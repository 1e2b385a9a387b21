"""Divergences: a number of two windows, for any number of sites in one call.

Every entry of :data:`DIVERGENCES` takes ``(current, reference)``, two Summaries of one
shape [...], and returns float64[...]: in a fixed unit, NaN where a window is empty, finite
wherever both hold a value. ``d(a, a)`` is 0 exactly, and but for the two signed ones
(``mean_shift``, ``variance_shift``) no value is under 0.

Two finite windows of one distribution differ by chance: :data:`NULLS` knows by how much on
average, and :func:`debiased` subtracts it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shiftwatch.divergences.gaussian_kl import gaussian_kl as gaussian_kl
from shiftwatch.divergences.hellinger import hellinger as hellinger
from shiftwatch.divergences.js import js as js
from shiftwatch.divergences.kl import kl as kl
from shiftwatch.divergences.kl import reverse_kl as reverse_kl
from shiftwatch.divergences.ks import ks as ks
from shiftwatch.divergences.mean_shift import mean_shift as mean_shift
from shiftwatch.divergences.nulls import NULLS as NULLS
from shiftwatch.divergences.octaves import octaves as octaves
from shiftwatch.divergences.psi import psi as psi
from shiftwatch.divergences.variance_shift import variance_shift as variance_shift
from shiftwatch.divergences.wasserstein import wasserstein as wasserstein
from shiftwatch.divergences.worst_unit_shift import worst_unit_shift as worst_unit_shift
from shiftwatch.summaries.summary import Summary

#: Name to function of ``(current, reference)``.
DIVERGENCES: dict[str, Callable[[Summary, Summary], np.ndarray]] = {
    "mean_shift": mean_shift,
    "variance_shift": variance_shift,
    "kl": kl,
    "reverse_kl": reverse_kl,
    "gaussian_kl": gaussian_kl,
    "js": js,
    "psi": psi,
    "hellinger": hellinger,
    "wasserstein": wasserstein,
    "octaves": octaves,
    "ks": ks,
    "worst_unit_shift": worst_unit_shift,
}


def debiased(name: str, current: Summary, reference: Summary) -> np.ndarray:
    """A divergence less its mean under chance: 0 on average for windows of one distribution.

    Args:
        name: a key of :data:`DIVERGENCES`.
        current: window under test.
        reference: window that counts as normal.

    Returns:
        float64[...], in the divergence's unit; of either sign; NaN where a window is empty.

    Raises:
        KeyError: for a name that is not in :data:`DIVERGENCES`.

    Cost: the divergence and a few operations per bin and site.

    Example:
        >>> import numpy as np
        >>> from shiftwatch import summarize
        >>> a, b = np.random.default_rng(0).normal(size=(2, 256))
        >>> a, b = summarize(a), summarize(b)
        >>> round(float(psi(a, b)), 2), round(float(debiased("psi", a, b)), 2)
        (0.39, 0.02)

    References:
        Miller (1955), Note on the bias of information estimates.
    """
    return np.asarray(DIVERGENCES[name](current, reference) - NULLS[name](current, reference))
