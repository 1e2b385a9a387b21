"""The run on disk: what was recorded is there, whatever happened to the process or the disk."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shiftwatch.dead import Dead
from shiftwatch.history import Window
from shiftwatch.records import Alert, Event, Incident, Layer, Site
from shiftwatch.store import Writer, open_run
from shiftwatch.store.framing import FileBytes, decode, encode, scan
from shiftwatch.store.segment import Numbered, Segment, decode_row, encode_row, encode_segment
from shiftwatch.summaries import Histogram, Moments, Summary, Tallies
from shiftwatch.summaries.histogram import BINS

HOSTILE = "a\"</script>'\n\r\u2028\ud800\x00é" + "x" * 5000

posix = pytest.mark.skipif(os.name == "nt", reason="signals, fork and limits of POSIX")

# What a writing process needs; `window(step)` is the same in every process.
PRELUDE = """
import os, sys, time
import numpy as np
from shiftwatch.dead import Dead
from shiftwatch.history import Window
from shiftwatch.records import Layer, Site
from shiftwatch.store import Writer
from shiftwatch.summaries import Histogram, Moments, Summary, Tallies
from shiftwatch.summaries.histogram import BINS

def window(step, sites=2):
    draw = np.random.default_rng(step)
    counts = np.zeros((sites, BINS), np.int64)
    counts[:, 150:230] = draw.integers(0, 50, (sites, 80))
    whole = draw.integers(0, 1000, (7, sites))
    summary = Summary(Moments(whole[0], *draw.normal(size=(6, sites))), Tallies(*whole[1:]),
                      Histogram(counts), np.ones(sites, bool))
    dead = Dead.of(np.arange(3 * sites) % 3 < step % 3, 3 * np.arange(sites + 1), np.arange(sites))
    return Window(step, step, summary, {"kl": np.full(sites, float(step))}, np.array([step / 2]), 0.01,
                  np.array([[step], [1 / (1 + step)]]), dead)
"""
_names: dict = {}
exec(PRELUDE, _names)
window = _names["window"]


def start(code, *arguments):
    """A process that runs the prelude and the code."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)], stdout=subprocess.PIPE
    )


def recorded(path, steps, **options):
    """A finished run of one window per step."""
    with Writer(path, **options) as writer:
        for number in range(2):
            writer.site(Site(f"fc{number}"), Layer(f"fc{number}"))
        for step in steps:
            writer.window(window(step))
    return writer


def alert(step, value=1.0, layer="fc0"):
    return Alert(
        step, layer, "output", "dead", "warning", "dead_fraction", value, 0.5, f"at {step}", "",
        layer, 1, step,
    )  # fmt: skip


def alike(a: Window, b: Window) -> None:
    """Two windows are the same to the last bit."""
    assert (a.first, a.step) == (b.first, b.step)
    np.testing.assert_equal(a.overhead, b.overhead)
    assert a.losses.tobytes() == b.losses.tobytes()
    assert a.rates.tobytes() == b.rates.tobytes()
    assert a.dead.sites.tolist() == b.dead.sites.tolist()
    assert a.dead.bits.tolist() == b.dead.bits.tolist()
    assert a.summary.bounded.tolist() == b.summary.bounded.tolist()
    for group in ("moments", "tallies", "histogram"):
        left, right = getattr(a.summary, group), getattr(b.summary, group)
        for name in type(left).__dataclass_fields__:
            assert getattr(left, name).dtype == getattr(right, name).dtype
            assert getattr(left, name).tobytes() == getattr(right, name).tobytes(), name
    for key in {*a.metrics, *b.metrics}:
        unknown = np.full(a.summary.shape, np.nan)
        left, right = a.metrics.get(key, unknown), b.metrics.get(key, unknown)
        assert left.tobytes() == right.tobytes(), key


whole = st.integers(0, 2**63 - 1) | st.integers(0, 300)
real = st.floats(width=64) | st.floats(width=32)


