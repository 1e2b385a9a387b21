"""The page of one run: words, data and script put into one file."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shiftwatch import wording
from shiftwatch._version import __version__
from shiftwatch.abreast import abreast
from shiftwatch.epochs import EPOCH
from shiftwatch.records import Event
from shiftwatch.report import cards
from shiftwatch.report.glossary import Entry
from shiftwatch.report.markdown import markdown
from shiftwatch.report.packing import Blobs
from shiftwatch.report.payload import BLOBS, Packed, as_json, payload
from shiftwatch.summaries.histogram import EDGES

if TYPE_CHECKING:
    from shiftwatch.history import Run

#: Script of all pages, in the order in which it is put into one module.
CHARTS = tuple(
    f"charts/{name}"
    for name in (
        *("dom", "numbers", "rundata", "colour", "scales", "marks", "svg", "tools"),
        *("chart", "heatmap", "density", "table", "links"),
    )
)
#: Script of each page, after that of all.
SCRIPTS = {
    "report": (
        *(f"run/{name}" for name in ("blocks", "view", "address", "strip", "map", "tracks")),
        *(f"run/{name}" for name in ("units", "layer", "moment", "overview", "live")),
        "report",
    ),
    "compare": ("compare",),
}

_ASSETS = Path(__file__).parent / "assets"
_SLOT = re.compile(r"<!--([a-z_]+)-->")
# Keys of a run's meta data that the page shows elsewhere or that are no setting.
_NOT_SETTINGS = frozenset(
    {"name", "finished", "verdict", "dark", "damage", "steps", "overhead", "every"}
)


@dataclass(frozen=True)
class Contents:
    """What a page of a run is filled with.

    Args:
        slots: escaped markup by slot name.
        data: JSON without ``<``.
        packed: the numbers that the charts draw.
    """

    slots: dict[str, str]
    data: str
    packed: Packed


def render(run: Run, *, live: str = "") -> str:
    """The report of a run: one HTML page without any external reference.

    Args:
        run: what ``shiftwatch.open``, ``Monitor.history`` or ``Report.run`` give.
        live: for a page that is served while the run grows: a URL, relative to the page, that
            answers with :func:`update`. The page asks there every few seconds and redraws
            itself in place.

    Returns:
        HTML. It opens from a file, a mail or an artifact store; its own security policy
        forbids every request, or with ``live`` every request but those to its own server.

    Cost: one read of every window; 160 layers × 10,000 windows, 325 MB, take 5.2 s of a core and
        make a page of 3.6 MB (``benchmarks/report.py``).
    """
    page = contents(run)
    return assemble("report", page.slots, data=page.data, packed={"": page.packed}, live=live)


def update(run: Run, slots: Mapping[str, str] | None = None) -> str:
    """What a page made by :func:`render` with ``live`` needs to show the run as it is now.

    Args:
        run: the same run, read again.
        slots: escaped markup of places that the server added to the page: what goes into the
            elements whose ``data-slot`` bears the name.

    Returns:
        JSON, ASCII only, for the script of the page and nobody else: it may change with any
        version.

    Cost: that of :func:`render`. A server should answer 304 where the folder did not change.
    """
    page = contents(run)
    blobs = {kind: getattr(page.packed, kind).text() for kind in BLOBS}
    head, tail = as_json({"slots": {**page.slots, **(slots or {})}, "blobs": blobs})[:-1], page.data
    return f'{head},"data":{tail}}}'


def contents(run: Run) -> Contents:
    """Words and numbers of a run's page."""
    packed = Packed()
    data = payload(run, packed)
    level, sentence = wording.verdict(run)
    dark = _unseen(run)
    others = [e for e in run.events if e.kind not in ("dark", EPOCH)]
    settings = {k: v for k, v in run.meta.items() if k not in _NOT_SETTINGS}
    entries = [Entry(m["key"], m["title"], m["words"]) for m in data["metrics"]]
    notes = [a for a in run.alerts if a.severity == "info"]
    slots = {
        "title": cards.text(f"{wording.run_name(run)} · shiftwatch"),
        "name": cards.text(wording.run_name(run)),
        "verdict": f'<h1 class="verdict {level}">{cards.text(sentence)}</h1>',
        "facts": cards.fact_list(wording.facts(run)),
        "incidents": cards.incident_cards(run),
        "events": section(
            "events",
            "Events",
            "What the run did on purpose, which explains a change.",
            rows(("Step", "Kind", "Detail"), cards.event_rows(others[:1000])),
        ),
        "dark": section(
            "dark",
            "Not seen",
            "What shiftwatch could not watch or read, and why.",
            rows(("Step", "Reason"), cards.event_rows(dark[:1000], kinds=False)),
        ),
        "notes": section(
            "notes",
            "Notes",
            "Worth knowing, never an alarm.",
            rows(
                ("Step", "Severity", "Layer", "Kind", "Value", "Message"),
                cards.alert_rows(notes[:500]),
            ),
        ),
        "settings": section("settings", "Configuration", "", cards.settings(settings)),
        "glossary": cards.glossary(entries),
        "version": cards.text(__version__),
    }
    page = {"run": data, "edges": edges(), "markdown": markdown(run)}
    return Contents(slots, as_json(page), packed)


