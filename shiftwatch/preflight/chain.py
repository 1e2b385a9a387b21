"""Chain: the layers that every path from the input to the output passes."""

from __future__ import annotations

from collections.abc import Sequence

from shiftwatch.preflight.evidence import OUTPUT, Evidence, Start
from shiftwatch.records import INPUT


def chain(evidence: Evidence) -> list[Start]:
    """Layers that no path goes around, in order.

    A signal that is lost in one of these is lost for good. A branch beside a residual
    connection is not among them: it may well start at zero.
    """
    order = {s.key: i for i, s in enumerate(evidence.starts)}
    edges = [(p, s.key) for s in evidence.starts for p in s.parents]
    kept = bottlenecks(
        [s.key for s in evidence.starts], [*edges, *((e, OUTPUT) for e in evidence.ends)]
    )
    return [evidence.starts[order[key]] for key in kept]


def bottlenecks(order: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[str]:
    """Nodes that every path from the input to the output goes through.

    Args:
        order: nodes such that every edge points forward.
        edges: from node to node; ``"<input>"`` and ``"<output>"`` are the ends.

    Returns:
        The nodes that lead to the output and that no edge between such nodes passes over.

    Example:
        >>> edges = [("<input>", "a"), ("a", "b"), ("a", "c"), ("b", "c"), ("c", "<output>")]
        >>> bottlenecks(["a", "b", "c"], edges)
        ['a', 'c']
    """
    place = {INPUT: -1, **{key: i for i, key in enumerate(order)}, OUTPUT: len(order)}
    pairs = [(place[a], place[b]) for a, b in edges if a in place and b in place]
    useful = {len(order)}
    for a, b in sorted(pairs, key=lambda pair: -pair[1]):
        if b in useful:
            useful.add(a)
    spans = [(a, b) for a, b in pairs if b in useful]
    return [
        key for i, key in enumerate(order) if i in useful and not any(a < i < b for a, b in spans)
    ]