@st.composite
def windows(draw):
    """Any window: NaN, infinities, subnormals, huge counts, any number of sites and metrics."""
    sites = draw(st.integers(0, 4))
    histogram = np.zeros((sites, BINS), np.int64)
    for row in histogram:
        for column in draw(st.lists(st.integers(0, BINS - 1), max_size=4)):
            row[column] = draw(whole)
    counts = draw(arrays.arrays(np.int64, (7, sites), elements=whole))
    reals = draw(arrays.arrays(np.float64, (6, sites), elements=real))
    keys = draw(st.lists(st.text(max_size=5), unique=True, max_size=3))
    values = draw(arrays.arrays(np.float64, (len(keys), sites), elements=real))
    starts = np.cumsum([0, 3, 20, 0, 512][: sites + 1])
    dead = draw(arrays.arrays(bool, (int(starts[-1]),)))
    return Window(
        first=draw(st.integers(0, 2**40)),
        step=draw(st.integers(0, 2**40)),
        summary=Summary(
            Moments(counts[0], *reals),
            Tallies(*counts[1:]),
            Histogram(histogram),
            draw(arrays.arrays(bool, (sites,))),
        ),
        metrics=dict(zip(keys, values, strict=True)),
        losses=draw(arrays.arrays(np.float64, st.integers(0, 5), elements=real)),
        overhead=draw(real),
        rates=draw(
            arrays.arrays(np.float64, st.tuples(st.just(2), st.integers(0, 5)), elements=real)
        ),
        dead=Dead.of(dead, starts, np.arange(sites)),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(windows(), min_size=1, max_size=5))
def test_any_window_comes_back_exactly_from_tail_and_segment(given_windows):
    rows = [Numbered(i, i, w.row) for i, w in enumerate(given_windows)]
    tail = b"".join(map(encode_row, rows))
    from_tail = [decode_row(frame) for _, _, frame in scan(tail) if frame]
    segment = Segment(decode(encode_segment(rows))[0])
    for read in (from_tail, segment.rows()):
        assert [(r.serial, r.last) for r in read] == [(r.serial, r.last) for r in rows]
        for numbered, original in zip(read, given_windows, strict=True):
            alike(numbered.row.window(), original)
    for site in range(segment.sites):
        expected = [row.row.histogram(site) for row in rows]
        np.testing.assert_array_equal(segment.histogram(site), expected)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_flipped_bit_costs_one_frame_and_no_other(data):
    frames = [encode({"n": i}, {"a": np.arange(i, dtype=np.int64)}) for i in range(4)]
    stream = bytearray(b"".join(frames))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    ends = np.cumsum([len(f) for f in frames])
    hit = int(np.searchsorted(ends, at, side="right"))
    found = [frame.header["n"] for _, _, frame in scan(bytes(stream)) if frame]
    assert found == [i for i in range(4) if i != hit]


def test_a_run_reads_back_what_was_recorded(tmp_path):
    with Writer(tmp_path / "run", {"config": {"lr": 0.1, "bad": float("nan")}}) as writer:
        assert writer.site(Site("fc0"), Layer("fc0", "Linear", parents=("<input>",))) == 0
        assert writer.site(Site(HOSTILE, "input", HOSTILE), Layer(HOSTILE)) == 1
        assert writer.site(Site("fc0"), Layer("fc0", "Linear", "relu")) == 0
        for step in range(150):  # two segments and a tail
            writer.window(window(step))
        writer.alert(alert(3, float("inf"), HOSTILE))
        for cleared in (None, 9):
            writer.incident(Incident(1, HOSTILE, 3, 3, "warning", ("dead",), ("x",), cleared))
        writer.event(Event(2, "learning_rate", HOSTILE))
    run = open_run(tmp_path / "run")
    assert run.sites == (Site("fc0"), Site(HOSTILE, "input", HOSTILE))
    assert run.layers == {"fc0": Layer("fc0", "Linear", "relu"), HOSTILE: Layer(HOSTILE)}
    assert run.alerts == [alert(3, float("inf"), HOSTILE)]
    assert run.incidents == [Incident(1, HOSTILE, 3, 3, "warning", ("dead",), ("x",), 9)]
    assert run.events == [Event(2, "learning_rate", HOSTILE)]
    assert run.meta["config"] == {"lr": 0.1, "bad": "NaN"}
    assert run.meta["finished"] is True
    assert (run.attempt, run.attempts, run.notes) == ("attempt-001", ["attempt-001"], [])
    assert run.steps.tolist() == run.first.tolist() == list(range(150))
    np.testing.assert_array_equal(run.metric("kl"), np.arange(150.0)[:, None].repeat(2, 1))
    np.testing.assert_array_equal(run.losses, np.arange(150) / 2)
    np.testing.assert_array_equal(run.learning_rates, 1 / np.arange(1, 151))
    assert run.overhead == pytest.approx(0.01)
    for step in (0, 63, 64, 149):
        summary = window(step).summary
        np.testing.assert_array_equal(run.summary(step).moments.m4, summary.moments.m4)
        np.testing.assert_array_equal(run.summary(step).histogram.counts, summary.histogram.counts)
    expected = [window(i).summary.histogram.quantile(0.5)[1] for i in range(150)]
    np.testing.assert_array_equal(run.quantiles(1, 0.5), expected)