def _unseen(run: Run) -> list[Event]:
    """Sites that went dark, and what was found damaged while reading."""
    events = [e for e in run.events if e.kind == "dark"]
    told = {e.detail for e in events}
    kept = run.meta.get("dark")
    lines = (
        [f"{layer}: {reason}" for layer, reason in kept.items()] if isinstance(kept, dict) else []
    )
    lines += [str(note) for note in run.notes]
    return events + [Event(0, "dark", line) for line in lines if line not in told]


def write(run: Run, path: str | os.PathLike[str]) -> Path:
    """Render into a file, whole or not at all: a reader never sees half a page.

    Args:
        run: as for :func:`render`.
        path: file to write; an existing one is replaced in one step.

    Returns:
        The path written.

    Raises:
        OSError: where the folder does not exist or cannot be written.
    """
    return write_text(render(run), Path(path))


def write_text(text: str, target: Path) -> Path:
    """Write beside the target, then rename over it."""
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"A file needs an existing folder; got {target}. Create {target.parent} first."
        )
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target


def assemble(
    page: str,
    slots: Mapping[str, str],
    *,
    data: str,
    packed: Mapping[str, Packed],
    live: str = "",
) -> str:
    """Template, style, script and data of a page in one text.

    Args:
        page: ``"report"`` or ``"compare"``: the template's name.
        slots: escaped markup by slot name.
        data: JSON without ``<``.
        packed: blobs by prefix of their element's id.
        live: where the page may ask for news, on its own server; ``""`` for nowhere.
    """
    style = _asset("report.css")
    script = "\n".join(_asset(f"{name}.js") for name in (*CHARTS, *SCRIPTS[page]))
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
        + ("; connect-src 'self'" if live else "")
    )
    blobs = {
        f"{prefix}blob-{kind}": getattr(group, kind)
        for prefix, group in packed.items()
        for kind in BLOBS
    }
    texts = abreast(Blobs.text, list(blobs.values()), few=1)
    embedded = "".join(
        f'<script type="text/plain" id="{name}">{text}</script>\n'
        for name, text in zip(blobs, texts, strict=True)
    )
    parts = {
        **slots,
        "policy": policy,
        "live": f' data-live="{cards.text(live)}"' if live else "",
        "style": f"<style>{style}</style>",
        "data": f'<script type="application/json" id="data">{data}</script>\n{embedded}',
        "script": f'<script type="module">{script}</script>',
    }
    # One pass: text that came from a run is never searched for slots.
    return _SLOT.sub(lambda m: parts[m[1]] if m[1] in parts else m[0], _asset(f"{page}.html"))


def section(name: str, title: str, words: str, body: str) -> str:
    """A section with a heading; nothing at all without a body."""
    if not body:
        return ""
    lead = f'<p class="lead">{words}</p>' if words else ""
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">{body}</div>'
    return f'<section id="{name}"><h2>{title}</h2>{lead}{scroll}</section>'


def rows(heads: tuple[str, ...], body: str) -> str:
    """A table around rows; nothing without rows."""
    if not body:
        return ""
    head = "".join(
        f"<th scope=col{' class=num' if h in ('Step', 'Value') else ''}>{h}</th>" for h in heads
    )
    return f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def edges() -> list[float]:
    """Edges of the histogram's bins, the outermost finite: float[BINS + 1]."""
    inner = EDGES[1:-1].tolist()
    return [2 * inner[0], *inner, 2 * inner[-1]]


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
