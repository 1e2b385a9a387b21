"""The verdict as Markdown: what is pasted into an issue, a chat or a lab book."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shiftwatch import wording
from shiftwatch.report.facts import facts_of

if TYPE_CHECKING:
    from shiftwatch.history import Run

_INCIDENTS, _FOLLOWERS = 10, 6


def markdown(run: Run) -> str:
    """Verdict, key figures and incidents of a run, a dozen lines.

    Args:
        run: any run.

    Returns:
        Markdown (CommonMark). Text that came from the run stands in code spans or with its
        marks escaped, so that no name can become a heading, a link or an image.

    Example:
        >>> from shiftwatch.history import History
        >>> print(markdown(History().view()))
        **in memory** · Nothing recorded: no window of steps is complete.
        <BLANKLINE>
    """
    level, sentence = wording.verdict(run)
    mark = {"healthy": "✓ ", "warning": "⚠ ", "critical": "✗ "}.get(level, "")
    lines = [f"**{plain(wording.run_name(run))}** · {mark}{plain(sentence)}", ""]
    pairs = wording.facts(run)
    if pairs and run.steps.size:
        lines += [" · ".join(f"{label} {plain(value)}" for label, value in pairs), ""]
    for incident in wording.raised(run)[:_INCIDENTS]:
        state = "open" if incident.cleared is None else f"cleared at {incident.cleared:,}"
        lines.append(
            f"{incident.number}. {code(wording.place(incident.origin))} since step "
            f"{incident.step:,}, detected at {incident.detected:,}, {incident.severity}, {state}"
        )
        alerts = [a for a in run.alerts if a.incident == incident.number]
        for fact in facts_of(alerts):
            kinds = ", ".join(wording.kind_words(k) for k in fact.kinds)
            lines.append(
                f"   - {code(fact.layer)} {plain(fact.label)}, {kinds}: {plain(fact.sentence)}"
            )
            lines += [f"     *{plain(advice)}*" for advice in fact.advice]
        if incident.followers:
            names = [code(n) for n in incident.followers[:_FOLLOWERS]]
            more = len(incident.followers) - len(names)
            lines.append(
                f"   - followed by {', '.join(names)}" + (f" and {more:,} more" if more > 0 else "")
            )
    return "\n".join(lines).rstrip("\n") + "\n"


def plain(value: object) -> str:
    r"""Text on one line whose marks mean nothing.

    Example:
        >>> plain("[x](http://a) *b*"), plain("<b>")
        ('\\[x\\](http://a) \\*b\\*', '\\<b>')
    """
    line = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<#|!" else c for c in line)


def code(value: object) -> str:
    """A name as a code span, whatever is in it.

    Example:
        >>> code("fc1"), code("a`b")
        ('`fc1`', '``a`b``')
    """
    line = " ".join(str(value).split())
    fence = "`"
    while fence in line:
        fence += "`"
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
