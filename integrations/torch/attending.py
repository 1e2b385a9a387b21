"""Attending: now and then a forward pass of the user's is listened to, for its attentions.

Nothing is run twice and nothing replaced: a mode hears the functions that Python calls, and of the
logits of a few samples and heads two numbers are taken. A model in which none is found is left
alone after two passes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from shiftwatch.attended import Attended
from shiftwatch.integrations.torch import modules, slab
from shiftwatch.integrations.torch.attention import Listening, Logits, Run, weighed
from shiftwatch.integrations.torch.hooks import ForwardHook
from shiftwatch.integrations.torch.lanes import Lanes

#: Watched steps from one reading to the next.
EVERY = 32
#: Samples and heads that are looked at.
ROWS = 8
# How many frames away the one of torch.compile may be.
_DEEP = 16
# Passes without an attention after which none is expected.
_TRIED = 2


class Careful(Listening):
    """Listens as long as all goes well: its own errors are no concern of the user's pass."""

    def __init__(self, run: Run[Tensor]) -> None:
        super().__init__(run)
        self.error: Exception | None = None

    def before(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """As in ``Listening``, until something failed."""
        if self.error is None:
            try:
                return super().before(func, args, kwargs)
            except Exception as error:
                self.error = error
        return None

    def after(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any, found: Any) -> None:
        """Likewise."""
        if self.error is None:
            try:
                super().after(func, args, kwargs, result, found)
            except Exception as error:
                self.error = error


class Attending:
    """The attentions of one model.

    Args:
        root: the model.
        hooks: those of the watched layers.
        lanes: the ways home from devices.
        failed: is told of an error of ours; then nothing is listened to any more.

    Attributes:
        due: whether the next forward pass is to be listened to.

    Cost: one forward pass in 32 has each of torch's functions pass through Python, some 2 µs
    each, and computes the logits of eight samples and heads again where a kernel hides them.
    """

    def __init__(
        self,
        root: nn.Module,
        hooks: Sequence[ForwardHook],
        lanes: Lanes,
        failed: Callable[[Exception], None],
    ) -> None:
        self._failed = failed
        self._hooks = {id(h.module): h for h in hooks}
        self._lanes = lanes
        self._mode: Careful | None = None
        self._global: Any = None
        self._met: list[tuple[ForwardHook, Tensor]] = []
        self._away: list[tuple[int, list[ForwardHook], set[ForwardHook], Tensor, Any]] = []
        self._known: dict[ForwardHook, None] = {}  # layers with an attention
        self._ran: set[ForwardHook] = set()  # watched layers that ran in the pass
        self._tries, self._step = 0, 0
        self._possible = bool(hooks) and not modules.scripted(root)
        self._leave: Any = None
        self.due = False

    def begin(self, generation: int) -> None:
        """A watched step begins, the so many-th."""
        self.due = self._possible and generation % EVERY == 1

    def enter(self, root: nn.Module, step: int) -> None:
        """The model's forward pass of a step begins, and it is due.

        The hooks lie on the modules for this pass alone: what is compiled never sees them.
        """
        self.due = False
        if self._mode is not None or _compiled(root):
            return
        self._tries, self._step = self._tries + 1, step
        self._met, self._ran = [], set()
        run: Run[Tensor] = Run(lambda layer, kind, logits: sharpness(logits))
        self._mode = Careful(run)
        self._leave = root.register_forward_hook(self._ended, always_call=True)
        self._global = register_module_forward_hook(self._passed(run))
        self._mode.__enter__()

    def _passed(self, run: Run[Tensor]) -> Callable[..., None]:
        """A hook on all modules: the next watched layer that ends takes what was heard before it."""

        def passed(module: Any, args: Any, output: Any) -> None:
            hook = self._hooks.get(id(module))
            if hook is not None:
                self._ran.add(hook)
            if hook is not None and run.calls:
                self._met += [(hook, reading) for reading in run.calls.values()]
                run.calls = {}

        return passed

    def _ended(self, module: Any, args: Any, output: Any) -> None:
        """The pass has ended, however it did."""
        if self._mode is None:
            return
        mode = self._mode
        self._stop()
        met, self._met = self._met, []
        if mode.error is not None:
            self.close()
            self._failed(mode.error)
            return
        if output is None:  # it failed, and what was heard is not all
            return
        if not met and not self._known:
            if self._tries >= _TRIED:
                self.close()
            return
        self._known.update(dict.fromkeys(hook for hook, _ in met))
        if met:
            self._send([hook for hook, _ in met], torch.stack([r for _, r in met]))
        else:
            self._away.append((self._step, [], self._ran, torch.zeros(0, 2), None))

    def _send(self, hooks: list[ForwardHook], readings: Tensor) -> None:
        device = slab.elsewhere(readings)
        host, done = (
            (readings, None) if device is None else self._lanes.of(device).download(readings)
        )
        self._away.append((self._step, hooks, self._ran, host, done))

    def _stop(self) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._global.remove()
            self._leave.remove()
            self._mode = None

    def take(self) -> tuple[Attended, ...]:
        """What has come home: a reading of each layer that has an attention, or had one and ran."""
        found: list[Attended] = []
        while self._away and (self._away[0][-1] is None or self._away[0][-1].query()):
            step, hooks, ran, host, _ = self._away.pop(0)
            heard: dict[ForwardHook, list[list[float]]] = {h: [] for h in self._known if h in ran}
            for hook, reading in zip(hooks, host.tolist(), strict=True):
                heard[hook].append(reading)
            for hook, rows in heard.items():
                column = _column(hook)
                if column >= 0:
                    share, open_ = np.mean(rows, axis=0) if rows else (math.nan, math.nan)
                    found.append(Attended(step, column, float(share), float(open_)))
        return tuple(found)

    def close(self) -> None:
        """Listen no more. May be called twice."""
        self._possible = self.due = False
        self._stop()
        self._hooks, self._known, self._away, self._met = {}, {}, [], []


def sharpness(logits: Logits) -> Tensor:
    """Entropy over that of equal weights, and share of open keys, of some rows: float32[2].

    Waits for no device.

    Example:
        >>> x = torch.zeros(1, 4, 4).masked_fill(torch.ones(4, 4).triu(1) > 0, -torch.inf)
        >>> sharpness(Logits(x.shape, lambda low, high: x[low:high])).tolist()
        [1.0, 0.625]
    """
    *lead, _, keys = logits.shape
    rows = math.prod(lead)
    chosen = range(0, rows, max(1, rows // ROWS))
    with torch.no_grad():
        x = torch.cat([logits.part(i, i + 1) for i in list(chosen)[:ROWS]]).detach().float()
        _, number, entropy = weighed(x)
        choosing = number > 1
        share = torch.where(choosing, entropy / number.clamp(min=2).log(), 0.0).sum()
        seeing = number > 0
        open_keys = number.sum() / (keys * seeing.sum().clamp(min=1))
        return torch.stack([share / choosing.sum().clamp(min=1), open_keys])


def _column(hook: ForwardHook) -> int:
    """Of a layer's output, the first where it has several; -1 while it has none."""
    taps = [hook.train.output, *hook.train.parts.values()]
    return next((tap.column for tap in taps if tap is not None), -1)


def _compiled(root: nn.Module) -> bool:
    """Whether a mode might be traced, or have something compiled once more."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return False
    some = any(dynamo.counters[key] for key in ("frames", "stats"))
    return some or modules.compiled(root) or _called_to_compile()


def _called_to_compile() -> bool:
    """Whether ``torch.compile`` made the call that is under way: its own frame tells."""
    frame: Any = sys._getframe(3)
    for _ in range(_DEEP):
        if frame is None:
            break
        if frame.f_globals.get("__name__") == "torch._dynamo.eval_frame":
            return True
        frame = frame.f_back
    return False
