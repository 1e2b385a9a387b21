"""The page of two runs: where the second departs from the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shiftwatch._version import __version__
from shiftwatch.compare import LIMITS, Comparison, compare
from shiftwatch.report import cards, wording
from shiftwatch.report.glossary import GLOSSARY, Entry
from shiftwatch.report.page import assemble, edges, rows, section
from shiftwatch.report.payload import Packed, as_json, packed_map, payload

if TYPE_CHECKING:
    from shiftwatch.history import Run

# Cells that each of the two runs may spend; together about one report.
_BUDGET = 2_200_000


def render_comparison(a: Run, b: Run) -> str:
    """One HTML page that holds run B against run A.

    Args:
        a: what counts as good.
        b: what is asked about.

    Returns:
        HTML under the same rules as :func:`shiftwatch.report.render`.

    Cost: that of two reports and of :func:`shiftwatch.compare.compare`.
    """
    comparison = compare(a, b)
    packed = {"a-": Packed(), "b-": Packed(), "c-": Packed()}
    data = {
        "a": payload(a, packed["a-"], budget=_BUDGET),
        "b": payload(b, packed["b-"], budget=_BUDGET),
        "against": _against(comparison, b, packed["c-"]),
        "limits": dict(LIMITS),
        "edges": edges(),
    }
    entries = [GLOSSARY[key] for key in LIMITS if key in GLOSSARY]
    return assemble(
        "compare",
        {
            "title": cards.text(f"{wording.run_name(a)} and {wording.run_name(b)} · shiftwatch"),
            "name_a": cards.text(wording.run_name(a)),
            "name_b": cards.text(wording.run_name(b)),
            "level": _level(comparison),
            "verdict": cards.text(comparison.verdict),
            "runs": _runs(a, b),
            "alerts": section(
                "alerts",
                "Alerts",
                "",
                _alerts("A", comparison.alerts_a) + _alerts("B", comparison.alerts_b),
            ),
            "alone": section(
                "alone",
                "Only in one of the runs",
                "Layers without a counterpart of the same name are not compared.",
                rows(
                    ("Run", "Layer"),
                    _alone("A", comparison.only_a) + _alone("B", comparison.only_b),
                ),
            ),
            "glossary": cards.glossary(_as_difference(e) for e in entries),
            "version": cards.text(__version__),
        },
        data=as_json(data),
        packed=packed,
    )


def _level(comparison: Comparison) -> str:
    if not comparison.sites or not comparison.steps.size:
        return "empty"
    return "warning" if comparison.departed else "healthy"


def _against(comparison: Comparison, b: Run, packed: Packed) -> dict[str, Any]:
    """The differences in the form of a run, so that the same map draws them."""
    layers = list(comparison.layers)
    number = {name: i for i, name in enumerate(layers)}
    steps = comparison.steps
    first = np.append(b.first[:1], steps[:-1] + 1) if steps.size else steps
    known = [k for k in LIMITS if not np.isnan(comparison.values[k]).all()] if steps.size else []
    place = {site: i for i, site in enumerate(comparison.sites)}
    return {
        "name": "B against A",
        "layers": [
            [n, b.layers[n].module, b.layers[n].activation, 0, b.layers[n].norm] for n in layers
        ],
        "sites": [[number[s.layer], s.tensor, s.part, s.mode] for s in comparison.sites],
        "time": {"first": first.tolist(), "last": steps.tolist()},
        "slices": {"first": [], "last": []},
        "metrics": [_metric(key) for key in known],
        "maps": {k: packed_map(comparison.values[k], False, packed.maps) for k in known},
        "tracks": [None] * len(comparison.sites),
        "shades": [None] * len(comparison.sites),
        "alerts": [],
        "differences": [
            [place[d.site], d.departed, d.score, d.metric, d.worst, d.last]
            for d in comparison.differences
        ],
    }


def _metric(key: str) -> dict[str, Any]:
    entry = _as_difference(GLOSSARY.get(key, Entry(key, key)))
    signed = entry.scale in ("signed", "share")  # differences of shares go both ways
    return {
        "key": key,
        "title": entry.title,
        "words": entry.words,
        "scale": "signed" if signed else entry.scale,
        "full": LIMITS[key] if entry.scale == "share" else entry.full,
    }


def _as_difference(entry: Entry) -> Entry:
    """The metric's words with run A as the reference."""
    words = entry.words
    if entry.scale == "share" or entry.key == "nonfinite":
        words = f"Share in B − share in A. {words}"
        return Entry(entry.key, entry.title, words, "share", entry.full)
    words = words.replace("the reference", "run A").replace("The reference", "Run A")
    return Entry(entry.key, entry.title, words, entry.scale, entry.full)


def _runs(a: Run, b: Run) -> str:
    """Facts of both runs, side by side."""
    facts_a, facts_b = (
        {"Run": wording.run_name(r), "Verdict": wording.verdict(r)[1], **dict(wording.facts(r))}
        for r in (a, b)
    )
    body = "".join(
        f"<tr><th scope=row>{cards.text(label)}</th>"
        f"<td>{cards.text(facts_a.get(label, '–'))}</td>"
        f"<td>{cards.text(facts_b.get(label, '–'))}</td></tr>"
        for label in dict.fromkeys((*facts_a, *facts_b))
    )
    head = (
        '<th scope=col><i class="swatch a"></i> A</th><th scope=col><i class="swatch b"></i> B</th>'
    )
    return f'<table class="plain runs"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'


def _alerts(run: str, alerts: tuple[Any, ...]) -> str:
    if not alerts:
        return f'<h3 class="inset">{run}: no alert</h3>'
    heads = ("Step", "Severity", "Layer", "Kind", "Value", "Message")
    return f'<h3 class="inset">{run}: {wording.count(len(alerts), "alert")}</h3>' + rows(
        heads, cards.alert_rows(alerts[:200])
    )


def _alone(run: str, layers: tuple[str, ...]) -> str:
    return "".join(
        f"<tr><td class=num>{run}</td><td>{cards.text(n)}</td></tr>" for n in layers[:500]
    )
