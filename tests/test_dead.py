"""Which units are dead when: kept by window, merged, on disk, and read by site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftwatch import Monitor
from shiftwatch.dead import Dead, stacked
from shiftwatch.history import History, Run, Window, merge
from shiftwatch.live.outline import Outline
from shiftwatch.records import Layer, Site
from shiftwatch.store import Writer, open_run
from shiftwatch.summaries import Summary
from tests.simulated import DEATHS, dying

WIDTHS = np.array([1, 8, 20])  # of three sites


@st.composite
def flags(draw: st.DrawFn) -> list[np.ndarray]:
    """Of some windows, which units of the three sites are dead: bool[windows, units] each."""
    windows = draw(st.integers(1, 5))
    bits = st.integers(0, 2**20 - 1) | st.just(0)
    drawn = [[draw(bits) for _ in range(windows)] for _ in WIDTHS]
    return [
        np.array([[n >> u & 1 for u in range(width)] for n in numbers], bool)
        for width, numbers in zip(WIDTHS.tolist(), drawn, strict=True)
    ]


def kept(sites: list[np.ndarray], columns: tuple[int, ...] = (0, 4, 7)) -> list[Dead]:
    """The same, a window at a time."""
    starts = np.concatenate([[0], np.cumsum([s.shape[1] for s in sites])])
    rows = np.concatenate(sites, axis=1)
    return [Dead.of(row, starts, np.array(columns)) for row in rows]


def same(a: Dead, b: Dead) -> bool:
    return a.windows == b.windows and all(map(np.array_equal, (a.sites, a.bits), (b.sites, b.bits)))


@settings(max_examples=80, deadline=None)
@given(flags())
def test_bits_say_what_the_flags_said_alone_together_and_chosen(sites: list[np.ndarray]) -> None:
    """Laws: each(stacked(windows)) == windows; taken(i) == stacked of those."""
    windows = kept(sites)
    together = stacked(windows)
    for column, wanted in zip((0, 4, 7), sites, strict=True):
        found = together.site(column)
        assert np.array_equal(found, wanted if wanted.any() else wanted[:, :0])
    assert all(map(same, together.each(), windows))
    for some in (np.arange(0, len(windows), 2), np.arange(0)):
        taken = together.taken(some)
        assert taken.site(4).shape == (some.size, together.site(4).shape[1])
        for one, i in zip(taken.each(), some.tolist(), strict=True):
            assert same(one, windows[i])


def test_a_site_whose_width_changed_has_the_largest() -> None:
    """As where a run is resumed with another model."""
    narrow, wide = (kept([np.ones((1, width), bool)], (3,))[0] for width in (3, 12))
    both = stacked([narrow, Dead.none(), wide]).site(3)
    assert both.sum(1).tolist() == [3, 0, 12] and both[0, :3].all()


def _window(step: int, dead: Dead | None = None) -> Window:
    said = Dead.none() if dead is None else dead
    return Window(step, step, Summary.empty((8,)), {}, np.zeros(0), 0.0, dead=said)


def test_a_merged_window_knows_the_units_that_are_dead_at_its_end() -> None:
    """Not those that came back meanwhile."""
    dead = np.array([[True, False, False], [False, True, True]])
    early, late = kept([dead], (5,))
    both = merge(_window(0, early), _window(1, late)).dead
    assert both.site(5).tolist() == [[False, True, True]]
    assert not merge(_window(0, early), _window(1)).dead.sites.size


def _first(units: int) -> Dead:
    return kept([np.arange(500)[None] < units], (6,))[0]


def _recorded(windows: int, history: History | Writer) -> None:
    """Sites of which one unit after another dies for good; every third window is without."""
    for number in range(8):
        name = f"act{number}"
        add = history.add_site if isinstance(history, History) else history.site
        add(Site(name), Layer(name, activation="relu"))
    for step in range(windows):
        window = _window(step, None if step % 3 == 0 else _first(step))
        history.add_window(window) if isinstance(history, History) else history.window(window)


def _expected(run: Run) -> np.ndarray:
    there = (np.arange(500) < run.steps[:, None]) & (run.steps % 3 > 0)[:, None]
    return np.asarray(there)


def test_a_long_history_and_its_continuation_know_the_dead_at_the_end_of_every_window() -> None:
    long, whole = History(limit=64), History()
    for history in (long, whole):
        _recorded(300, history)
    assert len(long.view()) == 64
    for history in (long, whole):
        run = history.view()
        np.testing.assert_array_equal(run.dead_units(6), _expected(run))
        assert run.dead_units(Site("act1")).shape == (len(run), 0)
    again = History()
    for number in range(8):
        again.add_site(Site(f"act{number}"), Layer(f"act{number}"))
    again.extend(long.view())
    np.testing.assert_array_equal(again.view().dead_units(6), long.view().dead_units(6))
    with pytest.raises(ValueError, match="holds no site 'act6:input'"):
        again.view().dead_units(Site("act6", "input"))


@pytest.mark.parametrize("limit", [4096, 64])
def test_the_dead_units_of_a_run_come_back_from_disk(tmp_path: Path, limit: int) -> None:
    """From segments, merged or not, and from a tail, whose windows were resumed."""
    with Writer(tmp_path, limit=limit) as writer:
        _recorded(200, writer)
    with Writer.resume(tmp_path, "attempt-001", 150, limit=limit) as writer:
        writer.window(_window(151, _first(151)))
        open_one = open_run(tmp_path)
        np.testing.assert_array_equal(open_one.dead_units(6), _expected(open_one))
    run = open_run(tmp_path)
    assert run.steps[-1] == 151 and (len(run) == 152 or limit == 64)
    np.testing.assert_array_equal(run.dead_units(6), _expected(run))
    assert run.dead_units(0).shape == (len(run), 0)
    assert Outline(tmp_path / "attempt-001").read().dead_units(6).shape == (len(run), 0)


def test_a_run_in_which_no_unit_dies_is_as_large_as_before(tmp_path: Path) -> None:
    """Nothing is written for it."""
    with Writer(tmp_path) as writer:
        for step in range(5):
            writer.window(_window(step))
        (tail,) = writer.folder.glob("*.tail")
        assert b"dead" not in tail.read_bytes()
    (segment,) = writer.folder.glob("*.seg")
    assert b"dead" not in segment.read_bytes()


def test_a_monitor_keeps_the_very_units_that_make_its_dead_fraction() -> None:
    """Which and when; what cannot die, and what is seen in evaluation, has none."""
    run = dying()
    for name in ("early", "late"):
        column = run.column(Site(name))
        dead, share = run.dead_units(column), run.metric("dead_fraction")[:, column]
        known = ~np.isnan(share)
        assert known.sum() >= 20
        np.testing.assert_allclose(dead[known].mean(1), share[known])
        for unit, (first, last) in DEATHS[name].items():
            seen = run.steps[dead[:, unit]]
            assert first + 7 <= seen[0] <= first + 24 and seen[-1] < last + 8
        assert set(np.flatnonzero(dead.any(0)).tolist()) == DEATHS[name].keys()
    assert run.dead_units(Site("flat")).size == 0


def test_units_that_may_be_silent_and_cannot_die_are_not_kept() -> None:
    """A leaky ReLU passes a gradient everywhere, and a sigmoid saturates."""
    with Monitor(run=False) as monitor:
        for _ in range(32):
            for activation in ("leaky_relu", "sigmoid", "relu"):
                monitor.observe(activation, np.zeros((64, 4)), activation=activation)
            monitor.step()
    run = monitor.history
    assert [bool(run.dead_units(i).any()) for i in range(3)] == [False, False, True]
