"""The picture of a comparison: false alarms to the right, recall upwards, ours and the others.

Needs matplotlib. Colours are Okabe and Ito's, which differ for the colour-blind too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmarks.faults.compare import OURS, Standing

WIDE, HIGH = 8.0, 6.2  # inches at 100 dots each: 800 points wide in README
INK, FAINT, BLUE = "#222222", "#8a8a8a", "#0072B2"
COLOURS = ("#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8F8F00", "#555555")
MARKERS = "s^DvPXph*<>"


def frontier(standings: Sequence[Standing], group: str) -> Any:
    """Each observer a point with its intervals of 95 %; the best place is the upper left corner."""
    figure, axis = plt.subplots(figsize=(WIDE, HIGH))
    axis.set_xlim(-4, 104)
    axis.set_ylim(-4, 104)
    points = []
    others = [s for s in standings if s.observer != OURS]
    for i, s in enumerate([*others, *(s for s in standings if s.observer == OURS)]):
        if not (s.healthy and s.killed):
            continue
        ours = s.observer == OURS
        colour = BLUE if ours else COLOURS[i % len(COLOURS)]
        x, y = 100 * s.alarms, 100 * s.recall
        low, high = (100 * v for v in s.alarm_interval)
        least, most = (100 * v for v in s.recall_interval)
        axis.errorbar(
            x, y, xerr=[[x - low], [high - x]], yerr=[[y - least], [most - y]], color=colour,
            marker="o" if ours else MARKERS[i % len(MARKERS)], markersize=10 if ours else 6.5,
            elinewidth=2.2 if ours else 1.2, zorder=5 if ours else 3, alpha=1.0 if ours else 0.9,
        )  # fmt: skip
        points.append((x, y, (low, high), (least, most), s.observer, colour, ours))
    _plain(axis)
    axis.set_xlabel("healthy runs with an alarm", color=INK, fontsize=10.5, labelpad=8)
    axis.set_ylabel("faults found", color=INK, fontsize=10.5, labelpad=6)
    first = standings[0]
    figure.text(
        0.012, 0.965, "What is found, and what is raised for nothing", fontsize=14.5,
        fontweight="bold", color=INK, va="center",
    )  # fmt: skip
    figure.text(
        0.012, 0.918, f"{first.healthy:,} healthy runs and {first.killed:,} faults that did harm, "
        f"{group} set; bars: intervals of 95 %; best is the upper left corner",
        fontsize=9.5, color=FAINT, va="center",
    )  # fmt: skip
    figure.subplots_adjust(left=0.105, right=0.975, top=0.875, bottom=0.115)
    _names(axis, points)  # last, as it asks where everything is
    return figure


def _names(axis: Axes, points: Sequence[tuple[Any, ...]]) -> None:
    """Each point's name beside it, where it covers the least of what is there already."""
    canvas = axis.figure.canvas
    taken: list[Bbox] = []
    for x, y, across, up, *_ in points:
        taken += [_box(axis, (x, x), (y, y), 7), _box(axis, across, (y, y), 2)]
        taken.append(_box(axis, (x, x), up, 2))
    frame = axis.get_window_extent()
    for x, y, *_, name, colour, ours in points:
        best: tuple[float, Any, list[Bbox]] | None = None
        for distance, (right, above) in product(
            (12, 24, 40, 60, 84), ((1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (-1, 0), (0, 1), (0, -1))
        ):  # fmt: skip
            text = axis.annotate(
                name, (x, y), xytext=(right * distance, above * distance * 0.75),
                textcoords="offset points", color=colour, fontsize=11.5 if ours else 9.5,
                fontweight="bold" if ours else "normal", va="center",
                ha={1: "left", 0: "center", -1: "right"}[right], zorder=6,
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6,
                            "shrinkA": 0, "shrinkB": 4} if distance > 12 else None,
            )  # fmt: skip
            text.update_positions(canvas.get_renderer())
            box = Text.get_window_extent(text).padded(4)  # without its line
            line = _line(axis, x, y, box) if distance > 12 else []
            covered = sum(_common(one, other) for one in [box, *line] for other in taken)
            outside = box.width * box.height - _common(box, frame)
            cost = 5 * (covered + outside) + distance
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, text, [box, *line])
            else:
                text.remove()
        assert best is not None
        taken += best[2]


def _line(axis: Axes, x: float, y: float, box: Bbox) -> list[Bbox]:
    """Small boxes along the line from a point to its name, in dots."""
    start = axis.transData.transform((x, y))
    way = np.clip(start, box.min, box.max) - start
    return [Bbox([start + part * way] * 2).padded(3) for part in (0.3, 0.5, 0.7, 0.9)]


def _box(axis: Axes, x: tuple[float, float], y: tuple[float, float], margin: float) -> Bbox:
    """A stretch of the data, in dots."""
    corners = axis.transData.transform([(x[0], y[0]), (x[1], y[1])])
    return Bbox(corners).padded(margin)


def _common(one: Bbox, other: Bbox) -> float:
    """Area of what two boxes share."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)


def _plain(axis: Axes) -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#cccccc")
    axis.grid(color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xticks(range(0, 101, 20), [f"{v} %" for v in range(0, 101, 20)])
    axis.set_yticks(range(0, 101, 20), [f"{v} %" for v in range(0, 101, 20)])
    axis.tick_params(length=0, labelcolor="#555555")
