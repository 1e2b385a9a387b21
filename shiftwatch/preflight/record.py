"""Preflight: what a look before the first step says, as values and as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

#: From urgent to fine; the order of the table.
VERDICTS = ("critical", "warning", "info", "ok")
_WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """One verdict.

    Args:
        severity: one of :data:`VERDICTS`.
        kind: as of alerts (``"dead"``, ``"saturation"``, ``"vanishing"``, ``"exploding"``,
            ``"collapse"``, ``"nonfinite"``, ``"batchnorm"``, ``"frozen"``), or ``"input"``,
            ``"loss"``, ``"normalisation"``, ``"attention"``.
        layer: where; ``"<input>"`` for the data, ``""`` for the network as a whole.
        metric: what was measured.
        value: how much.
        limit: what counts as too much; NaN where there is no such number.
        message: what, in words.
        advice: what to do; ``""`` where nothing is wrong.
    """

    severity: str
    kind: str
    layer: str
    metric: str
    value: float
    limit: float
    message: str
    advice: str = ""


@dataclass(frozen=True)
class LayerStart:
    """A layer's line.

    Args:
        layer: its name, with the activation called on it as a function, if any.
        module: its type's name, ``""`` for a function.
        rms: root mean square of the output.
        spread: how much samples differ, in the output's units.
        gain: spread over that of the layer with weights before it; NaN beside the chain of
            layers that every path passes.
        gradient: Euclidean norm of the loss's gradient by the output.
        dead: share of dead units; NaN without a ReLU or its like.
        saturated: share of values in the flat part of the activation; NaN without one.
    """

    layer: str
    module: str
    rms: float
    spread: float
    gain: float
    gradient: float
    dead: float
    saturated: float


@dataclass(frozen=True)
class Preflight:
    """What a look before the first step says. Printing it shows all of it.

    Args:
        model: its type's name.
        batches, samples: how many were looked at.
        loss: the loss, mean over the batches; NaN where none was given.
        verdicts: all checks, the urgent first; what is in order, too.
        layers: a line for each layer, in the order of execution.
    """

    model: str
    batches: int
    samples: int
    loss: float
    verdicts: tuple[Finding, ...]
    layers: tuple[LayerStart, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Verdicts other than "ok"."""
        return tuple(v for v in self.verdicts if v.severity != "ok")

    @property
    def ok(self) -> bool:
        """Whether there is no warning and nothing critical; infos do not count."""
        return all(v.severity in ("ok", "info") for v in self.verdicts)

    def table(self) -> str:
        """Verdicts, aligned: verdict, layer, what, value, limit, and the advice below."""
        rows = [("verdict", "layer", "what", "value", "limit")]
        for v in self.verdicts:
            rows.append((v.severity, v.layer, v.message, figure(v.value), figure(v.limit)))
        sizes = [max(len(row[i]) for row in rows) for i in (0, 1, 3, 4)]
        sizes[1] = min(sizes[1], 32)
        room = max(32, _WIDTH - sum(sizes) - 8)
        advice = ["", *(v.advice for v in self.verdicts)]
        lines = []
        for (verdict, layer, what, value, limit), then in zip(rows, advice, strict=True):
            text = textwrap.wrap(what, room) or [""]
            text += textwrap.wrap(then, room, initial_indent="→ ", subsequent_indent="  ")
            names = textwrap.wrap(layer, sizes[1]) or [""]
            names += [""] * (len(text) - len(names))
            text += [""] * (len(names) - len(text))
            for i, (name, part) in enumerate(zip(names, text, strict=True)):
                first = i == 0
                lines.append(
                    f"{verdict if first else '':{sizes[0]}}  {name:{sizes[1]}}  {part:{room}}  "
                    f"{value if first else '':>{sizes[2]}}  {limit if first else '':>{sizes[3]}}"
                )
        return "\n".join(line.rstrip() for line in lines)

    def profile(self) -> str:
        """Layers, aligned: what the signal and the gradient do over depth."""
        rows: list[tuple[str, ...]] = [
            ("layer", "module", "rms", "spread", "gain", "gradient", "dead", "saturated")
        ]
        for s in self.layers:
            shares = (f"{x:.0%}" if np.isfinite(x) else "" for x in (s.dead, s.saturated))
            numbers = (figure(x) for x in (s.rms, s.spread, s.gain, s.gradient))
            rows.append((s.layer, s.module, *numbers, *shares))
        return "\n".join(_aligned(rows, left=2))

    @property
    def headline(self) -> str:
        """Model, batch, loss and the count of verdicts, in one line."""
        counts = {n: sum(v.severity == n for v in self.verdicts) for n in VERDICTS[:-1]}
        said = [f"{n} {w}" if w == "critical" else many(n, w) for w, n in counts.items() if n]
        batches = f"{self.batches} batches, " if self.batches > 1 else ""
        loss = "" if np.isnan(self.loss) else f" · loss {figure(self.loss)}"
        what = f"{self.model} · {batches}{many(self.samples, 'sample')}{loss}"
        return f"{what} · {', '.join(said) or 'nothing to say'}"

    def __str__(self) -> str:
        return f"{self.headline}\n\n{self.table()}\n\n{self.profile()}"

    def _repr_html_(self) -> str:
        """The same in a notebook."""
        return f"<pre>{escape(str(self))}</pre>"


def figure(value: float) -> str:
    """A number in three digits; a blank for NaN.

    Example:
        >>> [figure(v) for v in (0.5, 1.23456, 12345.0, 2e-9, float("inf"), float("nan"))]
        ['0.5', '1.23', '1.23e+04', '2e-09', 'inf', '']
    """
    return "" if np.isnan(value) else f"{value:.3g}"


def many(count: int, what: str) -> str:
    """A number of things.

    Example:
        >>> many(1, "layer"), many(1234, "layer")
        ('1 layer', '1,234 layers')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns two blanks apart, the first ``left`` flush left and the others flush right."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(size) if i < left else cell.rjust(size)
            for i, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ).rstrip()
        for row in rows
    ]
