"""Causes: of all that was looked at, where it began."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from shiftwatch.integrations.torch.graph import Graph
from shiftwatch.integrations.torch.hooks import ForwardHook
from shiftwatch.integrations.torch.looks import Call, Seen, readable
from shiftwatch.records import INPUT, Site
from shiftwatch.source import Finding

#: Size of a value that no weight has for good reason; its square overflows.
ABSURD = 1e15


class Causes:
    """Tells the layer where it began from those that only show it.

    Args:
        graph: who feeds whom.
        layers: the watched modules, by their names.

    Attributes:
        masks: layer and part of each output that holds -Inf as a habit, and no harm in it.
    """

    def __init__(self, graph: Graph, layers: Mapping[str, nn.Module]) -> None:
        self.graph, self.layers = graph, layers
        self.masks: set[tuple[str, str]] = set()

    def find(
        self, given: list[Seen], calls: list[Call], dead: set[str], ruined: bool
    ) -> Finding | str:
        """The first layer whose result is not finite though what entered it is.

        Returns:
            The finding; else a remark; ``""`` where nothing is wrong.
        """
        harm = [s for s in given if s.count.nan or s.count.high]
        if harm:
            worst = harm[0]
            site = Site(INPUT, "input", worst.part if worst is not given[0] else "")
            return Finding(INPUT, site, worst.size, worst.count.bad, worst.words)
        sick = {c.layer: [s for s in c.own if s.count.bad] for c in calls}
        ill = [layer for layer, own in sick.items() if own]
        if ruined and len(ill) > 1 and len(ill) * 2 > sum(bool(c) for c in _owning(calls)):
            return (
                f"the weights of {len(ill)} layers are not finite by now: an optimizer step wrote "
                "that, and where it began can no longer be seen"
            )
        gone: Seen | None = None  # of a layer whose output can no longer be looked at
        for call in calls:
            harm = [s for s in call.inputs if s.count.nan or s.count.high]
            if harm:
                return self._between(call, harm[0])
            out = next((s for s in call.outputs if self.harmful(s)), None)
            if out is None:
                own = next((s for s in sick[call.layer] if not s.count.masked), None)
                if own is not None and call.layer in dead:
                    gone = gone or own
                continue
            layer, words = self._blamed(call.layer, dead), out.words
            site = Site(layer, "output", out.part if layer == call.layer else "")
            if layer != call.layer:
                words += f", as {out.layer} passes them on"
                call = next(c for c in calls if c.layer == layer)
            if gone is not None and gone.layer != layer:
                break
            if sick[layer]:
                return _in_weight(sick[layer][0], f"its output holds {words}", bool(call.inputs))
            text = f"{words}; {self._beside(call, dead)}"
            return Finding(layer, site, out.size, out.count.bad, text)
        if gone is not None:
            return _in_weight(gone, "its output was gone when it was looked for", False)
        for layer in ill:
            return _in_weight(sick[layer][0], "its output is finite so far", False)
        return ""

    def of_loss(self) -> Finding | str:
        """Where the loss is not finite, and all that it was made of is."""
        last = next(reversed(self.graph.order), "")
        text = "the loss is NaN or Inf though every value that the model put out is finite: it "
        text += "comes from the loss itself"
        return Finding(last, Site(last, "loss"), 1, 1, text) if last else text

    def harmful(self, seen: Seen) -> bool:
        """Whether a tensor holds what is not finite, and no mask."""
        if seen.count.masked:
            return (seen.layer, seen.part) not in self.masks
        return seen.count.bad > 0

    def _between(self, call: Call, seen: Seen) -> Finding:
        """What enters a layer is bad though all that was put out before is not."""
        text = (
            f"{seen.words}, though the outputs of all layers before it are finite: it arises "
            "between them, outside of any layer"
        )
        return Finding(call.layer, Site(call.layer, "input"), seen.size, seen.count.bad, text)

    def _beside(self, call: Call, dead: set[str]) -> str:
        own = "inputs and weights are" if call.own else "inputs are"
        masks = sum(s.count.low for s in call.inputs)
        if masks:
            return f"its {own} finite but for {masks:,} -Inf"
        if call.inputs:
            return f"its {own} finite"
        parents = self.graph.parents.get(call.layer, ())
        if parents and not any(p in dead for p in parents):
            return f"its {own} finite"
        gone = ", ".join(p for p in parents if p in dead)
        weights = "its weights are finite, and " if call.own else ""
        where = f"the output of {gone}" if gone else "what entered it"
        return f"{weights}{where} was gone when it was looked for"

    def _blamed(self, layer: str, dead: set[str]) -> str:
        """The layer itself, or, where it only passes on what it gets, the one before it."""
        parents = self.graph.parents.get(layer, ())
        if len(parents) == 1 and parents[0] in dead and _passes_on(self.layers[layer]):
            return self._blamed(parents[0], dead)
        return layer


def absurd(alive: Iterable[tuple[ForwardHook, str, Any]], found: Finding) -> Finding | None:
    """A weight whose values no training makes, in a layer before the one that was found.

    An exponent's bit that flips gives 1e38: finite, and so is what comes out, until a
    square of it is taken some layers further on.
    """
    for hook, _, _ in alive:
        if hook.name == found.layer:
            return None
        for key, weight in hook.module.named_parameters():
            if not readable(weight) or not weight.is_floating_point():
                continue
            largest = float(weight.data.abs().amax()) if weight.numel() else 0.0
            if largest > ABSURD and math.isfinite(largest):
                text = f"its {key} holds {largest:.2g}; further on, in {found.layer}: {found.text}"
                return replace(found, layer=hook.name, text=text)
    return None


def _in_weight(seen: Seen, beside: str, inputs: bool) -> Finding:
    part = "" if seen.part == "weight" else seen.part
    before = "its inputs are finite, " if inputs else ""
    name = "" if seen.part == "weight" else f" in {seen.part}"
    return Finding(
        seen.layer, Site(seen.layer, "weight", part), seen.size, seen.count.bad,
        f"{seen.words}{name}; {before}{beside}",
    )  # fmt: skip


def _owning(calls: list[Call]) -> list[list[Seen]]:
    """What each layer holds, once per layer; empty ones left out."""
    return [own for own in {c.layer: c.own for c in calls}.values() if own]


def _passes_on(module: nn.Module) -> bool:
    """Whether finite input gives finite output: PyTorch's own modules without parameters."""
    kind = type(module)
    own = next(module.parameters(), None) is not None
    return (
        kind.__module__.startswith("torch.nn.modules") and not own and "oftm" not in kind.__name__
    )
