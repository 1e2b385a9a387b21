"""Draw the figures of benchmarks/results: docs/overhead.png, docs/scaling.png, docs/soak.png.

    python benchmarks/figure.py [overhead] [scaling] [soak] [--results FOLDER] [--into FOLDER]

Needs matplotlib. Colours are Okabe and Ito's, which differ for the colour-blind too.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import measure
from overhead import amortised

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import patheffects
from matplotlib.axes import Axes
from workloads import NAMES

DOCS = Path(__file__).parent.parent / "docs"
WIDE = 8.0  # inches at 100 dots each: 800 points wide in README
INK, FAINT = "#222222", "#8a8a8a"
OURS, ORANGE, SKY, GREEN = "#0072B2", "#E69F00", "#56B4E9", "#009E73"
VERMILION, PURPLE, OLIVE = "#D55E00", "#CC79A7", "#8F8F00"

# Row to label, colour and marker.
EVERY = {
    "shiftwatch": ("shiftwatch", OURS, "o"),
    "fastai": ("fastai", ORANGE, "s"),
    "delve": ("delve", GREEN, "^"),
    "wandb.watch": ("wandb.watch", VERMILION, "D"),
    "torchexplorer": ("torchexplorer", PURPLE, "v"),
    "Composer": ("Composer", SKY, "P"),
    "Bolts": ("Bolts", OLIVE, "X"),
}
DEFAULTS = {
    "shiftwatch": EVERY["shiftwatch"],
    "shiftwatch budget=0.01": ("budget=0.01", OURS, "o"),
    "fastai": EVERY["fastai"],
    "delve": EVERY["delve"],
    "wandb.watch /1000": ("wandb.watch /1000", VERMILION, "D"),
    "torchexplorer /500": ("torchexplorer /500", PURPLE, "v"),
    "Composer /25": ("Composer /25", SKY, "P"),
    "Bolts /50": ("Bolts /50", OLIVE, "X"),
}
FLOOR = 0.001  # share below which all is drawn at the edge

Rows = list[dict[str, Any]]


def overhead(rows: Rows) -> Any:
    """Added share of the step time by workload: at every step, and as each comes by default."""
    workloads = [w for w in NAMES if any(r["workload"] == w for r in rows)]
    figure, axes = plt.subplots(2, 1, figsize=(WIDE, 8.4), height_ratios=(5, 4))
    _lines(axes[0], rows, workloads, EVERY, "at every step")
    _lines(
        axes[1], rows, workloads, DEFAULTS,
        "as often as each works by default (/n: at every n-th step), on average",
    )  # fmt: skip
    steps = {
        r["workload"]: r["plain"] for r in rows if r["variant"] == "shiftwatch" and "plain" in r
    }
    labels = [f"{NAMES[w]}\n{_time(steps.get(w))}" for w in workloads]
    for axis in axes:
        axis.set_xticks(range(len(workloads)), labels, fontsize=9.5)
        axis.tick_params(axis="x", length=0)
    _title(figure, "What watching adds to a training step", 0.978)
    failed: dict[str, list[str]] = {}
    for row in rows:
        if "failed" in row and row["variant"] in EVERY and "not installed" not in row["failed"]:
            failed.setdefault(EVERY[row["variant"]][0], []).append(NAMES[row["workload"]])
    notes = [
        "Hollow: within the noise of its measurement. Dotted: shiftwatch's own time, without its "
        "effect on caches."
    ]
    notes += [f"{name} does not run on {_listed(at)}." for name, at in failed.items()]
    figure.text(0.012, 0.010, "\n".join(notes), fontsize=8.5, color=FAINT, va="bottom")
    figure.subplots_adjust(
        left=0.098, right=0.815, top=0.905, bottom=0.085 + 0.018 * len(notes), hspace=0.28
    )
    return figure


def _lines(
    axis: Axes, rows: Rows, workloads: list[str], shown: dict[str, tuple[str, str, str]],
    title: str,
) -> None:  # fmt: skip
    table = {(r["workload"], r["variant"]): r for r in rows if "failed" not in r}
    ends: list[tuple[float, str, str, bool, float]] = []
    for variant, (label, colour, marker) in shown.items():
        ours = variant.startswith("shiftwatch")
        points = []
        for i, workload in enumerate(workloads):
            row = table.get((workload, variant))
            ratio = amortised(row, rows) if row is not None else None
            if row is not None and ratio is not None:
                noise = 2 * 0.93 * (row["high"] - row["low"]) / math.sqrt(row["pairs"])
                share = max(ratio - 1, FLOOR)
                points.append((i, share, ratio - 1 > noise))
        if not points:
            continue
        thick = 2.6 if ours else 1.3
        solid = variant != "shiftwatch budget=0.01"
        gaps = [math.nan] * len(workloads)
        for i, share, _ in points:
            gaps[i] = share
        axis.plot(
            range(len(workloads)), gaps, color=colour, linewidth=thick if solid else 1.5,
            alpha=1.0 if ours else 0.75, linestyle="-" if solid else (0, (4, 2)), zorder=3 + ours,
        )  # fmt: skip
        for i, share, real in points:
            axis.plot(
                i, share, marker=marker, markersize=7 if ours else 5.5, color=colour,
                markerfacecolor=colour if real else "white", markeredgewidth=1.3, zorder=4 + ours,
            )  # fmt: skip
        ends.append((points[-1][1], label, colour, ours, max(p[1] for p in points)))
        if variant == "shiftwatch":
            direct = [table.get((w, variant), {}).get("direct", math.nan) - 1 for w in workloads]
            axis.plot(
                range(len(workloads)), [max(d, FLOOR) for d in direct], color=OURS,
                linestyle=(0, (1, 1.5)), linewidth=1.6, zorder=4,
            )  # fmt: skip
    top = max((e[4] for e in ends), default=1.0) * 1.7
    axis.set_yscale("log")
    axis.set_ylim(FLOOR * 0.75, top)
    axis.set_xlim(-0.25, len(workloads) - 0.8)
    ticks = [10.0**e for e in range(-3, math.ceil(math.log10(top)))]
    axis.set_yticks(
        ticks, [f"{t * 100:,.1f} %" if t < 0.01 else f"{t * 100:,.0f} %" for t in ticks]
    )
    axis.yaxis.minorticks_off()
    axis.set_title(title, loc="left", fontsize=11, color=INK, pad=8)
    _plain(axis)
    _labels(axis, ends)


def _labels(
    axis: Axes, ends: Sequence[tuple[float, str, str, bool, float]], gap: float = 0.062
) -> None:
    """Names at the right, moved apart where their lines end together."""
    low, high = (math.log10(v) for v in axis.get_ylim())
    places: list[list[Any]] = []
    for value, label, colour, bold, _ in sorted(ends):
        at = (math.log10(value) - low) / (high - low)
        lines = label.count("\n") + 1
        places.append([at, label, colour, bold, at, gap * lines])
    for _ in range(200):  # until none overlaps
        for a, b in pairwise(places):
            lacking = (a[5] + b[5]) / 2 - (b[0] - a[0])
            if lacking > 1e-6:
                a[0], b[0] = a[0] - lacking / 2, b[0] + lacking / 2
        for one in places:
            one[0] = min(max(one[0], one[5] / 2 - 0.02), 1.02)
    for at, label, colour, bold, true, _ in places:
        axis.annotate(
            label, xy=(1.0, true), xytext=(1.035, at), xycoords="axes fraction",
            textcoords="axes fraction", va="center", ha="left", fontsize=9.5, color=colour,
            fontweight="bold" if bold else "normal", annotation_clip=False, linespacing=1.0,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 1,
                        "shrinkB": 1, "alpha": 0.7, "relpos": (0, 0.5)},
        )  # fmt: skip


def scaling(rows: Rows) -> Any:
    """Cost per layer over the size of one dimension."""
    dimensions = list(dict.fromkeys(r["dimension"] for r in rows))
    figure, axes = plt.subplots(1, len(dimensions), figsize=(WIDE, 3.5), sharey=True)
    keys = ("read_us", "hook_us", "core_us")
    low, high = min(r[k] for r in rows for k in keys), max(r[k] for r in rows for k in keys)
    lines = {
        "read_us": ("sum of all values", FAINT, "s"),
        "hook_us": ("hook, per layer", OURS, "o"),
        "core_us": ("core, per site", ORANGE, "^"),
    }
    for axis, dimension in zip(axes, dimensions, strict=True):
        mine = sorted((r for r in rows if r["dimension"] == dimension), key=lambda r: r["size"])
        x = [r["size"] for r in mine]
        ends: list[tuple[float, str, str, bool, float]] = []
        for key, (label, colour, marker) in lines.items():
            y = [r[key] for r in mine]
            axis.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=2)
            ends.append((y[-1], label, colour, False, max(y)))
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(x, [f"{v:,}" for v in x])
        axis.set_ylim(10 ** math.floor(math.log10(low)), high * 1.4)
        axis.minorticks_off()
        if axis is axes[-1]:
            _labels(axis, ends, 0.1)
        axis.set_title(dimension, loc="left", fontsize=11, color=INK)
        _plain(axis)
    axes[0].set_ylabel("µs per step", color=INK)
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _title(figure, "What a layer costs as its output grows", 0.95)
    figure.subplots_adjust(left=0.09, right=0.83, top=0.80, bottom=0.10, wspace=0.12)
    return figure


def soak(rows: Rows) -> Any:
    """Memory, objects and time over a long run."""
    x = [r["step"] for r in rows]
    figure, axes = plt.subplots(1, 3, figsize=(WIDE, 3.3))
    first = rows[0]
    panels: list[tuple[str, list[tuple[str, str, Callable[[dict[str, Any]], float]]]]] = [
        ("memory, MB", [
            ("process", FAINT, lambda r: r["resident"] / 1e6),
            ("shiftwatch's arrays", OURS, lambda r: r["held"] / 1e6),
        ]),
        ("alive, more than at first", [
            ("Python objects", FAINT, lambda r: r["objects"] - first["objects"]),
            ("tensors", OURS, lambda r: r["tensors"] - first["tensors"]),
        ]),
        ("processor time per step, ms", [
            ("watched", OURS, lambda r: r["mean_us"] / 1e3),
            ("plain", FAINT, lambda r: r["mean_plain_us"] / 1e3),
        ]),
    ]  # fmt: skip
    white = [patheffects.withStroke(linewidth=3, foreground="white")]
    for axis, (title, series) in zip(axes, panels, strict=True):
        top = max(value(r) for _, _, value in series for r in rows)
        for label, colour, value in series:
            y = [value(r) for r in rows]
            axis.plot(x, y, color=colour, linewidth=2)
            axis.annotate(
                label, (x[-1], max(y[len(x) // 2 :])), xytext=(0, 5), textcoords="offset points",
                color=colour, fontsize=9.5, ha="right", path_effects=white,
            )  # fmt: skip
        axis.set_ylim(min(0, min(v(r) for _, _, v in series for r in rows)), top * 1.18)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.set_xlim(0, x[-1])
        axis.set_xticks([0, x[-1]], ["0", f"{x[-1]:,} steps"], fontsize=9)
        axis.get_xticklabels()[-1].set_ha("right")
        axis.set_title(title, loc="left", fontsize=10.5, color=INK)
        _plain(axis)
    _title(figure, f"{x[-1]:,} steps of a small network", 0.95)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.79, bottom=0.10, wspace=0.28)
    return figure


def _title(figure: Any, words: str, y: float) -> None:
    figure.text(0.012, y, words, fontsize=14.5, fontweight="bold", color=INK, va="center")


def _plain(axis: Axes) -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#cccccc")
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0, labelcolor="#555555")
    axis.tick_params(axis="x", color="#cccccc", labelcolor=INK)


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


FIGURES: dict[str, Callable[[Rows], Any]] = {"overhead": overhead, "scaling": scaling, "soak": soak}


def main() -> None:
    """Draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="figure", help=", ".join(FIGURES))
    parser.add_argument("--results", type=Path, default=measure.RESULTS)
    parser.add_argument("--into", type=Path, default=DOCS)
    given = parser.parse_args()
    for name in given.names or FIGURES:
        file = given.results / f"{name}.json"
        if not file.exists():
            sys.exit(f"{file} is missing: python benchmarks/{name}.py measures it.")
        figure = FIGURES[name](measure.load(file))
        figure.savefig(given.into / f"{name}.png", dpi=200, facecolor="white")
        print(given.into / f"{name}.png")


if __name__ == "__main__":
    main()