def test_a_run_is_readable_before_it_is_closed(tmp_path):
    writer = Writer(tmp_path)
    writer.site(Site("fc0"), Layer("fc0"))
    assert len(open_run(tmp_path)) == 0
    writer.window(window(0, sites=1))
    run = open_run(tmp_path)
    assert (run.steps.tolist(), run.meta["finished"], run.notes) == ([0], False, [])
    assert "not finished" in repr(run)
    writer.close()


def test_metrics_and_sites_may_grow_while_a_run_goes_on(tmp_path):
    with Writer(tmp_path) as writer:
        for step in range(100):
            sites = 1 + step // 30
            writer.site(Site(f"fc{sites - 1}"), Layer(f"fc{sites - 1}"))
            one = window(step, sites)
            if step >= 70:
                one.metrics["late"] = np.full(sites, 1.0)
            writer.window(one)
    run = open_run(tmp_path)
    assert np.isnan(run.metric("late")[:70]).all()
    known = ~np.isnan(run.metric("kl"))
    assert known.sum(1).tolist() == [1 + step // 30 for step in range(100)]
    assert run.summary(0).shape == (4,)
    assert run.series("late", "fc0")[0].tolist() == list(range(70, 100))


def same_summary(a, b) -> None:
    """Equal to the last bit."""
    for part in ("moments", "tallies", "histogram"):
        one, other = getattr(a, part), getattr(b, part)
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    np.testing.assert_array_equal(a.bounded, b.bounded)


def test_several_summaries_are_those_of_each_window_in_any_order(tmp_path):
    """From segments and from the tail, with sites that came later, and after a resume."""
    with Writer(tmp_path / "run") as writer:
        for step in range(150):
            sites = 1 + step // 30
            writer.site(Site(f"fc{sites - 1}"), Layer(f"fc{sites - 1}"))
            writer.window(window(step, sites))
    with Writer.resume(tmp_path / "run", "attempt-001", 99) as writer:
        for step in range(100, 130):
            writer.window(window(step, 4))
        run = open_run(tmp_path / "run")
    assert len(run.chunks) > 2 and len(run) == 130
    asked = [0, 3, 3, 99, 100, 129, 64, 63]
    for number, found in zip(asked, run.summaries(asked), strict=True):
        same_summary(found, run.summary(number))
    assert list(run.summaries([])) == []
    with pytest.raises(IndexError, match=r"Windows must lie in 0 … 129; got \[130\]"):
        run.summaries([130])


def test_a_second_run_in_a_folder_is_its_next_attempt(tmp_path):
    recorded(tmp_path, range(3))
    recorded(tmp_path, range(5))
    assert (open_run(tmp_path).attempt, len(open_run(tmp_path))) == ("attempt-002", 5)
    for attempt in ("attempt-001", 1, "1"):
        assert len(open_run(tmp_path, attempt=attempt)) == 3
    assert open_run(tmp_path).attempts == ["attempt-001", "attempt-002"]
    with pytest.raises(FileNotFoundError, match=r"no attempt-003\..*attempt-001, attempt-002"):
        open_run(tmp_path, attempt=3)


def test_an_attempt_is_never_overwritten(tmp_path):
    recorded(tmp_path, range(3))
    with pytest.raises(FileExistsError, match="never overwritten"):
        Writer(tmp_path, attempt="attempt-001")
    assert len(open_run(tmp_path)) == 3
    recorded(tmp_path, range(1))  # the refused one holds no lock


def test_ranks_share_an_attempt_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="Let rank 0 open its writer first"):
        Writer(tmp_path, rank=1)
    with Writer(tmp_path) as zero, Writer(tmp_path, rank=1) as one:
        assert zero.attempt == one.attempt
        zero.window(window(0))
        one.window(window(1))
    assert open_run(tmp_path).steps.tolist() == [0]
    assert open_run(tmp_path, rank=1).steps.tolist() == [1]
    with pytest.raises(FileNotFoundError, match="rank-2"):
        open_run(tmp_path, rank=2)


def test_a_long_run_stays_bounded_and_loses_no_step(tmp_path):
    with Writer(tmp_path, limit=64) as writer:
        for step in range(600):
            writer.window(window(step))
    run = open_run(tmp_path)
    assert len(run) <= 64 + 4
    assert run.first.tolist() == [0, *(run.steps[:-1] + 1)]
    assert run.steps[-1] == 599
    assert run.steps[-24:].tolist() == list(range(576, 600))
    spans = run.steps - run.first + 1
    weighted = (run.metric("kl")[:, 0] * spans).sum() / spans.sum()
    assert weighted == pytest.approx(599 / 2)
    total = sum(int(window(s).summary.histogram.total[0]) for s in range(600))
    assert int(run.between(0, 599).histogram.total[0]) == total


