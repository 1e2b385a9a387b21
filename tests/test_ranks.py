"""What several ranks make of one training, without a framework: laws of merging, and the exchange."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest

from shiftwatch import Monitor
from shiftwatch.frame import framing
from shiftwatch.ranks import Ranks, Verdict
from shiftwatch.records import Layer, Site
from shiftwatch.shares import Share, merged, packed, placed, unpacked
from shiftwatch.sites import Sites
from shiftwatch.source import Batch, Census, Finding, Group, Sweep
from shiftwatch.stages import finish


class Desk:
    """Messages of all ranks in one process; a rank that is cut off gets errors."""

    def __init__(self, messages: dict[str, bytes], rank: int, size: int) -> None:
        self.messages, self.rank, self.size = messages, rank, size
        self.cut = False

    def put(self, key: str, data: bytes) -> None:
        self.there([])
        self.messages[key] = data

    def there(self, keys: Sequence[str]) -> bool:
        if self.cut:
            raise ConnectionError("the line is dead")
        return all(key in self.messages for key in keys)

    def get(self, key: str) -> bytes:
        return self.messages[key]

    def drop(self, key: str) -> None:
        self.messages.pop(key, None)


def share(values: np.ndarray, steps: Sequence[int], losses: Sequence[float]) -> Share:
    """Values [steps, sites, samples, units], one call per step and site."""
    t, sites = values.shape[:2]
    when = np.repeat(np.array(steps, np.int64)[:, None], sites, axis=1)
    batch = Batch(
        groups=(Group(np.arange(sites), values.astype(np.float32), when),),
        steps=np.array(steps, np.int64),
        learning_rate=np.full(t, 0.1),
        stepped=np.ones(t, bool),
        tampered=np.zeros((t, sites)),
        batch_size=np.full(t, values.shape[2], np.int64),
    )
    framed = finish(framing(batch, sites))
    given = ~np.isnan(losses)
    return Share(Batch((), *list(vars(batch).values())[1:6]), framed, np.array(losses), given)


def test_the_shares_of_a_batch_merge_to_the_share_of_the_whole() -> None:
    """Counts and histograms exactly, moments and the readings of every step to rounding."""
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(8, 3, 12, 5)) * rng.uniform(0.1, 4, (8, 3, 1, 1))
    whole[2, 1, 3, 3], whole[5, 0, 11, 0] = np.nan, np.inf
    parts = [whole[:, :, :4], whole[:, :, 4:7], whole[:, :, 7:]]
    losses = rng.normal(size=(3, 8))
    got = merged([share(p, range(8), x) for p, x in zip(parts, losses, strict=True)])
    want = share(whole, range(8), losses.mean(0))
    assert np.array_equal(got.framed.summary.count, want.framed.summary.count)
    assert np.array_equal(got.framed.summary.tallies.nan, want.framed.summary.tallies.nan)
    counts = [s.framed.summary.histogram.counts for s in (got, want)]
    assert np.array_equal(*counts)
    np.testing.assert_allclose(got.framed.summary.mean, want.framed.summary.mean, atol=1e-7)
    np.testing.assert_allclose(got.framed.summary.moments.m4, want.framed.summary.moments.m4, 1e-5)
    for name in ("count", "mean", "std", "nonfinite"):
        mine, theirs = (getattr(s.framed.course, name) for s in (got, want))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    activity = got.framed.activity, want.framed.activity
    assert np.array_equal(activity[0].n, activity[1].n)
    assert np.array_equal(activity[0].active, activity[1].active)
    np.testing.assert_allclose(got.losses, want.losses)
    assert got.batch.batch_size.tolist() == [12] * 8


def test_a_unit_is_silent_since_it_was_active_on_any_rank() -> None:
    """One that fires on one rank is not dead, however long it is silent on the other."""
    dead, alive = np.zeros((8, 1, 4, 2)), np.zeros((8, 1, 4, 2))
    alive[:, :, :, 1] = 1.0
    alive[3, :, :, 0] = 1.0
    both = merged([share(x, range(8), [0.0] * 8) for x in (dead, alive)]).framed.activity
    assert both.n.tolist() == [64, 64] and both.active.tolist() == [4, 32]
    assert both.silent.tolist() == [2 * 4 * 4, 0]


def test_steps_that_a_rank_has_not_taken_count_for_the_others_alone() -> None:
    """A rank that stops in the middle of a window."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 8, 2, 4, 3))
    got = merged([share(a, range(8), [1.0] * 8), share(b[:3], range(3), [3.0] * 3)])
    assert got.framed.course.count[:, 0].tolist() == [24] * 3 + [12] * 5
    assert got.losses.tolist() == [2.0] * 3 + [1.0] * 5
    np.testing.assert_allclose(got.framed.course.mean[5], a[5].mean((1, 2)), atol=1e-6)


