"""Ranks: several processes of one training, watched as one.

Each rank frames its own windows and posts them, a *share* per window; rank 0 merges the shares of
a window, judges them, and posts its *verdict*, which the others take over. Nobody ever waits
for anybody while the model trains: posts are looked for at every fourth step, and what is late
is left out.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from shiftwatch.records import Alert, Incident, Layer, Site
from shiftwatch.shares import Share, merged, packed, placed, said_by, unpacked, without
from shiftwatch.sites import Sites
from shiftwatch.stages import Stages

_log = logging.getLogger("shiftwatch")

#: Windows, and seconds, after which a rank that has not posted its share is left behind …
LATE, PATIENCE = 3, 10.0
# … and windows after which it is whatever the time.
CROWD = 64
#: Steps between two looks at what the others posted.
POLL = 4
#: Steps in which a window may end early.
EARLY = 8
#: Seconds until it is settled who watches, from the second window on.
ROLL_CALL = 2.0
#: Seconds that close() gives the others.
FAREWELL = 5.0
# Of how many parts rank 0 takes in the shares of a window, one per step.
_AT_ONCE = 8
# Difference of two ranks' weights that is rounding, in the weights' own size.
_ALIKE = 1e-3


class Post(Protocol):
    """Messages between ranks. Every call returns at once, or raises where the way is cut."""

    rank: int
    size: int

    def put(self, key: str, data: bytes) -> None:
        """Leave a message for all."""

    def there(self, keys: Sequence[str]) -> bool:
        """Whether there are messages under all of these keys."""

    def get(self, key: str) -> bytes:
        """The message of a key that is there."""

    def drop(self, key: str) -> None:
        """Nobody needs it any more."""


class Verdict(NamedTuple):
    """What rank 0 made of a window.

    Attributes:
        alerts, incidents: as in ``Judged``.
        guessed: activations read off the values, by site.
        members: the ranks that are merged.
        plan: a window, and the steps between two watched ones from there on; 0 for as before.
    """

    alerts: tuple[Alert, ...] = ()
    incidents: tuple[Incident, ...] = ()
    guessed: Mapping[Site, str] = {}
    members: tuple[int, ...] = ()
    plan: tuple[int, int] = (0, 0)


class Lost(RuntimeError):
    """The other ranks are out of reach, or do not take part."""


class Ranks:
    """This rank's side of the exchange.

    Windows are numbered, and end at the same steps on all ranks. Own shares wait in order
    until they are judged.

    Args:
        post: the way to the others.
        name: of the training, the same on all ranks that watch it.
        sharded: whether each rank holds a part of the weights only, asked once it trains.

    Attributes:
        waiting: own shares without verdict, oldest first.
        members: the ranks whose shares are merged.
    """

    def __init__(self, post: Post, name: str, sharded: Callable[[], bool] = bool) -> None:
        self.post, self.name, self._sharded = post, name, sharded
        self.rank, self.members = post.rank, list(range(post.size))
        self.waiting: deque[Share] = deque()
        self._since: deque[float] = deque()
        self._all_here = False
        self._window = 0  # the one under way
        self._sent = self._judged = 0
        self._sites = 0  # those that the others were told of
        self._tables: dict[int, list[tuple[Site, Layer]]] = {}
        self._last: dict[int, int] = {}  # rank to its last window
        self._flag = -1
        self._plan = (0, 0)  # from which window on which gap holds
        self._gap = 0  # steps between two watched ones; 0 before it is known
        self.post.put(self._key("here", self.rank), b"1")

    # --- every rank ----------------------------------------------------------------------

    def turn(self) -> None:
        """A window has ended, and the next begins."""
        self._window += 1
        first, gap = self._plan
        if gap and self._window >= first:
            self._gap = gap

    def wake(self, step: int, gap: int) -> int:
        """The step that all ranks watch next.

        Args:
            step: has ended.
            gap: steps between two watched ones, as this rank would have it. That of rank 0 counts,
                from a later window on, where it differs by much.
        """
        self._gap = self._gap or gap
        first, planned = self._plan
        settled = self._window >= first
        if not self.rank and settled and not 0.8 < gap / (planned or self._gap) < 1.25:
            self._plan = (self._window + LATE + 1, gap)
        return (step // self._gap + 1) * self._gap

    def add(self, share: Share, sites: Sites) -> None:
        """The next window of this rank."""
        if self.rank:
            slim = share
            if self._sent and not self._sharded():
                slim = without(share, sites.mask("weight", "update"))
            self._put_share(packed(slim, self._news(sites)))
        self._sent += 1
        self.waiting.append(share)
        self._since.append(time.monotonic())

    def keep(self, share: Share) -> None:
        """A share that could not be sent."""
        if not self.waiting or self.waiting[-1] is not share:
            self.waiting.append(share)

    def part(self) -> None:
        """Rank 0 goes on alone, and says so."""
        if self.rank == 0:
            word = pickle.dumps(Verdict(members=(0,)))
            self.post.put(self._key("verdict", self._judged), word)

    def leave(self) -> None:
        """No share follows."""
        if self.rank:
            self.post.put(self._key("left", self.rank), str(self._sent).encode())

    def flag(self, steps: int) -> None:
        """Ask all ranks to end the window early, at the next multiple of :data:`EARLY` steps.

        Args:
            steps: watched in this window so far.
        """
        mark = self._mark(steps) + 1
        if mark > self._flag:
            self._flag = mark
            self.post.put(self._key("flag", mark), b"1")
            self.post.there([self._key("flag", mark)])  # answered when the flag has arrived

    def flagged(self, steps: int) -> bool:
        """Whether a rank asked for an end of the window here.

        Whoever asks does so before the ranks exchange the gradients of the next step, so
        either all find the flag there or, where they exchange nothing, some are left behind.
        """
        return steps % EARLY == 0 and self.post.there([self._key("flag", self._mark(steps))])

    # --- rank 0 --------------------------------------------------------------------------

    def ready(self, closing: bool = False, hurry: bool = False) -> bool:
        """Whether the oldest window can be merged now.

        Args:
            closing: whether nobody will call watch() any more.
            hurry: whether to leave out at once who is late.

        Raises:
            Lost: where not all ranks watch.
        """
        if not self.waiting:
            return False
        age, crowd = time.monotonic() - self._since[0], len(self.waiting)
        if not self._all_here:
            away = [r for r in self.members if not self.post.there([self._key("here", r)])]
            if away and (closing or crowd > CROWD or (crowd > 1 and age > ROLL_CALL)):
                raise Lost(_ABSENT.format(_listed(away), self.rank))
            if away:
                return False
            self._all_here = True
        late = self._expected()
        if not late or self.post.there([self._key(self._judged, r) for r in late]):
            return True
        for r in late:
            if r not in self._last and self.post.there([self._key("left", r)]):
                self._last[r] = int(self.post.get(self._key("left", r))) - 1
        if len(self._expected()) < len(late):
            return self.ready(closing, hurry)
        if not (hurry or crowd > CROWD or (crowd > LATE and age > PATIENCE)):
            return False
        late = [r for r in late if not self.post.there([self._key(self._judged, r)])]
        self._expel(late, "sent nothing for the steps")
        return True

    def merging(self, sites: Sites) -> Stages[Share]:
        """The oldest window of all ranks; sites that are new here are added."""
        shares: list[tuple[Share, np.ndarray]] = []
        own, expected = self.waiting[0], self._expected()
        for i, rank in enumerate(expected, 1):
            key = self._key(self._judged, rank)
            share, news = unpacked(self.post.get(key))
            self.post.drop(key)
            self._tables.setdefault(rank, []).extend(news)
            columns = self._columns(self._tables[rank], sites)
            steps = share.batch.steps
            if np.isin(steps, own.batch.steps).any():
                shares.append((said_by(rank, share), columns))
            if any(a != b for a, b in zip(steps, own.batch.steps, strict=False)):
                self._expel([rank], "ended its window at another step, in the one")
            if i % max(1, len(expected) // _AT_ONCE) == 0:
                yield
        number = len(sites)
        mine = placed(own, np.arange(own.framed.summary.shape[0]), number)
        others = [placed(share, columns, number) for share, columns in shares]
        if not self._sharded():
            if not self._judged:
                _check(mine, others, sites)
            slow = sites.mask("weight", "update")
            others = [without(share, slow) for share in others]
        yield
        return merged([mine, *others])

    def tell(self, verdict: Verdict) -> None:
        """Rank 0's word on the oldest window, which waits no more."""
        number, word = self._judged, verdict._replace(members=tuple(self.members), plan=self._plan)
        self._done()
        self.post.put(self._key("verdict", number), pickle.dumps(word))
        if number >= 2 * CROWD:
            self.post.drop(self._key("verdict", number - 2 * CROWD))

    def end(self, verdict: Verdict) -> None:
        """Rank 0's last word."""
        self.post.put(self._key("end"), pickle.dumps(verdict))

    def heeded(self) -> bool:
        """Whether all know rank 0's last word."""
        return self.post.there([self._key("bye", r) for r in self.members[1:]])

    # --- the others ----------------------------------------------------------------------

    def heard(self) -> Verdict | None:
        """The verdict on the oldest own window, once it is there.

        Raises:
            Lost: where rank 0 does not take part, or goes on without this rank.
        """
        if not self.waiting:
            return None
        key = self._key("verdict", self._judged)
        if self.post.there([key]):
            verdict: Verdict = pickle.loads(self.post.get(key))
            if self.rank not in verdict.members:
                raise Lost(_DROPPED.format(self.rank))
            self._all_here, self._plan = True, verdict.plan
            self._done()
            return verdict
        age, crowd = time.monotonic() - self._since[0], len(self.waiting)
        if not self._all_here and crowd > 1 and age > ROLL_CALL:
            if not self.post.there([self._key("here", 0)]):
                raise Lost(_ABSENT.format("rank 0", self.rank))
        if crowd > 1 and self.post.there([self._key("end")]):
            raise Lost("rank 0 has ended")
        if crowd > CROWD or (crowd > LATE and age > 3 * PATIENCE):
            raise Lost("rank 0 did not answer")
        return None

    def last_word(self, late: bool = False) -> Verdict | None:
        """What rank 0 said when it ended, once it has.

        Args:
            late: whether this rank waits no longer.
        """
        if late:
            self.post.put(self._key("bye", self.rank), b"1")
        if not self.post.there([self._key("end")]):
            if not self._all_here and not self.post.there([self._key("here", 0)]):
                raise Lost(_ABSENT.format("rank 0", self.rank))
            return None
        verdict: Verdict = pickle.loads(self.post.get(self._key("end")))
        self.post.put(self._key("bye", self.rank), b"1")
        return verdict

    # --- inside --------------------------------------------------------------------------

    def _key(self, *words: object) -> str:
        return "/".join(("shiftwatch", self.name, *map(str, words)))

    def _mark(self, steps: int) -> int:
        """Number of a place at which a window may end."""
        return self._window * CROWD + steps // EARLY

    def _put_share(self, data: bytes) -> None:
        self.post.put(self._key(self._sent, self.rank), data)

    def _news(self, sites: Sites) -> list[tuple[Site, Layer]]:
        fresh, self._sites = sites.all[self._sites :], len(sites)
        return [(site, sites.layers[site.layer]) for site in fresh]

    def _expected(self) -> list[int]:
        """Who has a share of the oldest window."""
        return [r for r in self.members[1:] if self._last.get(r, self._judged) >= self._judged]

    def _expel(self, late: Sequence[int], why: str) -> None:
        self.members = [r for r in self.members if r not in late]
        if late:
            _log.warning(
                "%s %s from %d on: no more is merged from there. The other ranks go on.",
                _listed(late), why, self.waiting[0].batch.steps[0],
            )  # fmt: skip

    def _columns(self, table: Sequence[tuple[Site, Layer]], sites: Sites) -> np.ndarray:
        """Where a rank's columns lie here: int64[its sites]."""
        for site, layer in table:
            if sites.column(site) is None:
                sites.add(site, sites.layers.get(layer.name, layer))
        return np.array([sites.column(site) for site, _ in table], np.int64)

    def _done(self) -> None:
        self.waiting.popleft()
        self._since.popleft()
        self._judged += 1


def _check(mine: Share, others: Sequence[Share], sites: Sites) -> None:
    """Ranks that train one model hold the same weights, where not each holds a part of them.

    Raises:
        Lost: where they do not.
    """
    own = mine.framed.summary
    for share in others:
        their = share.framed.summary
        both = sites.mask("weight") & (own.count > 0) & (their.count > 0)
        size = np.abs(own.mean[both]) + own.std[both]
        if (np.abs(own.mean[both] - their.mean[both]) > _ALIKE * size).any():
            raise Lost("the ranks train different weights")


_ABSENT = "watch() was not called by {}, and it was by rank {}"
_DROPPED = "rank 0 goes on without rank {}"


def _listed(ranks: Sequence[int]) -> str:
    few = ", ".join(map(str, ranks[:4])) + (", …" if len(ranks) > 4 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {few}"