def test_a_run_stays_within_its_size(tmp_path):
    with Writer(tmp_path, size=100_000) as writer:
        for step in range(600):
            writer.window(window(step, sites=5))
    stored = sum(p.stat().st_size for p in tmp_path.rglob("*.*") if p.suffix in (".seg", ".tail"))
    assert stored <= 130_000
    run = open_run(tmp_path)
    assert (run.first[0], run.steps[-1]) == (0, 599)
    assert run.first[1:].tolist() == (run.steps[:-1] + 1).tolist()


def test_what_is_no_run_says_what_a_run_is(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match=r"is no shiftwatch run: no attempt-\* inside; a run"):
            open_run(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_run(tmp_path / "nowhere")


def test_an_empty_attempt_is_named(tmp_path):
    (tmp_path / "attempt-001").mkdir()
    with pytest.raises(FileNotFoundError, match=r"attempt-001 is empty: it holds no meta\.json"):
        open_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing can be resumed"):
        Writer.resume(tmp_path, "attempt-001", 3)


def test_a_newer_format_asks_for_an_update_and_newer_fields_are_ignored(tmp_path):
    writer = recorded(tmp_path, range(2))
    with open(writer.folder / "log.jsonl", "a") as log:
        log.write('{"verdict": 1}\n{"event": {"step": 1, "kind": "k", "detail": "d", "new": 2}}\n')
    assert open_run(tmp_path).events == [Event(1, "k", "d")]
    file = writer.folder / "meta.json"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "format": meta["format"] + 1, "shiftwatch": "9.9"}))
    for call in (lambda: open_run(tmp_path), lambda: Writer.resume(tmp_path, "attempt-001", 1)):
        with pytest.raises(ValueError, match=r"written by shiftwatch 9\.9.*pip install -U"):
            call()


def test_a_folder_that_cannot_be_written_is_refused_at_once_with_the_cure(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OSError, match=r"cannot be written \(.*Choose another folder"):
            Writer(path)


def test_a_truncated_tail_gives_its_whole_windows(tmp_path):
    writer = Writer(tmp_path)
    for step in range(5):
        writer.window(window(step))
    (tail,) = writer.folder.glob("*.tail")
    os.truncate(tail, tail.stat().st_size - 7)
    run = open_run(tmp_path)
    assert run.steps.tolist() == [0, 1, 2, 3]
    (note,) = run.notes
    assert "ends in the middle of a window" in note
    assert run.meta["damage"] == [note]
    assert note in repr(run)
    writer.close()