def test_a_share_is_the_same_after_the_journey() -> None:
    """To the last bit, with columns that mean other sites there."""
    rng = np.random.default_rng(2)
    one = share(rng.normal(size=(8, 2, 4, 3)), range(8), [0.5] * 8)
    news = [(Site("a"), Layer("a")), (Site("b"), Layer("b"))]
    again, sites = unpacked(packed(one, news))
    assert list(sites) == news
    moved = placed(again, np.array([3, 1]), 4)
    for name in ("mean", "std", "count"):
        mine = getattr(one.framed.course, name)
        there = getattr(moved.framed.course, name)
        assert np.array_equal(there[:, [3, 1]], mine)
    assert np.array_equal(moved.framed.summary.count[[3, 1]], one.framed.summary.count)
    assert moved.framed.summary.count[[0, 2]].tolist() == [0, 0]
    assert moved.framed.activity.sites.tolist() == [3, 1]


def test_what_was_counted_in_full_adds_up() -> None:
    """Two censuses of a site: those of all values."""
    rng = np.random.default_rng(3)
    parts = rng.normal(2, 3, (2, 50, 4))

    def census(x: np.ndarray) -> Census:
        return Census(
            0, 8, x.size, 0, 0, float(x.mean()), float(x.std()), float(x.min()), float(x.max()), 0,
            (x > 0).sum(0),
        )  # fmt: skip

    shares = []
    for part in parts:
        one = share(np.ones((8, 1, 4, 3)), range(8), [0.0] * 8)
        shares.append(
            Share(_with(one.batch, censuses=(census(part),)), *list(vars(one).values())[1:])
        )
    (got,), want = merged(shares).batch.censuses, census(parts.reshape(-1, 4))
    assert (got.count, got.low, got.high) == (want.count, want.low, want.high)
    np.testing.assert_allclose([got.mean, got.std], [want.mean, want.std])
    assert got.active.tolist() == want.active.tolist()


def test_of_several_looks_the_one_nearest_to_the_cause_is_kept() -> None:
    """A NaN in one rank's data comes to the others as a gradient, in the same step."""
    site = Site("fc", "gradient")
    late = Sweep(7, 7, Finding("fc", site, 10, 10, "the gradient"))
    near = Sweep(7, 7, Finding("<input>", Site("<input>", "input"), 10, 1, "the data"))
    shares = []
    for sweep in (late, near):
        one = share(np.ones((8, 1, 4, 3)), range(8), [0.0] * 8)
        batch = _with(one.batch, sweeps=(sweep,), coming=True)
        shares.append(Share(batch, *list(vars(one).values())[1:]))
    got = merged(shares).batch
    assert got.sweeps == (near,) and not got.coming


def _with(batch: Batch, **more: object) -> Batch:
    return Batch(**{**vars(batch), **more})


# --- the exchange ----------------------------------------------------------------------------


def _pair(messages: dict[str, bytes]) -> tuple[list[Desk], list[Monitor]]:
    desks = [Desk(messages, rank, 2) for rank in (0, 1)]
    return desks, [Monitor(run=False, ranks=Ranks(desk, "test")) for desk in desks]


def _data(steps: int) -> np.ndarray:
    """[steps, samples, units]; from step 70 on a third of the samples is shifted and wide."""
    x = np.random.default_rng(4).normal(size=(steps, 64, 16))
    x[70:, :20] = x[70:, :20] * 30 + 40
    return x


def _step(monitor: Monitor, x: np.ndarray) -> None:
    monitor.observe("fc", x)
    monitor.step(loss=float(np.mean(x[:, 0] * 0 + 1)))


def test_two_monitors_over_halves_judge_as_one_over_the_whole() -> None:
    """Windows, alerts and incidents of rank 0 are those of a monitor that saw everything."""
    data = _data(120)
    _, monitors = _pair({})
    with Monitor(run=False) as single:
        for x in data:
            _step(single, x)
            _step(monitors[0], x[::2])
            _step(monitors[1], x[1::2])
    assert monitors[1].alerts == monitors[0].alerts
    _close_both(monitors)
    a, b = monitors[0].history, single.history
    told = {(x.layer, x.kind) for x in monitors[0].alerts}
    assert told and told == {(x.layer, x.kind) for x in single.alerts}
    assert monitors[1].alerts == monitors[0].alerts
    assert monitors[1].incidents == monitors[0].incidents
    last = a.summary(len(a) - 1), b.summary(len(b) - 1)
    if a.steps[-1] == b.steps[-1] and a.first[-1] == b.first[-1]:
        assert np.array_equal(last[0].histogram.counts, last[1].histogram.counts)
    total = [sum(int(r.summary(i).count[0]) for i in range(len(r))) for r in (a, b)]
    assert total[0] == total[1] == 120 * 64 * 16


