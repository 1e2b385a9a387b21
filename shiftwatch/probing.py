"""Probes: the same inputs shown again and again, so that what moves is due to the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.records import Site

#: Least standard deviation of a unit, as a share of its layer's: below, a unit counts as silent,
#: and its first sign of life is a large divergence instead of an endless one.
FLOOR = 0.05


@dataclass(frozen=True)
class Probed:
    """Every layer's outputs on the probe batch, at one moment.

    Internal covariate shift as Ioffe & Szegedy (2015) define it is the change of these
    distributions through the change of the weights: the inputs are fixed, and so are the positions
    that are sampled and the random numbers of dropout. Where no weight moved, all four distances
    are exactly 0. In fine-tuning the first probe is of the pretrained model, and the distance
    to it is the drift away from that model.

    Args:
        step: optimizer steps that were done by then.
        sites: what the arrays stand for, in execution order; all arrays are float64[sites].
        p15, p50, p85: percentiles, as in figure 1 of that paper.
        mean, std: of all values.
        wasserstein, kl: distance from the first probe, see :func:`apart`.
        wasserstein_step, kl_step: distance from the probe before; NaN in the first.
    """

    step: int
    sites: tuple[Site, ...]
    p15: np.ndarray
    p50: np.ndarray
    p85: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    wasserstein: np.ndarray
    kl: np.ndarray
    wasserstein_step: np.ndarray
    kl_step: np.ndarray

    def __str__(self) -> str:
        wide = max([5, *(len(s.key) for s in self.sites)])
        lines = [
            f"probe after {self.step:,} steps; W1 in standard deviations, KL in nats per unit",
            f"{'layer':<{wide}}  {'p15':>9}  {'p50':>9}  {'p85':>9}  {'W1 first':>9}  {'KL first':>9}"
            f"  {'W1 step':>9}  {'KL step':>9}",
        ]
        table = np.array([
            self.p15, self.p50, self.p85, self.wasserstein, self.kl, self.wasserstein_step, self.kl_step,
        ])  # fmt: skip
        for site, row in zip(self.sites, table.T, strict=True):
            lines.append(f"{site.key:<{wide}}  " + "  ".join(f"{x:>9.3g}" for x in row))
        return "\n".join(lines)


class Sample(NamedTuple):
    """One site's values on the probe batch.

    Attributes:
        ordered: float32[values], ascending.
        mean, variance: float64[units].
    """

    ordered: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Sample:
        """Of sampled values [positions, units].

        Cost: one sort; 0.5 ms for 8,192 values.
        """
        wide = values.astype(np.float64)
        return cls(np.sort(values, axis=None).astype(np.float32), wide.mean(0), wide.var(0))


def apart(now: Sample, then: Sample) -> tuple[float, float]:
    r"""Distance of two samples of the same values: Wasserstein-1 and symmetric Gaussian KL.

    $W_1 = \operatorname{mean} |x_{(i)} - y_{(i)}|$ in standard deviations of ``then``, all units together; and
    $\frac12 (\frac{\sigma^2 + d^2}{\tau^2} + \frac{\tau^2 + d^2}{\sigma^2}) - 1$, $d$ the difference of the
    means, for each unit, averaged over units. A deviation under :data:`FLOOR` of the layer's in
    ``then`` counts as that much.

    Returns:
        Both 0 for the same values, without upper bound; NaN where the shapes differ, a value is
        not finite, or all values of ``then`` are one.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(64, 8))
        >>> apart(Sample.of(x), Sample.of(x))
        (0.0, 0.0)
        >>> [round(d, 2) for d in apart(Sample.of(x + x.std()), Sample.of(x))]
        [1.0, 1.08]

    References:
        Huang & Yu (2020), CVPR: internal covariate shift as an earth mover's distance.
    """
    if now.ordered.shape != then.ordered.shape or now.mean.shape != then.mean.shape:
        return float("nan"), float("nan")
    scale = float(then.ordered.std(dtype=np.float64))
    if not scale > 0:
        return float("nan"), float("nan")
    moved = np.abs(now.ordered.astype(np.float64) - then.ordered).mean() / scale
    least = (FLOOR * scale) ** 2
    a, b = np.maximum(now.variance, least), np.maximum(then.variance, least)
    square = (now.mean - then.mean) ** 2
    divergence = ((a + square) / b + (b + square) / a).mean() / 2 - 1
    return float(moved), float(max(divergence, 0.0))


def probed(
    step: int,
    now: Mapping[Site, Sample],
    first: Mapping[Site, Sample],
    before: Mapping[Site, Sample] | None = None,
) -> Probed:
    """The record of a probe.

    Args:
        now: what was seen.
        first: what the first probe saw; ``now`` itself in the first.
        before: what the probe before saw.
    """
    nothing = float("nan"), float("nan")
    with np.errstate(all="ignore"):
        shown = np.array([_shown(s.ordered) for s in now.values()]).reshape(-1, 5)
        far = [apart(s, first[k]) if k in first else nothing for k, s in now.items()]
        near = [apart(s, before[k]) if before and k in before else nothing for k, s in now.items()]
    distances = np.array([far, near]).reshape(2, -1, 2)
    return Probed(step, tuple(now), *shown.T, *distances[0].T, *distances[1].T)


def _shown(ordered: np.ndarray) -> tuple[float, ...]:
    wide = ordered.astype(np.float64)
    return (*np.quantile(wide, (0.15, 0.5, 0.85)).tolist(), float(wide.mean()), float(wide.std()))


#: Name of each reading in the history.
KEYS = tuple(f"probe_{name}" for name in list(Probed.__dataclass_fields__)[2:])


def probe_metrics(seen: Probed, columns: np.ndarray, sites: int) -> dict[str, np.ndarray]:
    """The readings as metrics of their sites: float64[sites] each, NaN elsewhere.

    Args:
        columns: int64, of each of the probe's sites; -1 where it has none.

    Example:
        >>> x = {Site("fc"): Sample.of(np.arange(20.0).reshape(10, 2))}
        >>> probe_metrics(probed(0, x, x), np.array([1]), 2)["probe_p50"].tolist()
        [nan, 9.5]
    """
    known = columns >= 0
    result = {}
    for key in KEYS:
        result[key] = np.full(sites, np.nan)
        result[key][columns[known]] = getattr(seen, key.removeprefix("probe_"))[known]
    return result
