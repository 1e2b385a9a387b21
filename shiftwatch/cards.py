"""Cards: records as a notebook shows them, in HTML that holds all it needs and runs nothing.

Colours are inherited, or strong enough on white and on black, for a notebook does not say
which it is.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shiftwatch.records import Alert, Incident

#: Colour of a level, readable on white and on black.
COLOURS = {
    "critical": "#d9464c",
    "warning": "#c07a12",
    "info": "#4d85c3",
    "healthy": "#2e9159",
    "empty": "#8a939e",
}

_QUIET = "opacity:.72"


def text(value: object) -> str:
    """Any value as text that cannot become markup, whatever a layer is called.

    Example:
        >>> text("<b>fc1\\x1b")
        '&lt;b&gt;fc1\\ufffd'
    """
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return html.escape(printable, quote=True)


def card(level: str, title: str, lines: Sequence[str], more: str = "") -> str:
    """A card with a bar in the level's colour.

    Args:
        level: a key of :data:`COLOURS`.
        title: plain text.
        lines: plain texts, quieter, one below the other.
        more: markup that stands below, made of escaped parts.

    Example:
        >>> "a &lt; b" in card("healthy", "a < b", ["1 layer"])
        True
    """
    colour = COLOURS.get(level, COLOURS["empty"])
    body = "".join(f'<div style="{_QUIET}">{text(line)}</div>' for line in lines if line)
    return (
        f'<div style="border-left:4px solid {colour};padding:2px 0 2px 12px;margin:4px 0;'
        'line-height:1.5;max-width:60em;overflow-wrap:anywhere">'
        f'<div style="font-weight:600">{text(title)}</div>{body}{more}</div>'
    )


def alert_card(alert: Alert) -> str:
    """An alert: its message, what to look at first, and when it was raised."""
    raised = f"{alert.severity}, raised at step {alert.detected:,}"
    if alert.incident:
        raised += f", incident {alert.incident}, which began in {alert.origin}"
    return card(alert.severity, alert.message, [alert.advice, raised])


def incident_card(incident: Incident) -> str:
    """An incident: where it began and since when, what it is, and who followed.

    Example:
        >>> from shiftwatch.records import Incident
        >>> "1. fc&lt;2&gt; from step 240: dead" in incident_card(
        ...     Incident(1, "fc<2>", 240, 250, "critical", ("dead",))
        ... )
        True
    """
    kinds = ", ".join(kind.replace("_", " ") for kind in incident.kinds)
    title = f"{incident.number}. {incident.origin} from step {incident.step:,}: {kinds}"
    state = "still open" if incident.cleared is None else f"cleared at step {incident.cleared:,}"
    followers = f"followed by {', '.join(incident.followers)}" if incident.followers else ""
    raised = f"{incident.severity}, raised at step {incident.detected:,}, {state}"
    return card(incident.severity, title, [raised, followers])
