"""Merging: a rank's windows among those of the others; see :mod:`shiftwatch.ranks`.

What the monitor's loop asks of the other ranks. Nothing waits while the model trains, and where the
way to them is cut, what was not judged yet is judged alone.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from shiftwatch.judgement import Judged, Judgement
from shiftwatch.keeper import Keeper
from shiftwatch.overhead import Overhead
from shiftwatch.ranks import FAREWELL, Lost, Ranks, Verdict
from shiftwatch.records import Alert, Event, Incident
from shiftwatch.shares import Share
from shiftwatch.sites import Sites
from shiftwatch.source import Batch
from shiftwatch.stages import Stages

_log = logging.getLogger("shiftwatch")


class Begun(NamedTuple):
    """A window whose judging has begun.

    Attributes:
        stages: what is left of it.
        events: of the window, to be kept with it.
        steps: in the window.
    """

    stages: Stages[Judged | Share]
    events: Sequence[Event]
    steps: int


class Merging:
    """This rank among the others, until they part; alone from the start without any.

    Args:
        ranks: the way to the others; ``None`` where there are none.
        sites, judgement, keeper, overhead: the monitor's own.
        strict: re-raise what is no matter of the way: for tests.

    Attributes:
        speaks: whether this rank logs, writes and reports: rank 0, and whoever is alone.
        step: the one under way.
    """

    def __init__(
        self,
        ranks: Ranks | None,
        sites: Sites,
        judgement: Judgement,
        keeper: Keeper,
        overhead: Overhead,
        strict: bool = False,
    ) -> None:
        self._ranks, self._strict = ranks, strict
        self._sites, self._judgement, self._keeper = sites, judgement, keeper
        self._overhead = overhead
        self._backlog: deque[Share] = deque()  # to be judged alone
        self.speaks = ranks is None or ranks.rank == 0
        self.step = 0

    @property
    def together(self) -> bool:
        """Whether windows are merged with those of others."""
        return self._ranks is not None

    # --- a window ------------------------------------------------------------------------

    def wake(self, step: int, gap: int) -> int:
        """The step that all ranks watch next: see :meth:`Ranks.wake`."""
        assert self._ranks is not None
        return self._ranks.wake(step, gap)

    def ends(self, steps: int, urgent: bool) -> bool:
        """Whether the window ends here, on all ranks, before the ring is full.

        Args:
            steps: watched in this window so far.
            urgent: whether this rank asks for it.
        """
        assert self._ranks is not None
        try:
            if urgent:
                self._ranks.flag(steps)
            return self._ranks.flagged(steps)
        except Exception as error:
            self._part(error)
            return urgent

    def sharing(self, batch: Batch, losses: np.ndarray, given: np.ndarray) -> Begun:
        """A window of this rank, to be measured and handed in."""
        assert self._ranks is not None
        self._ranks.turn()
        stages = self._judgement.sharing(batch, losses, given)
        return Begun(stages, batch.events, batch.steps.size)

    def hand_in(self, share: Share) -> None:
        """This rank's share of a window: to the others, or to be judged alone after all."""
        if self._ranks is None:
            self._backlog.append(share)
            return
        try:
            self._ranks.add(share, self._sites)
        except Exception as error:
            self._ranks.keep(share)
            self._part(error)

    def hear(self, closing: bool = False, hurry: bool = False) -> Begun | None:
        """Look for what the others have posted, without waiting; a window of all may be ready."""
        ranks = self._ranks
        assert ranks is not None
        try:
            if not ranks.rank and ranks.ready(closing, hurry):
                batch = ranks.waiting[0].batch
                return Begun(self._of_all(ranks), batch.events, batch.steps.size)
            while ranks.rank and (verdict := ranks.heard()) is not None:
                self._take_over(verdict)
        except Exception as error:
            self._part(error)
        return None

    def tell(self, judged: Judged) -> None:
        """The others learn what was judged of all."""
        if self._ranks is None:
            return
        verdict = Verdict(judged.alerts, judged.incidents, dict(self._sites.guessed))
        try:
            self._ranks.tell(verdict)
        except Exception as error:
            self._part(error)

    def alone(self) -> Begun | None:
        """The oldest window that is left to be judged alone."""
        if not self._backlog:
            return None
        batch = self._backlog[0].batch
        return Begun(self._judging(self._backlog.popleft()), batch.events, batch.steps.size)

    # --- the end -------------------------------------------------------------------------

    def farewell(self, stopped: bool) -> Iterator[Begun]:
        """Windows of all ranks as they come in: a few seconds for those who are later.

        Args:
            stopped: by an error; then nobody is waited for.
        """
        patience = time.monotonic() + (0.0 if stopped else FAREWELL)
        with suppress(Exception):
            self._ranks.leave() if self._ranks is not None else None
        while self._ranks is not None:
            late = time.monotonic() > patience
            if time.monotonic() > patience + FAREWELL:
                self._part(Lost("the end took too long"))
                break
            begun = self.hear(closing=True, hurry=late)
            if begun is not None:
                yield begun
            elif self._ranks is not None and self._ranks.rank:
                try:
                    word = self._ranks.last_word(late)
                except Exception as error:
                    self._part(error)
                    break
                if word is not None or late:
                    self._take_over(word or Verdict())
                    break
                time.sleep(0.002)
            elif self._ranks is None or not self._ranks.waiting:
                break
            else:
                time.sleep(0.001)

    def end(self, alerts: Sequence[Alert], incidents: Sequence[Incident], stopped: bool) -> None:
        """The last word of rank 0: the others may wait for it."""
        if self._ranks is None or self._ranks.rank:
            return
        with suppress(Exception):
            self._ranks.end(Verdict(tuple(alerts), tuple(incidents)))
            patience = time.monotonic() + (0.0 if stopped else 1.0)
            while not self._ranks.heeded() and time.monotonic() < patience:
                time.sleep(0.002)  # this process may be the one that keeps the posts

    def abandon(self) -> None:
        """This rank watches no more."""
        ranks, self._ranks = self._ranks, None
        if ranks is not None:
            with suppress(Exception):
                ranks.leave()
                ranks.part()

    # --- inside --------------------------------------------------------------------------

    def _of_all(self, ranks: Ranks) -> Stages[Judged | Share]:
        """Merge and judge the oldest window of all ranks."""
        try:
            share = yield from ranks.merging(self._sites)
        except Exception as error:
            self._part(error)
            share = self._backlog.popleft()
        return (yield from self._judging(share))

    def _judging(self, share: Share) -> Stages[Judged | Share]:
        framed = share.framed.widened(len(self._sites))
        return (
            yield from self._judgement.judging(
                share.batch, share.losses, share.given, self._overhead.since(), framed
            )
        )

    def _take_over(self, verdict: Verdict) -> None:
        """What rank 0 made of a window."""
        for site, activation in verdict.guessed.items():
            if (column := self._sites.column(site)) is not None:
                self._sites.guess(column, activation)
        self._keeper.keep(verdict.alerts, verdict.incidents, ())

    def _part(self, reason: Exception) -> None:
        """From here on this rank watches its own share alone. Said once."""
        if self._ranks is None:
            return
        if self._strict and isinstance(reason, (TypeError, ValueError, LookupError)):
            raise reason
        ranks, self._ranks = self._ranks, None
        self._backlog.extend(ranks.waiting)
        with suppress(Exception):
            ranks.part()
        why = str(reason) if isinstance(reason, Lost) else f"{type(reason).__name__}: {reason}"
        where = "" if self.speaks else ", in memory"
        self.speaks = True
        _log.warning(
            "rank %d watches its own share alone%s: %s. Call watch() on all ranks to have them merged, "
            "or watch(ranks='alone') if this is meant.", ranks.rank, where, why,
        )  # fmt: skip
        self._keeper.note(Event(self.step, "ranks", f"rank {ranks.rank} alone: {why}"))
