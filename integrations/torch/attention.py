"""Attention: entropy and largest logit of every attention in one pass."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.untouched import call, untouched

Reading = TypeVar("Reading")

#: A logit below is taken for masked: masks are -Inf, the lowest number of a type, -1e9 or -1e4.
MASKED = -9e3
#: Logits looked at in one piece.
PIECE = 1 << 24


@dataclass(frozen=True)
class AttentionCall:
    """One attention, over all of its samples, heads and queries.

    Args:
        layer: the innermost module that was executing.
        kind: ``"softmax"`` for an explicit one, ``"sdpa"`` for ``scaled_dot_product_attention``.
        queries, keys: positions.
        entropy: of the weights of a query, in nats, averaged; 0 where each looks at one key alone.
        share: entropy ÷ log of the number of keys that the query may look at, averaged: 0 to 1.
            Queries with one such key are left out, for they have no choice; NaN where all are.
        largest: the largest logit that is not masked.
        padded: share of keys that no query may look at.
    """

    layer: str
    kind: str
    queries: int
    keys: int
    entropy: float
    share: float
    largest: float
    padded: float


@dataclass(frozen=True)
class Attentions:
    """All attentions of a pass.

    Args:
        calls: in the order of execution.
        unseen: modules with "Attention" in their type's name that ran and in which none was seen:
            fused kernels of other packages, ``flex_attention``, a softmax along another axis.
    """

    calls: tuple[AttentionCall, ...]
    unseen: tuple[str, ...] = ()

    def __str__(self) -> str:
        wide = max([5, *(len(c.layer) for c in self.calls)])
        lines = [
            f"{'layer':<{wide}}  {'kind':<7}  {'T':>11}  {'entropy':>7}  {'share':>5}  {'largest':>9}  padded"
        ]
        lines += [
            f"{c.layer:<{wide}}  {c.kind:<7}  {f'{c.queries} × {c.keys}':>11}  {c.entropy:>7.3f}  "
            f"{c.share:>5.2f}  {c.largest:>9.3g}  {c.padded:>6.1%}"
            for c in self.calls
        ]
        if self.unseen:
            lines.append(f"not seen: {', '.join(self.unseen)}")
        return "\n".join(lines)


def attention(model: nn.Module, batch: Any) -> Attentions:
    r"""Entropy, largest logit and padding of every attention, in one pass without gradients.

    $H = -\sum_k a_k \log a_k$ over the keys of a query. An entropy that collapses towards 0 goes along with
    training that oscillates or diverges (Zhai et al. 2023); logits that grow without bound
    precede it (Wortsman et al. 2023 saw them reach 10⁴ at failure). Both are reported, not judged:
    a sharp head may be what the task asks for.

    Args:
        model: in the mode that it is in.
        batch: what it is called with: a tensor, a tuple of arguments, or a mapping.

    Returns:
        A frozen record; ``print`` shows it as a table. Seen are ``scaled_dot_product_attention``, what
        ``nn.MultiheadAttention`` computes, and a softmax over the last of at least three axes whose
        result goes into a product of matrices. What ran and was not seen is named in it.

    The model, its buffers and random numbers stay as they are, and a monitor sees nothing of it.

    Cost: a forward pass, and of each attention its logits once more, 16 million at a time.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> found = attention(nn.MultiheadAttention(8, 2, batch_first=True), (torch.zeros(1, 5, 8),) * 3)
        >>> [(c.keys, round(c.share, 3), c.largest) for c in found.calls]  # nothing to choose by
        [(5, 1.0, 0.0)]
    """
    root = modules.unwrap(model)
    run = Run(measured)
    with untouched(root), torch.no_grad(), _named(root, run), _slow():
        with Listening(run):
            call(root, batch)
    unseen = tuple(name for name in run.possible if name not in run.holding)
    return Attentions(tuple(run.calls[number] for number in sorted(run.calls)), unseen)


class Run(Generic[Reading]):
    """What is known in the middle of a pass.

    Args:
        measure: what is read of the logits in a layer, given its name and the kind of call.

    Attributes:
        stack: names of the modules that are executing.
        calls: readings by the order in which the logits were met.
        possible: modules that may be attention by their type's name.
        holding: modules in which one was seen.
    """

    def __init__(self, measure: Callable[[str, str, Logits], Reading]) -> None:
        self.stack: list[str] = []
        self.calls: dict[int, Reading] = {}
        self.possible: dict[str, None] = {}
        self.holding: set[str] = set()
        self._measure = measure
        self._met = 0
        self._weights: dict[int, tuple[weakref.ref[Tensor], int, Reading, list[str]]] = {}

    @property
    def waiting(self) -> bool:
        """Whether there are weights that may go into a product."""
        return bool(self._weights)

    def met(self, kind: str, logits: Logits) -> tuple[int, Reading]:
        """Logits that may be an attention's."""
        self._met += 1
        return self._met, self._measure(self.stack[-1] if self.stack else "", kind, logits)

    def add(self, number: int, found: Reading, stack: list[str]) -> None:
        """They were."""
        self.calls[number] = found
        self.holding.update(stack)

    def wait(self, weights: Tensor, number: int, found: Reading) -> None:
        """They are, if these weights go into a product."""
        self._weights[id(weights)] = weakref.ref(weights), number, found, list(self.stack)

    def follow(self, name: str, given: list[Tensor], result: Any) -> None:
        """A function of tensors was called: dropout, a cast, or the product."""
        for tensor in given:
            entry = self._weights.get(id(tensor))
            if entry is None or entry[0]() is not tensor:
                continue
            if name in _PRODUCTS:
                self.add(*entry[1:])
            elif isinstance(result, Tensor) and result.numel() == tensor.numel():
                self._weights[id(result)] = weakref.ref(result), *entry[1:]
            return


