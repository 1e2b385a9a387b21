"""Notebook: a run as a notebook shows it, and shows again in place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from shiftwatch import wording
from shiftwatch.cards import COLOURS, card, incident_card, text
from shiftwatch.curve import loss_curve, place

if TYPE_CHECKING:
    from shiftwatch.run import Run

_INCIDENTS = 5
_WIDTH, _HEIGHT, _POINTS = 360, 56, 180


def run_card(run: Run) -> str:
    """A run: verdict, facts, the loss with the incidents, and the first of these.

    Args:
        run: any run.

    Returns:
        HTML without a script or a reference to anything outside it.
    """
    level, verdict = wording.verdict(run)
    facts = " · ".join(f"{label} {value}" for label, value in wording.facts(run))
    raised = wording.raised(run)
    inner = _curve(run, [i.step for i in raised])
    inner += "".join(incident_card(i) for i in raised[:_INCIDENTS])
    if len(raised) > _INCIDENTS:
        inner += f"<div>{len(raised) - _INCIDENTS} more in .incidents</div>"
    where = run.path if run.path is not None else "in memory"
    return card(level, verdict, [f"{where} · {facts}", *run.notes], inner)


def show(run: Run, cell: dict[str, Any]) -> None:
    """Show a run's card; again from the same cell, in the place where it stands.

    Args:
        run: any run.
        cell: kept by the caller between calls: where the card stands.

    Outside of IPython its text is printed.
    """
    shell = _shell()
    if shell is None:
        print(run)
        return
    here = shell.execution_count
    update = cell.get("here") == here
    cell["here"] = here
    shell.display_pub.publish(
        {"text/plain": repr(run), "text/html": run_card(run)},
        transient={"display_id": f"shiftwatch-{id(cell)}-{here}"},
        update=update,
    )


def _shell() -> Any:
    """The running IPython; it has been imported where there is one."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _curve(run: Run, marks: list[int]) -> str:
    """The loss as a small picture, incidents as upright lines; ``""`` without a loss."""
    points = loss_curve(run, _POINTS)
    if not len(points):
        return ""
    x, y = _WIDTH * points[:, 0], 4 + (_HEIGHT - 8) * (1 - points[:, 1])
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    lines = "".join(
        f'<path d="M{a:.1f} 0V{_HEIGHT}" stroke="{COLOURS["critical"]}" stroke-dasharray="3 3"/>'
        for a in (_WIDTH * place(run, np.array(marks, float))).tolist()
    )
    words = text(f"loss {wording.loss_range(run.losses)}")
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{words}" style="display:block;max-width:100%;margin:6px 0">{lines}'
        f'<path d="M{path}" fill="none" stroke="{COLOURS["info"]}" stroke-width="1.6"/></svg>'
    )
