"""Plain HTML of what the page says in words: incidents, events, configuration, glossary.

Every text from a run passes through :func:`text`, the only way into the markup.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from shiftwatch.report.facts import Fact, facts_of
from shiftwatch.report.glossary import Entry, title
from shiftwatch.report.sparkline import sparkline
from shiftwatch.wording import count, kind_words, listed, number, place

if TYPE_CHECKING:
    from shiftwatch.history import Run
    from shiftwatch.records import Alert, Event, Incident

_SHOWN_FOLLOWERS = 12
_SHOWN_FACTS = 8
_SHOWN_INCIDENTS = 40
_LONG = 200  # characters of a setting that are shown at once


def text(value: object) -> str:
    """Any value as text that cannot become markup, whatever a layer is called.

    Example:
        >>> text("</script><b>")
        '&lt;/script&gt;&lt;b&gt;'
    """
    printable = "".join(
        c if c.isprintable() or c in "\n\t\xa0" else "\N{REPLACEMENT CHARACTER}" for c in str(value)
    )
    return html.escape(printable, quote=True)


def fact_list(pairs: Iterable[tuple[str, str]]) -> str:
    """Label and value pairs."""
    return "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in pairs)


def incident_cards(run: Run) -> str:
    """A card per incident, alarms before notes, oldest first; ``""`` without any."""
    cache: dict[str, np.ndarray] = {}
    ordered = sorted(run.incidents, key=lambda i: (i.severity == "info", i.step, i.number))
    cards = [_card(run, i, cache) for i in ordered[:_SHOWN_INCIDENTS]]
    numbers = {i.number for i in run.incidents}
    loose = [a for a in run.alerts if a.incident not in numbers and a.severity != "info"]
    if loose:
        worst = "critical" if any(a.severity == "critical" for a in loose) else "warning"
        cards.append(
            f'<article class="card {worst}"><header><h2>Alerts outside an incident</h2></header>'
            f"{_alerts(run, loose, cache)}</article>"
        )
    hidden = len(ordered) - _SHOWN_INCIDENTS
    if hidden > 0:
        cards.append(f'<p class="quiet">{count(hidden, "more incident")}, in the run itself.</p>')
    return "".join(cards)


def _card(run: Run, incident: Incident, cache: dict[str, np.ndarray]) -> str:
    alerts = _alerts(run, [a for a in run.alerts if a.incident == incident.number], cache)
    state = "still open" if incident.cleared is None else f"cleared at step {incident.cleared:,}"
    kinds = listed([kind_words(k) for k in incident.kinds]) if incident.kinds else "no alert kept"
    when = f"since step <b>{incident.step:,}</b>, detected at step <b>{incident.detected:,}</b>, {state}"
    severity = incident.severity if incident.severity in ("info", "warning") else "critical"
    return (
        f'<article class="card {severity}"><header>'
        f'<span class="badge">{text(incident.severity)}</span>'
        f'<h2><span class="nr">{incident.number}</span> '
        f"{layer_link(place(incident.origin), incident.origin, incident.step)} "
        f'<span class="kinds">{text(kinds)}</span></h2>'
        f'<p class="quiet">{when}</p></header>'
        f"{alerts}{_followers(incident)}</article>"
    )


def _alerts(run: Run, alerts: list[Alert], cache: dict[str, np.ndarray]) -> str:
    facts = facts_of(alerts)
    items = "".join(_fact(run, f, cache) for f in facts[:_SHOWN_FACTS])
    if len(facts) > _SHOWN_FACTS:
        items += f'<li class="quiet">{count(len(facts) - _SHOWN_FACTS, "more alert")}</li>'
    return f'<ul class="alerts">{items}</ul>'


def _fact(run: Run, fact: Fact, cache: dict[str, np.ndarray]) -> str:
    kinds = listed([kind_words(k) for k in fact.kinds])
    layer = layer_link(place(fact.layer), fact.layer, fact.step)
    advice = "".join(f'<p class="advice">{text(words)}</p>' for words in fact.advice)
    drawn = ((a, sparkline(run, a, cache)) for a in fact.alerts)
    alert, svg = next(((a, s) for a, s in drawn if s), (fact.alerts[0], ""))
    figure = ""
    if svg:
        caption = f"{title(alert.metric)}, {fact.label}"
        figure = f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"
    return (
        f'<li><div><p class="where">{layer} {text(fact.label)} · {text(kinds)} · '
        f"step {fact.step:,}</p>"
        f'<p class="message">{text(fact.sentence)}</p>{advice}</div>{figure}</li>'
    )


def _followers(incident: Incident) -> str:
    if not incident.followers:
        return ""
    names = incident.followers
    shown = ", ".join(layer_link(place(n), n) for n in names[:_SHOWN_FOLLOWERS])
    if len(names) <= _SHOWN_FOLLOWERS:
        return f'<p class="followers"><b>Followed by</b> {shown}</p>'
    rest = ", ".join(layer_link(place(n), n) for n in names[_SHOWN_FOLLOWERS:])
    return (
        f'<details class="followers"><summary><b>Followed by {count(len(names), "layer")}</b> '
        f"{text(place(names[0]))} … {text(place(names[-1]))}</summary><p>{shown}, {rest}</p></details>"
    )


def layer_link(shown: str, layer: str, step: int | None = None, run: int | None = None) -> str:
    """A link to a layer of the page, and to a step; in a comparison, of that run.

    Example:
        >>> layer_link("fc", "a b", 7)
        '<a href="#layer=a%20b&amp;step=7" class="layer">fc</a>'
    """
    name = quote(layer.encode("utf-8", "replace"), safe="")
    at = "" if step is None else f"&step={step}"
    of = "" if run is None else f"run={run}&"
    return f'<a href="{text(f"#{of}layer={name}{at}")}" class="layer">{text(shown)}</a>'


def event_rows(events: Iterable[Event], *, kinds: bool = True) -> str:
    """Table rows of events, with or without their kind; ``""`` without any."""
    return "".join(
        f"<tr><td class=num>{e.step:,}</td>"
        + (f"<td>{text(e.kind.replace('_', ' '))}</td>" if kinds else "")
        + f"<td>{text(e.detail)}</td></tr>"
        for e in events
    )


def alert_rows(alerts: Iterable[Alert], run: int | None = None) -> str:
    """Table rows of alerts, in a comparison of that run; ``""`` without any."""
    return "".join(
        f'<tr class="{text(a.severity)}"><td class=num>{a.step:,}</td><td>{text(a.severity)}</td>'
        f"<td>{layer_link(a.layer, a.layer, a.step, run)}</td><td>{text(kind_words(a.kind))}</td>"
        f"<td class=num>{text(number(a.value))}</td><td>{text(a.message)}</td></tr>"
        for a in alerts
    )


def settings(meta: Mapping[str, Any]) -> str:
    """Rows of what the run was configured with and ran on; nested values as paths."""
    rows = "".join(
        f"<tr><th scope=row>{text(path)}</th><td>{_folded(value)}</td></tr>"
        for path, value in _flat(meta, "")
    )
    return f'<table class="plain settings"><tbody>{rows}</tbody></table>' if rows else ""


def _folded(value: str) -> str:
    """A value; a long one is opened with a click."""
    if len(value) <= _LONG:
        return text(value)
    return f"<details><summary>{text(value[:60])} …</summary>{text(value)}</details>"


def _flat(value: Any, path: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key in value:
            yield from _flat(value[key], f"{path}.{key}" if path else str(key))
    elif not path or value == {}:
        return
    elif isinstance(value, str):
        yield path, value
    else:
        yield path, _short(value)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return ", ".join(value) or "none"
    try:
        words = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        words = str(value)
    return words if len(words) <= 1000 else words[:999] + "…"


def glossary(entries: Iterable[Entry]) -> str:
    """Definition list of the metrics that the page shows."""
    return "".join(
        f"<div><dt>{text(e.title)} <code>{text(e.key)}</code></dt><dd>{text(e.words)}</dd></div>"
        for e in entries
        if e.words
    )