class Listening(TorchFunctionMode):
    """Hears every function of torch that Python calls."""

    def __init__(self, run: Run[Any]) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:  # else nothing in it would be heard
                return _INSIDE(*args, **kwargs)
        found = self.before(func, args, kwargs)
        result = func(*args, **kwargs)
        self.after(func, args, kwargs, result, found)
        return result

    def before(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """A function is about to be called: what is read of its logits, if it has any."""
        if func is F.scaled_dot_product_attention:
            self.run.add(*self.run.met("sdpa", _logits(*args, **kwargs)), list(self.run.stack))
        elif getattr(func, "__name__", "") == "softmax" and _last_axis(*args, **kwargs):
            x = args[0] if args else kwargs["input"]
            return self.run.met(
                "softmax", Logits(x.shape, lambda low, high: x.flatten(0, -3)[low:high])
            )
        return None

    def after(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any, found: Any) -> None:
        """It was called; ``found`` is what was read before."""
        if found is not None:
            self.run.wait(result, *found)
        elif self.run.waiting:
            given = [t for t in _flat((args, kwargs)) if isinstance(t, Tensor)]
            self.run.follow(getattr(func, "__name__", ""), given, result)


_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm", "baddbmm", "einsum"})

# Its body without the question whether a mode would rather have the call: one that listens in there.
_body: Any = F.multi_head_attention_forward
_INSIDE: Callable[..., Any] = FunctionType(
    _body.__code__,
    {**_body.__globals__, "has_torch_function": lambda tensors: False},
    _body.__name__,
    _body.__defaults__,
    _body.__closure__,
)
_INSIDE.__kwdefaults__ = _body.__kwdefaults__


@dataclass(frozen=True)
class Logits:
    """Logits that are made a part at a time.

    Args:
        shape: […, queries, keys].
        part: of rows of the leading axes, flattened: ``(low, high)`` to float[rows, queries, keys],
            -Inf where masked.
    """

    shape: torch.Size
    part: Callable[[int, int], Tensor]


def weighed(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the softmax of logits makes of each query's keys. Waits for no device.

    Args:
        logits: float[…, keys].

    Returns:
        bool[…, keys], which keys are not masked; int64[…], how many; float[…], entropy of the
        weights in nats, 0 for a query that may look at none.
    """
    open_ = logits > MASKED
    x = logits.masked_fill(~open_, -1e30)
    log = x - x.logsumexp(-1, keepdim=True)
    return open_, open_.sum(-1), -(log.exp() * log.masked_fill(~open_, 0.0)).sum(-1)


def measured(layer: str, kind: str, logits: Logits) -> AttentionCall:
    """Readings of one attention.

    Example:
        >>> x = torch.tensor([[[0.0, 0.0, -torch.inf], [3.0, -torch.inf, -torch.inf]]])
        >>> found = measured("", "softmax", Logits(x.shape, lambda low, high: x[low:high]))
        >>> round(found.entropy / math.log(2), 3), found.share, found.largest, round(found.padded, 3)
        (0.5, 1.0, 3.0, 0.333)
    """
    *lead, queries, keys = logits.shape
    rows = math.prod(lead)
    step = max(1, PIECE // max(queries * keys, 1))
    totals = torch.zeros(
        5, dtype=torch.float64
    )  # entropy, queries, share, queries with a choice, padded
    largest = -math.inf
    for low in range(0, rows, step):
        x = logits.part(low, min(low + step, rows)).float()
        open_, number, entropy = weighed(x)
        seeing, choosing = number > 0, number > 1
        share = entropy[choosing] / number[choosing].log()
        padded = (~open_.any(-2)).sum()
        found = [entropy[seeing].sum(), seeing.sum(), share.sum(), choosing.sum(), padded]
        totals += torch.stack([f.double().cpu() for f in found])
        largest = max(largest, float(x.masked_fill(~open_, -torch.inf).max()))
    entropy_, seen, share_, chose, padded_ = totals.tolist()
    return AttentionCall(
        layer, kind, queries, keys,
        entropy_ / seen if seen else math.nan,
        share_ / chose if chose else math.nan,
        largest if seen else math.nan,
        padded_ / max(rows * keys, 1),
    )  # fmt: skip


def _logits(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Logits:  # fmt: skip
    """What ``scaled_dot_product_attention`` takes the softmax of."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    shape = torch.Size((*lead, query.shape[-2], key.shape[-2]))
    q, k = (t.expand(*lead, *t.shape[-2:]).reshape(-1, *t.shape[-2:]) for t in (query, key))
    mask = attn_mask
    if is_causal:
        mask = torch.ones(shape[-2:], dtype=torch.bool, device=q.device).tril()
    rows = torch.arange(q.shape[0], device=q.device).reshape(lead)

    def part(low: int, high: int) -> Tensor:
        x = q[low:high].float() @ k[low:high].float().transpose(-1, -2) * factor
        if mask is None:
            return x
        full = mask.expand(shape)[tuple(torch.unravel_index(rows.reshape(-1)[low:high], lead))]
        return x.masked_fill(~full, -torch.inf) if full.dtype is torch.bool else x + full

    return Logits(shape, part)


def _last_axis(input: Any = None, dim: int | None = None, *rest: Any, **kwargs: Any) -> bool:
    """Whether a softmax may be an attention's: over the last of at least three axes."""
    fits = isinstance(input, Tensor) and input.dim() >= 3 and input.is_floating_point()
    return fits and dim is not None and dim % input.dim() == input.dim() - 1


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value


@contextmanager
def _named(root: nn.Module, run: Run[Any]) -> Iterator[None]:
    """Keep the names of the modules that are executing on the stack."""
    handles: list[Any] = []

    def listen(name: str, module: nn.Module) -> None:
        def enter(module: Any, args: Any) -> None:
            run.stack.append(name)
            if "attention" in type(module).__name__.lower():
                run.possible[name] = None

        def leave(module: Any, args: Any, output: Any) -> None:
            run.stack.pop()

        handles.append(module.register_forward_pre_hook(enter, prepend=True))
        handles.append(module.register_forward_hook(leave, always_call=True))

    try:
        for name, module in modules.walk(root):
            listen(name or type(root).__name__, module)
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _slow() -> Iterator[None]:
    """Without PyTorch's fast path, which computes a whole encoder layer in one piece."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
