"""The page of a comparison: what differs in sentences, and every measure as a map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from shiftwatch import wording
from shiftwatch._version import __version__
from shiftwatch.comparison import LIMITS, Against, Comparison, compare, words
from shiftwatch.comparison.alignment import pair_windows
from shiftwatch.epochs import epoch_axis
from shiftwatch.records import INPUT, Site
from shiftwatch.report import cards
from shiftwatch.report.glossary import Entry
from shiftwatch.report.measures import MEASURES, SIZES
from shiftwatch.report.page import assemble, edges, rows, section
from shiftwatch.report.payload import Packed, as_json, packed_map, payload
from shiftwatch.report.thinning import thinned
from shiftwatch.run import Run
from shiftwatch.store import open_run

_MOST = 240  # windows of each run, for its percentiles and its loss, and moments of a map
_CELLS = 1_500_000  # numbers of each run, and of each comparison, on the page
_EPOCHS = 1_000  # beginnings of epochs of each run; between them they go on evenly
_LISTED = 8  # differences in sentences; the table has all
_LETTERS = "abcd"  # colours of runs
_FACTS = ("Verdict", "Steps", "Layers", "Loss", "Started", "State")


def render_comparison(
    *runs: Run | str | os.PathLike[str],
    align: str = "step",
    names: Sequence[str] = (),
    comparison: Comparison | None = None,
) -> str:
    """One HTML page that holds runs against the first of them.

    Args:
        runs, align, names: as for :func:`shiftwatch.compare`. The page can be switched to
            the other alignments that these runs allow.
        comparison: of the same runs, where it is at hand.

    Returns:
        HTML under the same rules as :func:`shiftwatch.report.render`.

    Raises:
        ValueError, FileNotFoundError: as :func:`shiftwatch.compare`.

    Cost: summaries of at most 240 windows of each run, and of 300 of both for each comparison
        and alignment; of losses, and of shares that were recorded, all.
    """
    opened = [r if isinstance(r, Run) else open_run(r) for r in runs]
    first = comparison or compare(*opened, align=align, names=names)
    found = {first.align: first}
    for other in _alignments(opened):
        if other not in found:
            found[other] = compare(*opened, align=other, names=first.names)
    packed: dict[str, Packed] = {}
    data = {
        "names": list(first.names),
        "align": first.align,
        "lead": max(range(len(first.against)), key=lambda i: len(first.against[i].departed)),
        "alignments": [key for key in ("step", "epoch", "share") if key in found],
        "runs": [_run(run, number, packed) for number, run in enumerate(opened)],
        "axes": [_axis(run) for run in opened],
        "against": [
            {
                key: _against(c.against[i], opened[i + 1], packed, f"{i}-{key}")
                for key, c in found.items()
            }
            for i in range(len(first.against))
        ],
        "measures": [_measure(key) for key in LIMITS],
        "edges": edges(),
    }
    return assemble("compare", _slots(first, opened), data=as_json(data), packed=packed)


def _alignments(runs: Sequence[Run]) -> list[str]:
    """By which the page can be read: share where lengths differ, epoch where all know theirs.

    Only such by which each run meets the first: one that goes on where it ended shares no step.
    """
    found = ["step"]
    if all(epoch_axis(run)[0].size for run in runs):
        found.append("epoch")
    lengths = [int(run.steps[-1]) + 1 for run in runs]
    if max(lengths) > 1.02 * min(lengths):
        found.append("share")
    return [by for by in found if all(pair_windows(runs[0], run, by).size for run in runs[1:])]


# -- numbers ----------------------------------------------------------------------------------


def _axis(run: Run) -> dict[str, Any]:
    """How long the run is, and its epochs, so few that thousands do not fill the page."""
    steps, done = epoch_axis(run)
    chosen = np.linspace(0, steps.size - 1, min(steps.size, _EPOCHS)).round().astype(int)
    known = {"steps": steps[chosen].tolist(), "done": done[chosen].round(6).tolist()}
    return {"steps": int(run.steps[-1]) + 1, "epochs": known}


def _run(run: Run, number: int, packed: dict[str, Packed]) -> dict[str, Any]:
    """What each layer put out, and the loss."""
    outputs: dict[str, Site] = {}
    for site in run.sites:
        wanted = "input" if site.layer == INPUT else "output"
        if site.mode == "train" and site.tensor == wanted:
            outputs.setdefault(site.layer, site)
    group = packed[f"r{number}-"] = Packed()
    return payload(thinned(run, list(outputs.values()), _room(14 * len(outputs))), group)


def _room(cells: int) -> int:
    """How many columns of so many numbers the page has room for: 40 to 240."""
    return int(np.clip(_CELLS // max(cells, 1), 40, _MOST))


def _against(found: Against, run: Run, packed: dict[str, Packed], name: str) -> dict[str, Any]:
    """Differences, and the sizes they compare, in the form of a run, so that its map draws them."""
    group = packed[f"c{name}-"] = Packed()
    aligned, size = found.aligned, found.aligned.size
    few = min(size, _room((len(LIMITS) + 2 * len(SIZES)) * len(found.pairs)))
    chosen = np.linspace(0, size - 1, few).round().astype(int)
    at = aligned.at[chosen]
    width = at[0] - at[1] if at.size > 1 else -1.0
    known = [key for key in LIMITS if not np.isnan(found.values[key]).all()]
    layers = [run.layers[pair.b] for pair in found.pairs]
    sites = [Site(pair.b, "input" if pair.b == INPUT else "output") for pair in found.pairs]
    place = {pair.b: i for i, pair in enumerate(found.pairs)}
    sizes = [key for key in SIZES if key in found.sizes and not np.isnan(found.sizes[key]).all()]
    return {
        "layers": [[x.name, x.module, x.activation, int(x.parameters), x.norm] for x in layers],
        "sites": [[i, s.tensor, s.part, s.mode] for i, s in enumerate(sites)],
        "time": _steps(aligned.first_b[chosen], aligned.last_b[chosen]),
        "time_a": _steps(aligned.first_a[chosen], aligned.last_a[chosen]),
        "at": [max(float(at[0] + width), 0.0), *at.tolist()],
        "pairs": [[pair.a, pair.b, pair.by] for pair in found.pairs],
        "maps": {k: packed_map(found.values[k][chosen], False, group.maps) for k in known},
        "sizes": [
            {
                k: packed_map(found.sizes[k][i][chosen], SIZES[k].scale == "log", group.maps)
                for k in sizes
            }
            for i in (0, 1)
        ],
        "differences": [
            [place[d.layer], d.sentence, d.score, d.since, d.until, d.measure, dict(d.scores)]
            for d in found.differences
        ],
        "slices": {"first": [], "last": []},
        "metrics": [],
        "alerts": [],
        "tracks": [None] * len(sites),
        "shades": [None] * len(sites),
        "dead": [],
    }


def _steps(first: np.ndarray, last: np.ndarray) -> dict[str, list[int]]:
    return {"first": first.tolist(), "last": last.tolist()}


def _measure(key: str) -> dict[str, Any]:
    entry, size = MEASURES[key], SIZES.get(key)
    return {
        **_entry(entry),
        "limit": LIMITS[key],
        "size": _entry(size) if size else None,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "title": entry.title,
        "words": entry.words,
        "scale": entry.scale,
        "full": entry.full,
    }


# -- words ------------------------------------------------------------------------------------


def _slots(found: Comparison, runs: Sequence[Run]) -> dict[str, str]:
    title = f"{' and '.join(found.names[1:])} against {found.names[0]}"
    several = len(found.against) > 1
    lead = [a.said[0] for a in found.against] if several else found.against[0].said[:1]
    return {
        "title": cards.text(f"{title} · shiftwatch"),
        "heading": cards.text(title),
        "level": _level(found),
        "verdict": cards.text(" ".join(lead)),
        "more": "".join(_more(against, several) for against in found.against),
        "runs": _runs(found, runs),
        "found": "".join(
            _found(against, number, several, found.names[0])
            for number, against in enumerate(found.against, 1)
        ),
        "alerts": section(
            "alerts",
            "Alerts",
            "",
            "".join(map(_alerts, count(), found.names, found.alerts)),
        ),
        "matched": section(
            "matched",
            "Matched by place, kind and shape",
            "These layers bear other names in the two runs.",
            rows(("Run", "Layer", "In the first run"), "".join(map(_renamed, found.against))),
        ),
        "alone": section(
            "alone",
            "Only in one of the runs",
            "Layers without a counterpart are not compared.",
            rows(("Run", "Layer"), "".join(_alone(a, found.names[0]) for a in found.against)),
        ),
        "glossary": cards.glossary(MEASURES[key] for key in LIMITS),
        "version": cards.text(__version__),
    }


def _more(against: Against, several: bool) -> str:
    """What follows the headline, of one run."""
    name = f"<b>{cards.text(against.name)}:</b> " if several else ""
    text = cards.text(" ".join(against.said[1:]))
    return f"<p>{name}{text}</p>" if text else ""


def _level(found: Comparison) -> str:
    if found.fails("critical"):
        return "critical"
    if found.fails("warning"):
        return "warning"
    return "differs" if found.fails("difference") else "healthy"


def _found(against: Against, number: int, several: bool, first: str) -> str:
    """The largest differences in sentences, one list for each run."""
    gone = [d for d in against.differences if d.since is not None]
    column = {pair.b: i for i, pair in enumerate(against.pairs)}
    items = []
    for d in gone[:_LISTED]:
        line = _line(against.values[d.measure][:, column[d.layer]] / LIMITS[d.measure])
        items.append(
            f"<li>{cards.layer_link(wording.place(d.layer), d.layer, run=number)}<span>{cards.text(d.sentence)}</span>{line}</li>"
        )
    if against.schedules is not None:
        line = f'<li><a href="#strip-section">Learning rate</a><span>{cards.text(words.rates(against.schedules, first))}</span></li>'
        items.insert(0 if against.rates_first else len(items), line)
    heading = f"<h3>{cards.text(against.name)}</h3>" if several else ""
    none = "" if gone else '<p class="none">No layer departs.</p>'
    if not items:
        return heading + none
    more = len(gone) - _LISTED
    rest = (
        f'<p class="quiet">{wording.count(more, "more layer")} in the table below.</p>'
        if more > 0
        else ""
    )
    return f'{heading}{none}<ol class="found">{"".join(items)}</ol>{rest}'


def _line(relative: np.ndarray) -> str:
    """A difference over time as a small chart: dashed is the limit, either way."""
    width, height = 150, 34
    size = np.arcsinh(np.where(np.isfinite(relative), relative, np.nan) / 2)
    most = max(float(np.nanmax(np.abs(size), initial=0.0)), 0.8) * 1.08
    x = np.linspace(0, width, size.size) if size.size > 1 else np.array([0.0])
    y = height / 2 * (1 - size / most)
    points, pen = [], "M"
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if np.isnan(b):
            pen = "M"
            continue
        points.append(f"{pen}{a:.1f} {b:.1f}")
        pen = "L"
    limit = float(np.arcsinh(0.5)) / most
    limits = "".join(f"M0 {height / 2 * (1 + side * limit):.1f}H{width}" for side in (-1, 1))
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
        f'<path class="base" d="M0 {height / 2}H{width}"/><path class="limit" d="{limits}"/>'
        f'<path class="line" d="{"".join(points)}"/></svg>'
    )


def _runs(found: Comparison, runs: Sequence[Run]) -> str:
    """Facts of all runs, side by side."""
    facts = [{"Verdict": wording.verdict(run)[1], **dict(wording.facts(run))} for run in runs]
    labels = [key for key in _FACTS if any(key in of for of in facts)]
    body = "".join(
        f"<tr><th scope=row>{cards.text(label)}</th>"
        + "".join(f"<td>{cards.text(of.get(label, '–'))}</td>" for of in facts)
        + "</tr>"
        for label in labels
    )
    head = "".join(
        f'<th scope=col><i class="swatch {_LETTERS[i % len(_LETTERS)]}"></i> {cards.text(name)}</th>'
        for i, name in enumerate(found.names)
    )
    return f'<table class="plain runs"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'


def _alerts(number: int, name: str, alerts: Sequence[Any]) -> str:
    if not alerts:
        return f'<h3 class="inset">{cards.text(name)}: no alert</h3>'
    heads = ("Step", "Severity", "Layer", "Kind", "Value", "Message")
    title = f"{cards.text(name)}: {wording.count(len(alerts), 'alert')}"
    return f'<h3 class="inset">{title}</h3>' + rows(heads, cards.alert_rows(alerts[:200], number))


def _renamed(against: Against) -> str:
    pairs = [p for p in against.pairs if p.by == "structure" and p.a != p.b]
    return "".join(
        f"<tr><td>{cards.text(against.name)}</td><td>{cards.text(p.b)}</td><td>{cards.text(p.a)}</td></tr>"
        for p in pairs[:500]
    )


def _alone(against: Against, first: str) -> str:
    both = ((first, against.only_first), (against.name, against.only_this))
    return "".join(
        f"<tr><td>{cards.text(run)}</td><td>{cards.text(layer)}</td></tr>"
        for run, layers in both
        for layer in layers[:500]
    )