def test_a_flipped_byte_in_the_tail_costs_one_window(tmp_path):
    writer = Writer(tmp_path)
    for step in range(5):
        writer.window(window(step))
    (tail,) = writer.folder.glob("*.tail")
    data = bytearray(tail.read_bytes())
    data[len(data) // 2] ^= 0xFF
    tail.write_bytes(data)
    run = open_run(tmp_path)
    assert run.steps.tolist() == [0, 1, 3, 4]
    assert "is damaged: bytes" in run.notes[0]
    writer.close()


def test_a_run_from_before_rates_and_dead_units_were_kept_opens_without_them(tmp_path):
    """Every frame of the run is written again as it was then, and the run goes on."""
    writer = recorded(tmp_path, range(150))
    for file in (*writer.folder.glob("*.seg"), *writer.folder.glob("*.tail")):
        file.write_bytes(b"".join(older(f) for _, _, f in scan(file.read_bytes())))
    run = open_run(tmp_path)
    assert run.notes == [] and run.meta["format"] == 1
    np.testing.assert_array_equal(run.losses, np.arange(150) / 2)
    assert np.isnan(run.learning_rates).all() and run.learning_rates.shape == (150,)
    assert run.schedule[0].size == 0
    assert run.dead_units(0).shape == (150, 0)
    with Writer.resume(tmp_path, "attempt-001", 149, limit=32) as resumed:  # merges old with new
        for step in range(150, 170):
            resumed.window(window(step))
    run = open_run(tmp_path)
    assert run.schedule[0].tolist() == list(range(150, 170))
    np.testing.assert_array_equal(run.schedule[1], 1 / np.arange(151, 171))
    assert run.dead_units(0)[:, 0].tolist() == [s >= 150 and s % 3 > 0 for s in run.steps]


def older(frame):
    """A frame as it was before learning rates, dead units and sums of histograms were kept."""
    later = ("rates", "rate_sizes", "dead_sites", "dead_bits", "sums")
    kept = {n: frame[n] for n in frame.arrays if n not in later}
    packed = {n: kept.pop(n) for n, (_, _, pack, *_) in frame.arrays.items() if pack and n in kept}
    header = {key: value for key, value in frame.header.items() if key != "arrays"}
    return encode(header, kept, packed)


def test_a_damaged_segment_loses_only_what_is_damaged(tmp_path):
    writer = recorded(tmp_path, range(64))
    (file,) = writer.folder.glob("*.seg")
    data = bytearray(file.read_bytes())
    frame, _ = decode(bytes(data))
    data[frame.arrays["metric 0"][3]] ^= 0xFF
    data[frame.arrays["histograms"][3]] ^= 0xFF
    data[frame.arrays["rates"][3]] ^= 0xFF
    data[frame.arrays["dead_bits"][3]] ^= 0xFF
    file.write_bytes(data)
    run = open_run(tmp_path)
    lost = "left out at steps 0 to 63: dead units, histograms, learning rates, metric 'kl'"
    assert lost in run.notes[0] and run.dead_units(0).shape == (64, 0)
    assert np.isnan(run.learning_rates).all()
    assert not np.isnan(run.losses).any()
    assert np.isnan(run.metric("kl")).all()
    assert run.summary(3).histogram.counts[0].sum() == 0  # the first site's
    expected = window(3).summary
    np.testing.assert_array_equal(run.summary(3).histogram.counts[1], expected.histogram.counts[1])
    np.testing.assert_array_equal(run.summary(3).moments.mean, expected.moments.mean)
    same_summary(*run.summaries([3]), run.summary(3))


def test_a_segment_keeps_sums_of_its_histograms_too(tmp_path):
    writer = recorded(tmp_path, range(64))
    (file,) = writer.folder.glob("*.seg")
    frame, _ = decode(file.read_bytes())
    single, sums = Segment(frame).cells(), Segment(frame).sums()
    assert (single.counts.shape[1], sums.counts.shape[1], Segment(frame).grain) == (64, 8, 8)
    assert (sums.low == single.low).all() and (sums.starts == single.starts).all()
    np.testing.assert_array_equal(sums.counts, single.counts.reshape(-1, 8, 8).sum(2))
    assert Segment(decode(older(frame))[0]).grain == 1


def test_damaged_sums_cost_nothing(tmp_path):
    writer = recorded(tmp_path, range(64))
    (file,) = writer.folder.glob("*.seg")
    data = bytearray(file.read_bytes())
    data[decode(bytes(data))[0].arrays["sums"][3]] ^= 0xFF
    before = [open_run(tmp_path).summary(step).histogram.counts for step in (0, 63)]
    file.write_bytes(data)
    run = open_run(tmp_path)
    assert [chunk.grain for chunk in run.chunks] == [1]
    assert "left out at steps 0 to 63: sums of histograms" in run.notes[0]
    for step, counts in zip((0, 63), before, strict=True):
        np.testing.assert_array_equal(run.summary(step).histogram.counts, counts)


def test_no_flipped_byte_makes_a_run_unreadable(tmp_path):
    writer = Writer(tmp_path)
    for number in range(2):
        writer.site(Site(f"fc{number}"), Layer(f"fc{number}"))
    for step in range(70):
        writer.window(window(step))
    writer.alert(alert(3))
    writer.event(Event(3, "k", "d"))
    writer.incident(Incident(1, "fc0", 3, 3, "warning", ("dead",)))
    writer._thread.join()
    draw = random.Random(0)
    files = [p for p in writer.folder.iterdir() if p.is_file()]
    assert {p.suffix for p in files} == {".json", ".jsonl", ".seg", ".tail"}
    for file in files:
        data = file.read_bytes()
        for _ in range(20):
            broken = bytearray(data)
            broken[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            file.write_bytes(broken)
            try:
                run = open_run(tmp_path)
            except ValueError as error:
                assert file.name == "meta.json" and "has format" in str(error)
                continue
            repr(run)
            run.between(0, 99)
            [run.metric(key) for key in run.metrics]
            for site in range(len(run.sites)):
                run.quantiles(site, 0.5)
            assert set(run.steps.tolist()) <= set(range(70))
            assert len(run) >= 6
        file.write_bytes(data)
    assert open_run(tmp_path).notes == []
    writer.close()


def test_a_lost_site_keeps_the_columns_of_the_others(tmp_path):
    writer = recorded(tmp_path, range(3))
    file = writer.folder / "sites.jsonl"
    file.write_text("{}\n" + file.read_text().split("\n", 1)[1])
    run = open_run(tmp_path)
    assert run.sites == (Site("<lost 0>"), Site("fc1"))
    assert run.notes == ["sites.jsonl: line 1 is damaged and left out"]


def test_a_resumed_attempt_supersedes_what_came_after_the_checkpoint(tmp_path):
    with Writer(tmp_path, {"lr": 1}) as writer:
        writer.site(Site("fc0"), Layer("fc0"))
        for step in range(150):
            writer.window(window(step, 1))
        for step in (90, 120):
            writer.alert(alert(step))
            writer.event(Event(step, "k", "d"))
        writer.incident(Incident(1, "fc0", 90, 90, "warning", ("dead",), (), 130))
        writer.incident(Incident(2, "fc0", 120, 120, "warning", ("dead",)))
    with Writer.resume(tmp_path, "attempt-001", 100, {"seed": 2}) as writer:
        assert open_run(tmp_path).steps.tolist() == list(range(101))
        assert writer.sites == (Site("fc0"),)
        assert writer.site(Site("fc1"), Layer("fc1")) == 1
        for step in range(101, 110):
            writer.window(window(step + 1000))
        writer.alert(alert(105))
    run = open_run(tmp_path)
    assert run.steps.tolist() == [*range(101), *range(1101, 1110)]
    assert run.schedule[0].tolist() == run.steps.tolist()
    np.testing.assert_array_equal(run.schedule[1], 1 / (1 + run.steps))
    assert [a.detected for a in run.alerts] == [90, 105]
    assert [e.step for e in run.events] == [90]
    assert run.incidents == [Incident(1, "fc0", 90, 90, "warning", ("dead",))]
    assert (run.meta["lr"], run.meta["seed"], run.meta["finished"]) == (1, 2, True)
    assert [r["step"] for r in run.meta["resumed"]] == [100]
    assert run.notes == []


def test_a_run_may_be_resumed_again_and_again_while_old_windows_merge(tmp_path):
    recorded(tmp_path, range(100), limit=32)
    for start_at in (80, 60, 70, 40):
        with Writer.resume(tmp_path, "attempt-001", start_at, limit=32) as writer:
            for step in range(start_at + 1, start_at + 60):
                writer.window(window(step))
        run = open_run(tmp_path)
        assert run.steps[-1] == start_at + 59
        assert (np.diff(run.steps) > 0).all()
        assert (run.first[1:] > run.steps[:-1]).all()
        assert len(run) <= 32 + 2
        assert run.notes == []


def test_what_a_killed_packer_left_behind_is_read_once_and_cleared(tmp_path):
    writer = recorded(tmp_path, range(40), limit=64)
    segments = {p: p.read_bytes() for p in sorted(writer.folder.glob("*.seg"))}
    assert len(segments) == 10
    tail = encode_row(Numbered(39, 39, window(39).row))
    (writer.folder / "000009.tail").write_bytes(tail)  # packed, and not yet removed
    (writer.folder / ".000003.seg.tmp").write_bytes(b"half")
    files = list(segments)
    rows = [r for f in files[:2] for r in Segment(decode(segments[f])[0]).rows()]
    merged = [Numbered(a.serial, b.last, a.row) for a, b in zip(rows[::2], rows[1::2], strict=True)]
    files[0].write_bytes(encode_segment(merged))  # merged, and the second not yet removed
    assert len(open_run(tmp_path)) == 36
    Writer.resume(tmp_path, "attempt-001", 39).close()
    assert len(open_run(tmp_path)) == 36
    assert not files[1].exists()
    assert not list(writer.folder.glob("*.tail"))
    assert not list(writer.folder.glob(".*"))


RECORD = """
writer = (Writer.resume(sys.argv[1], "attempt-001", int(sys.argv[3]), limit=int(sys.argv[2]))
          if int(sys.argv[3]) >= 0 else Writer(sys.argv[1], limit=int(sys.argv[2])))
for number in range(2):
    writer.site(Site(f"fc{number}"), Layer(f"fc{number}"))
step = int(sys.argv[3])
while True:
    step += 1
    writer.window(window(step))
    os.write(1, step.to_bytes(8, "little"))
"""


@posix
@pytest.mark.parametrize("limit", [10**6, 64], ids=["all fine", "merging"])
def test_a_kill_at_any_moment_loses_no_window_that_was_taken(tmp_path, limit):
    draw = random.Random(limit)
    last = -1
    for _ in range(5):
        writer = start(RECORD, tmp_path, limit, last)
        writer.stdout.read(8)  # it is writing
        time.sleep(draw.random() * 0.3)
        writer.kill()
        rest = writer.stdout.read()
        writer.wait()
        writer.stdout.close()
        if rest:
            last = int.from_bytes(rest[len(rest) // 8 * 8 - 8 : len(rest) // 8 * 8], "little")
        else:
            last += 1
        run = open_run(tmp_path)
        assert run.first.tolist() == [0, *(run.steps[:-1] + 1)]
        assert run.steps[-1] in (last, last + 1)
        assert len(run.sites) == 2
        spans = run.steps - run.first + 1
        mean = (run.first + run.steps) / 2
        np.testing.assert_allclose(run.metric("kl")[:, 0], mean, rtol=1e-9)
        if limit == 64:
            assert len(run) <= 64 + 10 * 4  # the packer may be some tails behind
        else:
            assert (spans == 1).all()
            number = draw.randrange(len(run))
            np.testing.assert_array_equal(
                run.summary(number).moments.mean, window(number).summary.moments.mean
            )
        last = int(run.steps[-1])


@posix
def test_reading_while_another_process_writes_never_fails(tmp_path):
    writer = start(RECORD, tmp_path, 64, -1)
    try:
        writer.stdout.read(8)
        os.set_blocking(writer.stdout.fileno(), False)
        seen, begun = -1, time.monotonic()
        while time.monotonic() < begun + (3 if seen > 200 else 60):
            while writer.stdout.read(1 << 16):
                pass
            run = open_run(tmp_path)
            assert run.first.tolist() == [0, *(run.steps[:-1] + 1)]
            assert run.steps[-1] >= seen
            assert len(run.metric("kl")) == len(run)
            run.summary(len(run) // 2)
            seen = int(run.steps[-1])
        assert writer.poll() is None
        assert seen > 200
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


HOLD = """
writer = Writer(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path):
    first = start(HOLD, tmp_path)
    try:
        assert first.stdout.readline().strip() == b"open"
        with pytest.raises(BlockingIOError, match=f"written by process {first.pid};.*one writer"):
            Writer(tmp_path)
        with pytest.raises(BlockingIOError, match=f"process {first.pid}"):
            Writer.resume(tmp_path, "attempt-001", 0)
        assert len(open_run(tmp_path)) == 0  # reading needs no lock
    finally:
        first.kill()
        first.wait()
        first.stdout.close()
    with Writer(tmp_path) as writer:  # a killed process leaves no lock behind
        assert writer.attempt == "attempt-002"
        with pytest.raises(BlockingIOError, match="this very process"):
            Writer(tmp_path)


FORK = """
writer = Writer(sys.argv[1])
writer.window(window(0))
pid = os.fork()
if pid == 0:
    writer.window(window(1))  # a worker must not write into its parent's run
    writer.close()
    sys.stdin.read()          # and outlives the writer
    os._exit(0)
writer.window(window(2))
writer.close()
with Writer(sys.argv[1]) as writer:
    print(writer.attempt, flush=True)
os.kill(pid, 9)
os.waitpid(pid, 0)
"""


@posix
def test_a_forked_worker_neither_writes_nor_holds_the_lock(tmp_path):
    out = subprocess.run(
        [sys.executable, "-c", PRELUDE + FORK, str(tmp_path)],
        stdin=subprocess.PIPE, capture_output=False, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert out.stdout.strip() == b"attempt-002"
    assert open_run(tmp_path, attempt=1).steps.tolist() == [0, 2]


# A limit on the size of files makes real write errors (EFBIG), after a part of the bytes.
FULL = """
import resource, signal, logging
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout, level="INFO")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Writer(sys.argv[1])
writer.site(Site("fc0"), Layer("fc0"))
for step in range(10):
    writer.window(window(step, 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
for step in range(10, 10 + int(sys.argv[2])):
    writer.window(window(step, 1))
print("waiting", len(writer._waiting), flush=True)
if sys.argv[3] == "well":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    writer.window(window(10 + int(sys.argv[2]), 1))
writer.close()
"""


def full(tmp_path, windows, end):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + FULL, str(tmp_path), str(windows), end],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@posix
def test_a_full_disk_is_logged_once_and_what_waited_is_written_when_it_is_well(tmp_path):
    out = full(tmp_path, 100, "well")
    assert out.count("WARNING") == 1
    assert "its latest windows cannot be written (File too large)" in out
    assert out.count("windows can be written again") == 1
    run = open_run(tmp_path)
    assert run.steps.tolist() == list(range(111))
    assert run.notes == []


@posix
def test_a_disk_that_stays_full_costs_bounded_memory_and_says_what_is_lost(tmp_path):
    out = full(tmp_path, 1000, "full")
    assert "waiting 256" in out
    assert re.search(
        r"ERROR .* could not be written to the end: \d+ windows and 0 lines are lost", out
    )
    run = open_run(tmp_path)
    assert run.first.tolist() == [0, *(run.steps[:-1] + 1)]
    assert run.steps[-1] < 1010


@posix
def test_windows_that_waited_too_long_are_merged_not_dropped(tmp_path):
    full(tmp_path, 1000, "well")
    run = open_run(tmp_path)
    assert run.first.tolist() == [0, *(run.steps[:-1] + 1)]
    assert run.steps[-1] == 1010


# A file system of 1 MB in a namespace of its own: it is gone with the process, whatever happens.
SMALL = """
import logging, subprocess
from pathlib import Path
from shiftwatch.store import open_run
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "shiftwatch-test", str(disk)], check=True)
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
(disk / "ballast").write_bytes(bytes(900_000))
writer = Writer(disk / "run")
writer.site(Site("fc0"), Layer("fc0"))
for step in range(300):
    writer.window(window(step))
(disk / "ballast").unlink()
writer.close()
run = open_run(disk / "run")
assert run.first.tolist() == [0, *(run.steps[:-1] + 1)]
assert run.steps[-1] == 299
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system")
def test_a_small_file_system_that_fills_up_ends_no_training(tmp_path):
    alone = ["unshare", "--mount", "--user", "--map-root-user"]
    try:
        trial = [*alone, "mount", "-t", "tmpfs", "shiftwatch-test", str(tmp_path)]
        allowed = subprocess.run(trial, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("needs the right to mount in a namespace of its own")
    done = subprocess.run(
        [*alone, sys.executable, "-c", PRELUDE + SMALL, str(tmp_path)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert 1 <= len(lines) <= 2  # the tail, and perhaps the packing: each once
    assert len(set(lines)) == len(lines)
    assert all("No space left" in line for line in lines)


def test_a_folder_removed_while_recording_ends_no_training(tmp_path, caplog):
    import shutil

    writer = Writer(tmp_path / "run")
    for step in range(10):
        writer.window(window(step))
    shutil.rmtree(tmp_path / "run")
    with caplog.at_level(logging.WARNING, logger="shiftwatch"):
        for step in range(10, 200):
            writer.window(window(step))
        writer.update({"verdict": "fine"})
        writer.close()
    assert 1 <= len([r for r in caplog.records if r.levelno == logging.WARNING]) <= 3


def test_a_closed_writer_may_be_closed_again_and_takes_no_more(tmp_path):
    writer = Writer(tmp_path)
    writer.close({"verdict": "fine"})
    writer.close()
    assert open_run(tmp_path).meta["verdict"] == "fine"
    with pytest.raises(ValueError, match="is closed"):
        writer.window(window(0))


def test_a_run_that_ended_in_an_exception_is_not_finished(tmp_path):
    with pytest.raises(ZeroDivisionError), Writer(tmp_path) as writer:
        writer.window(window(0))
        raise ZeroDivisionError
    run = open_run(tmp_path)
    assert (run.meta["finished"], len(run)) == (False, 1)


def test_a_writer_that_was_dropped_lets_go_of_its_folder(tmp_path):
    def drop():
        Writer(tmp_path).window(window(0))

    drop()
    import gc

    gc.collect()
    recorded(tmp_path, range(1))
    assert open_run(tmp_path, attempt=1).steps.tolist() == [0]


def test_an_interrupt_in_the_middle_of_a_write_leaves_no_half_window(tmp_path, monkeypatch):
    writer = Writer(tmp_path)
    writer.window(window(0))
    real_write = os.write

    def interrupted(file, data):
        real_write(file, data[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.window(window(1))
    monkeypatch.undo()
    writer.window(window(2))
    run = open_run(tmp_path)
    assert (run.steps.tolist(), run.notes) == ([0, 1, 2], [])
    writer.close()


def test_a_reader_of_an_unchanged_run_reads_no_segment_twice(tmp_path):
    recorded(tmp_path, range(130))
    first, second = open_run(tmp_path), open_run(tmp_path)
    assert first.chunks[0].segment is second.chunks[0].segment
    assert Path(first.path) == tmp_path


@pytest.mark.skipif(
    not hasattr(os, "pread"), reason="such a file cannot be removed while it is open"
)
def test_a_large_run_opens_without_being_loaded_and_survives_its_removal(tmp_path, monkeypatch):
    """The bytes of segments stay on disk until they are asked for, and are read from what was opened."""
    recorded(tmp_path, range(130)).close()
    monkeypatch.setattr("shiftwatch.store.reader._LARGE", 0)
    run = open_run(tmp_path)
    assert isinstance(run.chunks[0].segment.frame.data, FileBytes)
    for file in tmp_path.rglob("*.seg"):
        (tmp_path / "other").write_bytes(b"something else")
        os.replace(tmp_path / "other", file)  # as the writer does where it merges
        file.unlink()
    np.testing.assert_array_equal(
        run.summary(3).histogram.counts, window(3).summary.histogram.counts
    )
