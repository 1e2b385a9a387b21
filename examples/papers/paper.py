"""What the scripts of this folder share: the digits, claims that can fail, the look of figures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import ArrayLike

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # of a clone: benchmarks are no part of the package
from benchmarks.faults.intervals import clopper_pearson  # noqa: E402

PICTURES = ROOT / "docs" / "papers"
TRAINED_ON, HELD_OUT = 1437, 360  # of scikit-learn's 1,797 digits
WIDE = 8.0  # inches

# Okabe and Ito's colours, which differ for the colour-blind too.
INK, FAINT = "#222222", "#8a8a8a"
BLUE, ORANGE, SKY, GREEN = "#0072B2", "#E69F00", "#56B4E9", "#009E73"
VERMILION, PURPLE = "#D55E00", "#CC79A7"


@dataclass(frozen=True)
class Claim:
    """What must hold of a figure, what was measured, and whether it holds."""

    criterion: str
    measured: str
    holds: bool


#: Draws and judges; is told the seeds to use.
Study = Callable[[range], tuple[Figure, list[Claim]]]


def at_least(what: str, values: ArrayLike, limit: float, form: str = ".3g") -> Claim:
    """That every seed's value is no less than the limit; ``measured`` is their median and range."""
    values = np.ravel(np.asarray(values, float))
    return Claim(f"{what} ≥ {limit:{form}}", _spread(values, form), bool((values >= limit).all()))


def at_most(what: str, values: ArrayLike, limit: float, form: str = ".3g") -> Claim:
    """That every seed's value is no more than the limit."""
    values = np.ravel(np.asarray(values, float))
    return Claim(f"{what} ≤ {limit:{form}}", _spread(values, form), bool((values <= limit).all()))


def within(what: str, values: ArrayLike, low: float, high: float, form: str = ".3g") -> Claim:
    """That every seed's value lies between the limits."""
    values = np.ravel(np.asarray(values, float))
    inside = (values >= low) & (values <= high)
    return Claim(
        f"{what} in {low:{form}} … {high:{form}}", _spread(values, form), bool(inside.all())
    )


def share(what: str, hits: int, trials: int, low: float = 0.0, high: float = 1.0) -> Claim:
    """That a share of all seeds' runs is no less than ``low``, or else no more than ``high``.

    ``measured`` has its interval of 95 %, after Clopper and Pearson.
    """
    limit = f"≥ {low:.0%}" if high == 1 else f"≤ {high:.0%}"
    least, most = clopper_pearson(hits, trials)
    measured = f"{hits} of {trials}, {hits / trials:.0%} [{least:.0%}, {most:.0%}]"
    return Claim(f"{what} {limit}", measured, low <= hits / trials <= high)


def _spread(values: np.ndarray, form: str) -> str:
    middle, low, high = (f"{v:{form}}" for v in (np.median(values), values.min(), values.max()))
    return middle if low == high else f"{middle} ({low} … {high})"


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Handwritten digits in a fixed random order.

    Returns:
        float32[1437, 64] in 0 … 1 and int64[1437] to train on; 360 of each to test on.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    x, y = (pixels[order] / 16).astype(np.float32), labels[order].astype(np.int64)
    return x[:TRAINED_ON], y[:TRAINED_ON], x[TRAINED_ON:], y[TRAINED_ON:]


def batches(values: int, size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Numbers of the values of each step's batch: int64[size], drawn with repetition."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield rng.integers(values, size=size)


def panels(
    columns: int, title: str, *, rows: int = 1, high: float = 3.6, **options: Any
) -> tuple[Figure, Any]:
    """A figure with a title and panels in the common look."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDE, high), layout="constrained", squeeze=False, **options
    )
    figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK)
    figure.get_layout_engine().set(wspace=0.06, hspace=0.08)
    for axis in axes.flat:
        plain(axis)
    return figure, axes[0] if rows == 1 else axes


def plain(axis: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """The common look of a panel, and its words."""
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#cccccc")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", length=0, labelcolor="#555555", labelsize=8.5)
    if title:
        axis.set_title(title, loc="left", fontsize=10, color=INK)
    if x:
        axis.set_xlabel(x, fontsize=9, color=INK)
    if y:
        axis.set_ylabel(y, fontsize=9, color=INK)


def legend(axis: Axes, **options: Any) -> None:
    """A legend without a frame."""
    axis.legend(frameon=False, fontsize=8.5, labelcolor=INK, **options)


def main(study: Study, seeds: int = 3) -> None:
    """The command line of a script: run, print, draw; exit code 1 where a claim does not hold."""
    script = Path(sys.argv[0])
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="the first seed alone")
    parser.add_argument("--into", type=Path, default=PICTURES, help="folder of the figure")
    parser.add_argument("--json", type=Path, help="file to write the claims to as well")
    given = parser.parse_args()
    started = time.perf_counter()
    figure, claims = study(range(1 if given.quick else seeds))
    seconds = time.perf_counter() - started
    for claim in claims:
        print(f"{'holds' if claim.holds else 'FAILS'}  {claim.criterion}: {claim.measured}")
    given.into.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.into / f"{script.stem}.png", dpi=150, facecolor="white")
    print(f"{given.into / script.stem}.png, {seconds:.0f} s")
    if given.json:
        given.json.write_text(json.dumps([vars(claim) for claim in claims], ensure_ascii=False))
    sys.exit(not all(claim.holds for claim in claims))
