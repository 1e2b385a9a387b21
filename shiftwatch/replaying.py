"""Replay: whether a layer's output moved because its inputs did, or because the layer itself did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shiftwatch.records import INPUT

#: Share of a layer's output by which it may move and that counts as nothing.
FLOOR = 0.01
#: A layer moved by itself where it did so this many times as much as usual: below it no origin is named.
CLEAR = 2.0
#: The same for the model's input, whose samples are others each time.
CLEAR_INPUT = 4.0


@dataclass(frozen=True)
class Replayed:
    r"""Every layer's change since a reference, split into its own and what it inherited.

    With $X$ what enters a layer, $Y$ what it puts out and $f$ the layer, each at the reference (ref)
    and now (t), for the same samples given to the model:
    $Y_t - Y_{ref} = [f_t(X_t) - f_t(X_{ref})] + [f_t(X_{ref}) - Y_{ref}]$. The second bracket is the layer's own
    change, the first is inherited; both are given as root mean squares, as shares of that of $Y_{ref}$. The
    split is exact: where nothing of a layer changed its own change is 0, to the last bit on a CPU.

    Args:
        step: optimizer steps that were done by then.
        reference: how many were done when the reference was kept.
        incident: number of the incident that it is about; 0 for none.
        layers: names in execution order, after ``"<input>"`` where the model's input is known. Of that
            the samples differ: its own change is the distance of their means and deviations, per feature.
        own, inherited: float64[layers], 0 to Inf.
        usual: float64[layers], median of the own change from one reference to the next, before; NaN where
            none is known yet, which counts as 0 for a layer, while the input is not judged then.
        left_out: layers that cannot be replayed, and why.

    Example:
        >>> found = Replayed(40, 32, 1, ("fc1", "fc2"), np.array([0, 2.0]), np.array([0, 0.5]), np.zeros(2))
        >>> found.origin, found.share.tolist()
        ('fc2', [nan, 0.8])

    References:
        Budhathoki et al. (2022), ICML, and Li et al. (2022), KDD, on causes as changed mechanisms.
    """

    step: int
    reference: int
    incident: int
    layers: tuple[str, ...]
    own: np.ndarray
    inherited: np.ndarray
    usual: np.ndarray
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def share(self) -> np.ndarray:
        """float64[layers]: own ÷ (own + inherited), 0 to 1; NaN where nothing moved."""
        with np.errstate(invalid="ignore"):
            share = self.own / (self.own + self.inherited)
        return np.where(np.isinf(self.own), 1.0, share)

    @property
    def score(self) -> np.ndarray:
        """float64[layers]: log of the own change over its usual one, 1 % of the output added to both.

        Where most layers that usually move did so less, as fewer steps have passed than usually do between
        two references, less is usual for all of them: by the median of their quotients.
        """
        usual = np.nan_to_num(self.usual)
        learns = (usual > 0) & (np.array(self.layers) != INPUT)
        if learns.any():
            usual[learns] *= min(float(np.median(self.own[learns] / usual[learns])), 1.0)
        return np.asarray(np.log((self.own + FLOOR) / (usual + FLOOR)))

    @property
    def origin(self) -> str:
        """The layer that moved by itself, of several the one farthest beyond what is usual.

        ``"<input>"`` where that moved to four times what is usual; ``""`` where no layer moved to twice
        of it: what changed then lies between layers, in a function or a sum, or began before the reference.
        """
        score = self.score
        if self.layers[:1] == (INPUT,):
            if score[0] > np.log(CLEAR_INPUT) and not np.isnan(self.usual[0]):
                return INPUT
            score[0] = -np.inf
        best = int(np.argmax(score)) if score.size else -1
        return self.layers[best] if best >= 0 and score[best] > np.log(CLEAR) else ""

    @property
    def verdict(self) -> str:
        """The same in one line."""
        origin = self.origin
        since = f"since step {self.reference}"
        if not origin:
            return f"no layer moved by itself {since}: what changed is inherited, or lies between layers"
        at = self.layers.index(origin)
        times = float(np.exp(self.score[at]))
        if origin == INPUT:
            return f"the model's input moved {since}, by {times:.3g} times as much as usual"
        return (
            f"{origin} itself moved {since}, by {times:.3g} times as much as usual; "
            f"of its change {self.share[at]:.0%} is its own"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, numbers and strings: a list of one mapping per layer, and the rest."""
        columns = {
            name: getattr(self, name).tolist()
            for name in ("own", "inherited", "usual", "share", "score")
        }
        rows = [
            {"layer": layer, **{name: column[i] for name, column in columns.items()}}
            for i, layer in enumerate(self.layers)
        ]
        return {
            "step": self.step, "reference": self.reference, "incident": self.incident,
            "origin": self.origin, "layers": rows, "left_out": dict(self.left_out),
        }  # fmt: skip

    def __str__(self) -> str:
        wide = max([5, *map(len, self.layers)])
        about = f" for incident {self.incident}" if self.incident else ""
        lines = [
            f"after {self.step:,} steps{about}, against {self.reference:,}: changes as shares of the output",
            f"{'layer':<{wide}}  {'own':>9}  {'inherited':>9}  {'own share':>9}  {'usual own':>9}  {'score':>6}",
        ]
        table = np.array([self.own, self.inherited, self.share, self.usual, self.score])
        for layer, (own, inherited, share, usual, score) in zip(self.layers, table.T, strict=True):
            known = "–" if np.isnan(usual) else f"{usual:.3g}"
            moved = "–" if np.isnan(share) else f"{share:.0%}"
            lines.append(
                f"{layer:<{wide}}  {own:>9.3g}  {inherited:>9.3g}  {moved:>9}  {known:>9}  {score:>6.2f}"
            )
        lines += [f"left out: {layer}, for {reason}" for layer, reason in self.left_out]
        return "\n".join([*lines, self.verdict])


def usual(earlier: list[dict[str, float]], layers: tuple[str, ...]) -> np.ndarray:
    """Median of each layer's own change from reference to reference: float64[layers], NaN where unknown.

    Example:
        >>> usual([{"fc": 0.1}, {"fc": 0.3}, {"fc": 0.2}], ("fc", "new")).tolist()
        [0.2, nan]
    """
    known = ([e[layer] for e in earlier if layer in e] for layer in layers)
    return np.array([float(np.median(values)) if values else np.nan for values in known])
