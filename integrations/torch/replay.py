"""Replay: a few of the model's inputs are kept with what every layer made of them, to run them again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shiftwatch.integrations.torch.guard import Guard, Written
from shiftwatch.integrations.torch.hooks import ForwardHook
from shiftwatch.integrations.torch.passing import Call, Seen, again, show
from shiftwatch.integrations.torch.probe import Unfit, unfit
from shiftwatch.integrations.torch.samples import SAMPLES, Entered, Given, apart
from shiftwatch.records import INPUT, Alert, Incident
from shiftwatch.replaying import Replayed, usual

if TYPE_CHECKING:
    from shiftwatch.integrations.torch.source import TorchSource

#: Bytes that one reference may take; of larger models fewer samples are kept, and of the largest
#: not all layers.
ROOM = 64 << 20
#: Steps between two references at most, while windows are short; then a window's.
APART = 16
#: Least size of a layer's output, as a share of what it is now: a silent layer that wakes has not
#: moved without end.
SILENT = 1e-3

_CLOSED = (
    "The layers were let go when the monitor was closed. Ask for an incident that was replayed when "
    "it was raised, or before close()."
)


class Reference(NamedTuple):
    """The layers at one moment.

    Attributes:
        step: optimizer steps that were done.
        given: what the model was shown.
        calls: of each layer, in execution order.
        left_out: layers that cannot be run again, and why.
    """

    step: int
    given: Given
    calls: dict[str, list[Call]]
    left_out: dict[str, str]

    def outputs(self, name: str) -> list[Tensor]:
        """What a layer put out, in all its calls."""
        return _outputs(self.calls.get(name, ()))


class Moved(NamedTuple):
    """Own changes from one reference to the next, on their device until somebody asks.

    Attributes:
        step: of the later one.
        layers: names.
        own: float32[layers].
    """

    step: int
    layers: tuple[str, ...]
    own: Tensor


class Replayer:
    """Keeps references while the training is healthy, and replays them when an incident is raised.

    A reference is the first samples of one batch, and what enters and leaves each layer when the
    model is shown them once more: a pass like a probe's, without a trace. Random numbers begin anew
    before each layer, so that dropout drops the same wherever a layer is run again. In the pass a
    BatchNorm normalises by these samples alone, each time by the same.

    Cost: a call per step; and once in :data:`APART` steps two passes through all layers with
    :data:`SAMPLES` samples, one of them layer by layer. Nothing waits for a device before it is asked.

    Args:
        source: whose layers.
        hooks: these.
        number: references that are kept.

    Attributes:
        entered: the hook before the model.
    """

    def __init__(self, source: TorchSource, hooks: Sequence[ForwardHook], number: int) -> None:
        self._source, self._hooks, self._number = source, hooks, number
        self._ring: deque[Reference] = deque(maxlen=number)
        self._moved: deque[Moved] = deque(maxlen=number + 4)
        self._found: dict[int, Replayed] = {}  # by incident
        self._refused: dict[int, str] = {}
        self._waiting: list[Incident] = []  # in another mode than the references
        self._next = 0
        self._rows = 0  # samples that there is room for; 0 before that is known
        self._ended = ""  # why there are no more
        self.entered = Entered(source, self)

    def due(self) -> bool:
        """Whether what enters the model next is to be kept."""
        return not self._ended and self._source.monitor.steps >= self._next

    def given(self, args: Any, kwargs: Any, wrapped: bool) -> Given:
        """What enters the model, as it is kept; what a wrapper would bring to its device is there.

        Raises:
            Unfit: where it cannot be.
        """
        root = self._source.root
        held = (*root.parameters(), *root.buffers()) if wrapped else ()
        device = next((t.device for t in held), None)
        return Given.of(args, kwargs, self._rows or SAMPLES, ROOM, root.training, device)

    def after(self, step: int) -> None:
        """So many optimizer steps are done. Called within the monitor's, which takes the time."""
        try:
            if self._waiting:
                self._look_into(step)
            elif self.entered.kept is not None and self._mode(self.entered.kept):
                self._refer(step)
        except Exception as error:
            self.fail(error)

    def raised(self, incidents: Sequence[Incident], step: int) -> None:
        """These are new, or there is more known of them: replay what was not."""
        known = {*self._found, *self._refused, *(i.number for i in self._waiting)}
        self._waiting += [i for i in incidents if i.number not in known]
        if self._waiting and not self._ended:
            try:
                self._look_into(step)
            except Exception as error:
                self.fail(error)

    def replay(self, about: Alert | Incident | None, step: int) -> Replayed:
        """See :meth:`shiftwatch.Monitor.replay`; ``step`` is how many were done."""
        number = 0
        if about is not None:
            number = about.number if isinstance(about, Incident) else about.incident
            if number in self._found:
                return self._found[number]
            if number in self._refused:
                raise LookupError(self._refused[number])
        if self._ended:
            raise LookupError(self._ended)
        since = step if about is None else about.step
        if about is None:
            open_ = [i for i in self._source.monitor.incidents if i.cleared is None]
            if open_ and any(r.step <= open_[-1].step for r in self._ring):
                number, since = open_[-1].number, open_[-1].step
        try:
            found = self._split(self._before(since), step, number)
        except LookupError:
            raise
        except Exception as error:
            raise LookupError(f"The model could not be run again: {_words(error)}.") from error
        if about is not None and number:
            self._found[number] = found
        return found

    def close(self, reason: str = _CLOSED) -> None:
        """Let go of the layers; what was found stays."""
        self._ended, self._hooks = self._ended or reason, []
        self._ring.clear()
        self._moved.clear()
        self._waiting.clear()
        self.entered.clear()

    def fail(self, error: Exception) -> None:
        """Said once, and tried no more."""
        known = isinstance(error, (Unfit, Written))
        why = str(error)
        if not known:
            why = f"{_words(error)}. The model must run on the first samples of a batch"
        self.close(f"There are no replays: {why}.")
        if self._source.strict and not known:
            raise error
        self._source.monitor.dark("replay", why)

    # --- references ---------------------------------------------------------------------------

    def _mode(self, given: Given) -> bool:
        return self._source.root.training == given.training

    def _refer(self, step: int) -> None:
        """Keep the batch that was just seen as a reference."""
        given = self.entered.kept
        assert given is not None
        self._check()
        if self._ring:
            own = self._own(self._ring[-1], given)
            if own:
                self._moved.append(Moved(step, tuple(own), torch.stack(list(own.values()))))
        if not self._rows:
            self._rows = self._room(given)
        given, seen = given.first(self._rows), Seen(ROOM)
        show(self._source, self._hooks, given, seen)
        self._ring.append(Reference(step, given, seen.calls, seen.left_out))
        self.entered.kept = None
        self._next = step + max(1, min(step, max(APART, self._source.span)))

    def _room(self, given: Given) -> int:
        """Samples whose reference takes no more than there is room for, at least 2.

        The very first pass, under guard: what it would write into is still as it was.
        """
        few, seen = given.first(2), Seen(ROOM)
        with Guard(self._source.root):
            show(self._source, self._hooks, few, seen)
        if not few.rows:
            return SAMPLES
        return max(2, min(SAMPLES, int(few.rows * ROOM / max(seen.taken, 1))))

    def _check(self) -> None:
        reason = unfit(self._source.root)
        if reason:
            raise Unfit(reason)

    def _own(self, then: Reference, given: Given) -> dict[str, Tensor]:
        """Own changes since a reference, on the device."""
        found, _ = again(self._source, self._hooks, then.calls)
        own = {}
        level = apart(given.level, then.given.level)
        if level is not None:
            own[INPUT] = level
        for name, outputs in found.items():
            before = then.outputs(name)
            if _shapes(outputs) == _shapes(before):
                own[name] = _apart(outputs, before, before)
        return own

    def _before(self, step: int) -> Reference:
        """The newest reference from before a step."""
        known = [r for r in self._ring if r.step <= step]
        if not known:
            oldest = (
                f"the oldest was kept after step {self._ring[0].step}"
                if self._ring
                else "none was kept yet: the model's own forward must run, not as compiled code alone"
            )
            raise LookupError(
                f"A replay needs a reference from before step {step}; {oldest}. "
                "With a larger watch(replay=…) more are kept."
            )
        return known[-1]

    # --- incidents ----------------------------------------------------------------------------

    def _look_into(self, step: int) -> None:
        """Replay what was raised, before its consequences spread."""
        if self._ring and not self._mode(self._ring[-1].given):
            return  # in a moment
        while self._waiting:
            incident = self._waiting.pop(0)
            try:
                found = self._split(self._before(incident.step), step, incident.number)
            except LookupError as error:
                self._refused[incident.number] = str(error)
                continue
            self._found[incident.number] = found
            self._source.monitor.event("replay", f"incident {incident.number}: {found.verdict}")
            # References from before it are kept for a while.
            self._next = step + self._number * max(APART, self._source.span)
        self.entered.kept = None

    def _split(self, then: Reference, step: int, incident: int) -> Replayed:
        """What moved since a reference."""
        if not self._mode(then.given):
            raise LookupError(
                f"The references were kept in {_mode(then.given.training)} mode, and the model is in "
                f"{_mode(not then.given.training)} mode. Ask again while it trains."
            )
        self._check()
        now = Seen(outputs=True)
        show(self._source, self._hooks, then.given, now)
        found, failed = again(self._source, self._hooks, then.calls)
        left = then.left_out | failed
        sizes = {}
        level = apart(self.entered.level(), then.given.level)
        if level is not None:  # of the input nothing is inherited
            sizes[INPUT] = torch.stack([level, torch.zeros_like(level)])
        for name, outputs in found.items():
            before, here = then.outputs(name), _outputs(now.calls.get(name, ()))
            if _shapes(outputs) == _shapes(before) == _shapes(here):
                own, inherited = _apart(outputs, before, before), _apart(here, outputs, before)
                sizes[name] = torch.stack([own, inherited])
            else:
                left[name] = now.left_out.get(
                    name, "it was not called as often, or with other shapes"
                )
        earlier = [
            dict(zip(m.layers, m.own.tolist(), strict=True))
            for m in self._moved
            if m.step <= then.step
        ]
        names = tuple(sizes)
        table = (
            torch.stack(list(sizes.values())).cpu().double().numpy() if sizes else np.zeros((0, 2))
        )
        return Replayed(
            step=step,
            reference=then.step,
            incident=incident,
            layers=names,
            own=table[:, 0],
            inherited=table[:, 1],
            usual=usual(earlier, names),
            left_out=tuple(left.items()),
        )


def _outputs(calls: Sequence[Call]) -> list[Tensor]:
    return [t for call in calls for t in call.outputs]


def _shapes(outputs: Sequence[Tensor]) -> list[torch.Size]:
    return [t.shape for t in outputs]


def _apart(one: Sequence[Tensor], other: Sequence[Tensor], then: Sequence[Tensor]) -> Tensor:
    """Root mean square of the difference, as a share of that of ``then``; Inf where not finite."""
    count = max(sum(t.numel() for t in one), 1)

    def rms(parts: Sequence[Tensor]) -> Tensor:
        total = [t.float().square().sum() for t in parts]
        return (torch.stack(total).sum() / count).sqrt()

    moved = rms([a.float() - b.float() for a, b in zip(one, other, strict=True)])
    size = torch.maximum(rms(then), SILENT * rms(one))
    ratio = torch.where(moved == 0, moved, moved / size)
    return torch.where(ratio.isfinite(), ratio, torch.inf)


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def wanted(number: int | None) -> int:
    """What the option ``replay=`` of ``watch`` asks for: how many references, 0 for none.

    Raises:
        ValueError: where it is no such number.
    """
    if number is None:
        return 0
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(
            f"replay must be how many references to keep, such as 4, or None; got {number!r}."
        )
    return number
