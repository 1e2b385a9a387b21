"""Matching: which layer of one run is which of another, by name, or by place, kind and shape.

The rule, in this order:

1. Layers of the same name are the same layer. Names that count (``net.0``, ``net.1``) are
   believed only while they count the same things: where a layer of a container has another
   kind or another shape than its namesake, something was inserted or taken out, and no number
   of that container is believed.
2. What is left is matched in the order of execution, between the layers that are matched
   already: only layers of the same kind (a normalisation's, an activation's, a module's type),
   and so that as much as possible agrees: the weight's shape first, then the name or its last
   word. No two matches cross.
3. What is left then has no counterpart, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftwatch.records import Layer

#: What a match by structure is worth: the same kind and its shape, its name, its last word.
_KIND, _SHAPE, _OTHER_SHAPE, _NAME, _WORD = 2.0, 2.0, -1.5, 1.0, 0.5
_ANCHOR = 1e6  # a match by name is worth more than all others together


@dataclass(frozen=True)
class Pair:
    """A layer of A and its counterpart in B.

    Args:
        a, b: its names.
        by: ``"name"`` or ``"structure"``.
    """

    a: str
    b: str
    by: str = "name"


@dataclass(frozen=True)
class Matched:
    """What belongs together.

    Args:
        pairs: in execution order of B.
        only_a, only_b: layers without a counterpart, in execution order.
    """

    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def match(a: Mapping[str, Layer], b: Mapping[str, Layer]) -> Matched:
    """Pair the layers of two runs.

    Args:
        a, b: name to layer, in execution order.

    Returns:
        The pairs, and what has no counterpart.

    Cost: a table of the layers of both, 2,000 × 2,000 in under a second.

    Example:
        >>> def net(**layers):
        ...     return {n: Layer(n, kind, shape=shape) for n, (kind, shape) in layers.items()}
        >>> before = net(fc1=("Linear", (8, 4)), act=("ReLU", ()), out=("Linear", (2, 8)))
        >>> after = net(
        ...     dense=("Linear", (8, 4)), act=("ReLU", ()), drop=("Dropout", ()), out=("Linear", (2, 8))
        ... )
        >>> found = match(before, after)
        >>> [(p.a, p.b, p.by) for p in found.pairs]
        [('fc1', 'dense', 'structure'), ('act', 'act', 'name'), ('out', 'out', 'name')]
        >>> found.only_b
        ('drop',)
    """
    doubted = _doubted(a, b)
    named = {n for n in b if n in a and _container(n) not in doubted}
    pairs = [Pair(n, n) for n in b if n in named]
    if len(named) < min(len(a), len(b)):
        pairs += _by_structure(list(a.values()), list(b.values()), named)
    place = {name: i for i, name in enumerate(b)}
    pairs.sort(key=lambda p: place[p.b])
    taken_a, taken_b = {p.a for p in pairs}, {p.b for p in pairs}
    return Matched(
        tuple(pairs),
        tuple(n for n in a if n not in taken_a),
        tuple(n for n in b if n not in taken_b),
    )


def kind(layer: Layer) -> str:
    """What a layer is: its normalisation's, its activation's or its module's type.

    Example:
        >>> kind(Layer("bn", "SyncBatchNorm", norm="batch")), kind(Layer("fc", "Linear"))
        ('norm batch', 'Linear')
    """
    if layer.norm:
        return f"norm {layer.norm}"
    return layer.module or layer.activation


def _container(name: str) -> str | None:
    """Where a layer that bears a number lies; ``None`` for a layer with a name of its own."""
    where, _, last = name.rpartition(".")
    return where if last.isdecimal() else None


def _doubted(a: Mapping[str, Layer], b: Mapping[str, Layer]) -> set[str | None]:
    """Containers whose numbers count other things in the two runs."""
    found: set[str | None] = set()
    for name in b:
        if name in a and _container(name) is not None:
            one, other = a[name], b[name]
            shaped = bool(one.shape and other.shape)
            if kind(one) != kind(other) or (shaped and one.shape != other.shape):
                found.add(_container(name))
    return found


def _by_structure(a: Sequence[Layer], b: Sequence[Layer], named: set[str]) -> list[Pair]:
    """The pairs of greatest worth that do not cross, those of a name left out."""
    worth = _worth(a, b, named)
    best = np.zeros((len(a) + 1, len(b) + 1))
    for i in range(len(a)):
        taken = np.maximum(best[i, 1:], best[i, :-1] + worth[i])
        best[i + 1, 1:] = np.maximum.accumulate(taken)
    pairs = []
    i, j = len(a), len(b)
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            if a[i].name not in named:
                pairs.append(Pair(a[i].name, b[j].name, "structure"))
    return pairs


def _worth(a: Sequence[Layer], b: Sequence[Layer], named: set[str]) -> np.ndarray:
    """What each pair is worth: float64[len(a), len(b)]; minus infinity where it must not be."""

    def same(of: Sequence[object], other: Sequence[object]) -> np.ndarray:
        codes = {value: i for i, value in enumerate(dict.fromkeys([*of, *other]))}
        rows, columns = (np.array([codes[v] for v in values]) for values in (of, other))
        return np.equal.outer(rows, columns)

    def both(has: Sequence[bool], other: Sequence[bool]) -> np.ndarray:
        return np.logical_and.outer(np.array(has, bool), np.array(other, bool))

    kinds = [kind(x) for x in a], [kind(x) for x in b]
    words = [x.name.rpartition(".")[2] for x in a], [x.name.rpartition(".")[2] for x in b]
    free = both([x.name not in named for x in a], [x.name not in named for x in b])
    names = same([x.name for x in a], [x.name for x in b])
    shaped = both([bool(x.shape) for x in a], [bool(x.shape) for x in b])
    shapes = same([x.shape for x in a], [x.shape for x in b])
    told = both([not w.isdecimal() for w in words[0]], [not w.isdecimal() for w in words[1]])
    known = both([bool(k) for k in kinds[0]], [bool(k) for k in kinds[1]])
    worth = _KIND + shaped * np.where(shapes, _SHAPE, _OTHER_SHAPE)
    worth = worth + _NAME * names + _WORD * (same(*words) & told)
    allowed = free & known & same(*kinds)
    anchors = names & ~free & both([x.name in named for x in a], [x.name in named for x in b])
    return np.where(anchors, _ANCHOR, np.where(allowed, worth, -np.inf))
