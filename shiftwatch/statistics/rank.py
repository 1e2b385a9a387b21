"""Rank: in how many directions the samples of a layer differ.

These two read a sample array and not a :class:`Summary`, which keeps no relation between
units; they are therefore not among the metrics of a run.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def effective_rank(samples: Any) -> np.ndarray:
    r"""Effective rank: the exponential of the entropy of the singular values.

    $$\exp\Big(-\sum_i p_i \ln p_i\Big), \qquad p_i = \sigma_i / \sum_k \sigma_k$$

    Args:
        samples: array-like [..., rows, units]. Taken as it is: subtract the mean over
            rows to leave out the direction that all rows share.

    Returns:
        float64[...], 1 (all rows alike) to min(rows, units); NaN where all values are zero
        or any is not finite.

    Cost: one singular value decomposition, rows * units * min(rows, units): for reports,
        not for every step.

    Example:
        >>> float(effective_rank([[1.0, 0.0], [0.0, 1.0]]))
        2.0

    References:
        Roy & Vetterli (2007), EUSIPCO: The effective rank.
    """
    x, finite = _matrix(samples)
    sigma = np.linalg.svd(x, compute_uv=False)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = sigma / sigma.sum(-1, keepdims=True)
        entropy = -np.sum(np.where(p > 0, p * np.log(p), 0.0), axis=-1)
    return np.where(finite & (sigma[..., 0] > 0), np.exp(entropy), np.nan)


def participation_ratio(samples: Any) -> np.ndarray:
    r"""Participation ratio: how many eigenvalues of the covariance carry the variance.

    $$\frac{(\operatorname{tr} C)^2}{\operatorname{tr} C^2}$$

    Args:
        samples: array-like [..., rows, units]; the mean over rows is taken out.

    Returns:
        float64[...], 1 (one direction) to min(rows - 1, units); NaN where the rows do not
        differ or a value is not finite.

    Cost: one matrix product, rows * units * min(rows, units), and no decomposition.

    Example:
        >>> float(participation_ratio([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        2.0

    References:
        Gao & Ganguli (2015), Curr. Opin. Neurobiol. 32; the inverse of what physics calls
        the inverse participation ratio.
    """
    x, finite = _matrix(samples)
    x = x - x.mean(-2, keepdims=True)
    largest = np.abs(x).max((-2, -1), keepdims=True)
    x = x / np.where(largest > 0, largest, 1.0)  # its fourth power must stay in range
    transposed = np.swapaxes(x, -2, -1)
    gram = transposed @ x if x.shape[-1] < x.shape[-2] else x @ transposed
    trace = np.trace(gram, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = trace**2 / np.sum(gram**2, axis=(-2, -1))
    return np.where(finite, ratio, np.nan)


def _matrix(samples: Any) -> tuple[np.ndarray, np.ndarray]:
    """Samples in float64, non-finite values as 0, and where all values are finite."""
    x = np.asarray(samples, float)
    if x.ndim < 2 or 0 in x.shape[-2:]:
        raise ValueError(
            f"samples must have the shape [..., rows, units], both at least 1; got {x.shape}. "
            "Reshape to one row per sample."
        )
    finite = np.isfinite(x)
    return np.where(finite, x, 0.0), finite.all((-2, -1))