def test_a_unit_is_kept_as_dead_that_is_on_all_ranks() -> None:
    """Silent on one of them alone, it learns from the data of the other."""
    data = np.abs(_data(120))
    data[40:, :, 0] = 0  # on both
    data[40:, 1::2, 1] = 0  # on rank 1
    _, monitors = _pair({})
    for x in data:
        for rank, monitor in enumerate(monitors):
            monitor.observe("act", x[rank::2], activation="relu")
            monitor.step()
    _close_both(monitors)
    run = monitors[0].history
    assert np.flatnonzero(run.dead_units(Site("act")).any(0)).tolist() == [0]
    assert 40 < run.steps[run.dead_units(0)[:, 0]][0] < 64


def _close_both(monitors: list[Monitor]) -> None:
    """Rank 1 waits for rank 0's last word, so it closes in a thread."""
    import threading

    other = threading.Thread(target=monitors[1].close)
    other.start()
    monitors[0].close()
    other.join(20)
    assert not other.is_alive()


def test_a_dead_line_is_said_once_and_both_watch_alone(caplog: pytest.LogCaptureFixture) -> None:
    """No window of a rank's own is lost with it."""
    desks, monitors = _pair({})
    with caplog.at_level(logging.WARNING, "shiftwatch"):
        for step, x in enumerate(_data(60)):
            for desk in desks:
                desk.cut = step >= 20
            _step(monitors[0], x[::2])
            _step(monitors[1], x[1::2])
        _close_both(monitors)
    said = [r.getMessage() for r in caplog.records if "alone" in r.getMessage()]
    assert len(said) == 2 and all("the line is dead" in message for message in said)
    history = monitors[0].history
    assert history.steps.tolist() == [7, 15, 23, 31, 39, 47, 55, 59]
    assert [int(history.summary(i).count[0]) for i in (0, 1)] == [8 * 64 * 16] * 2
    assert int(history.summary(3).count[0]) == 8 * 32 * 16
    assert monitors[1].history.steps.tolist()[-4:] == [39, 47, 55, 59]


def test_a_rank_that_does_not_keep_step_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Windows that end at other steps cannot be merged: said once, and both go on."""
    _, monitors = _pair({})
    with caplog.at_level(logging.WARNING, "shiftwatch"):
        for step, x in enumerate(_data(64)):
            _step(monitors[0], x[::2])
            if step != 11:
                _step(monitors[1], x[1::2])
            else:
                monitors[1].steps += 1
        _close_both(monitors)
    said = [r.getMessage() for r in caplog.records if "rank 1" in r.getMessage()]
    assert len(said) == 2
    assert said[0].startswith("rank 1 ended its window at another step, in the one from 8 on")
    assert "rank 0 goes on without rank 1" in said[1]


def test_all_ranks_watch_the_same_steps_whatever_each_would_have() -> None:
    """What rank 0 would have holds from a later window on, the same on all."""
    messages: dict[str, bytes] = {}
    ranks = [Ranks(Desk(messages, rank, 2), "test") for rank in (0, 1)]
    sites = Sites()
    sites.add(Site("fc"), Layer("fc"))
    watched: list[list[int]] = [[], []]
    one = share(np.ones((8, 1, 4, 3)), range(8), [0.0] * 8)
    for mine, rank in zip(watched, ranks, strict=True):
        wake = 0
        for step in range(400):
            if step == wake:
                mine.append(step)
                if len(mine) % 8 == 0:
                    rank.turn()
                    rank.add(one, sites)
                    if rank.rank == 0:
                        rank.tell(Verdict())
                    else:
                        assert rank.heard() is not None
            wake = rank.wake(step, 1 if step < 40 else 5 - 3 * rank.rank)
    assert watched[0] == watched[1]
    gaps = np.diff(watched[0])
    assert gaps[:60].tolist() == [1] * 60 and set(gaps[-20:].tolist()) == {5}


def test_a_resumed_training_merges_again() -> None:
    """Every rank loads the state that rank 0 saved."""
    data = _data(64)
    _, monitors = _pair({})
    for x in data[:32]:
        _step(monitors[0], x[::2])
        _step(monitors[1], x[1::2])
    state = monitors[0].state_dict()
    _close_both(monitors)
    _, again = _pair({})
    for monitor in again:
        monitor.load_state_dict(state)
    for x in data[32:]:
        _step(again[0], x[::2])
        _step(again[1], x[1::2])
    _close_both(again)
    history = again[0].history
    assert history.steps.tolist() == [39, 47, 55, 63]
    assert [int(history.summary(i).count[0]) for i in range(4)] == [8 * 64 * 16] * 4
