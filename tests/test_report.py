"""The report as a reader meets it: one file, opened in a real browser."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import operator
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftwatch import report
from shiftwatch.dead import Dead
from shiftwatch.history import History, Run, Window
from shiftwatch.records import Alert, Event, Incident, Layer, Site
from shiftwatch.report import glossary
from shiftwatch.report.packing import (
    LEVELS_8,
    MISSING_16,
    Scaled,
    scaled_8,
    scaled_16,
    shuffled,
)
from shiftwatch.report.payload import Packed, _extremes, _losses, _pooled, payload
from shiftwatch.report.timeline import (
    LEVELS,
    columns,
    cut,
    distributions,
    farthest,
    seams,
    smooth_quantiles,
)
from shiftwatch.store import Writer, open_run
from shiftwatch.summaries import Summary, summarize
from tests.browser import opened as opened
from tests.simulated import HOSTILE, empty_run, simulated


@functools.cache
def _usual() -> Run:
    return simulated()


@functools.cache
def _usual_page() -> str:
    return report.render(_usual())


# -- the file ------------------------------------------------------------------------------


def test_a_healthy_run_is_called_healthy_in_words() -> None:
    page = report.render(simulated(fault=False))
    assert "Healthy: no alert in 1,000 steps over 12 layers." in page
    assert 'class="verdict healthy"' in page


def test_the_headline_says_where_it_began_and_since_when() -> None:
    page = _usual_page()
    headline = re.search(r'<h1 class="verdict critical">(.*?)</h1>', page)
    assert headline is not None
    assert headline[1].startswith("2 incidents. It began in block1.norm at step 600")
    assert "layers followed" in headline[1]


def test_alerts_outside_an_incident_show_the_worst_and_how_many_are_left_out() -> None:
    history = _one_layer(windows=4)
    for number in range(10):
        severity = "critical" if number == 9 else "warning"
        history.add_alert(replace(_alert(severity), message=f"message {number}"))
    page = report.render(history.view())
    assert '<article class="card critical"><header><h2>Alerts outside an incident</h2>' in page
    assert "message 7</p>" in page and "message 8</p>" not in page
    assert "2 more alerts</li>" in page


def test_cards_carry_message_advice_followers_and_the_limit() -> None:
    run, page = _usual(), _usual_page()
    for alert in (a for a in run.alerts if a.severity != "info"):
        assert alert.message in page
        assert alert.advice in page
    assert "Followed by" in page
    assert 'class="limit"' in page and "limit −1" in page


def test_a_card_shows_no_series_that_does_not_cross_its_limit() -> None:
    """An alert about a part of the values is not illustrated by the whole."""
    history = _one_layer(windows=8)  # its mean shift rises from 0 to 0.7
    for number, limit in enumerate((0.2, -3.0), 1):
        history.add_alert(
            replace(_alert(), metric="mean_shift", value=2 * limit, limit=limit, incident=number)
        )
        history.add_incident(Incident(number, "fc", 1, 2, "warning", ("dead",)))
    page = report.render(history.view())
    assert page.count("limit 0.2<") == 1 and "limit −3<" not in page


def test_infos_are_notes_and_no_alarm() -> None:
    page = _usual_page()
    cards, _, rest = page.partition('<section id="charts"')
    assert "Nothing to do yet" not in cards
    assert "vanishing values" in rest


def test_an_incident_of_infos_only_leaves_the_run_healthy() -> None:
    history = _one_layer(windows=3)
    history.add_alert(_alert(severity="info"))
    history.add_incident(Incident(1, "fc", 0, 1, "info", ("dead",)))
    assert 'class="verdict healthy"' in report.render(history.view())


def test_events_and_dark_sites_are_listed() -> None:
    page = _usual_page()
    assert "0.1 → 0.01" in page
    assert '<section id="dark">' in page and "the hook never fired" in page


def test_dark_sites_of_the_meta_data_are_told_once() -> None:
    history = _one_layer(windows=2)
    history.meta["dark"] = {"head": "never called"}
    history.add_event(Event(0, "dark", "head: never called"))
    assert report.render(history.view()).count("head: never called") == 1 + 1  # table and data


def test_configuration_and_versions_are_shown() -> None:
    page = _usual_page()
    assert "versions.numpy" in page and "options.reference" in page


def test_a_long_setting_is_folded_and_complete() -> None:
    """A wall of text between the charts and how to read them helps nobody."""
    rules = "Rule(memory=64), " * 20
    run = empty_run()
    run.meta["options"] = {"rules": rules, "every": 1}
    page = report.render(run)
    assert f" …</summary>{rules}</details>" in page
    assert "<td>1</td>" in page


def test_the_page_names_nothing_outside_itself() -> None:
    page = _usual_page()
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?!#)(?:https?:|//|\w+\.\w+)", page)
    assert "http://" not in page and "https://" not in page


def test_the_policy_allows_this_script_and_nothing_else() -> None:
    page = report.render(simulated(windows=5))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1] and "http" not in policy[1]


def test_hostile_names_cannot_become_markup() -> None:
    page = report.render(simulated(names=HOSTILE, windows=40))
    assert "<img" not in page
    assert page.count("</script>") == page.count("<script") == 5  # data, three blobs, module
    assert "<svg onload" not in page and "&lt;svg onload=alert(1)&gt;" in page


def test_a_name_that_looks_like_a_slot_stays_a_name() -> None:
    page = report.render(simulated(names=HOSTILE, windows=40))
    assert page.count('id="data"') == 1
    assert "a&quot;b&#x27;c&amp;d&lt;!--data--&gt;" in page


def test_the_same_run_gives_the_same_page() -> None:
    run = simulated(windows=20)
    assert report.render(run) == report.render(run)


def test_write_replaces_a_page_in_one_step_and_leaves_nothing_else(tmp_path: Path) -> None:
    run = simulated(windows=10)
    target = tmp_path / "page.html"
    target.write_text("old")
    assert report.write(run, target) == target
    assert target.read_text(encoding="utf-8") == report.render(run)
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_missing_folder_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Create .*nowhere first"):
        report.write(simulated(windows=2), tmp_path / "nowhere" / "page.html")


def test_a_lone_surrogate_in_a_name_does_not_stop_the_page(tmp_path: Path) -> None:
    history = _one_layer(windows=2, name="bad\ud800name")
    assert report.write(history.view(), tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_large_run_stays_a_small_file() -> None:
    page = report.render(simulated(layers=160, windows=2000, distinct=40, tensors=("output",)))
    assert len(page) < 8e6


# -- numbers --------------------------------------------------------------------------------


def _read(row: Scaled, levels: int) -> np.ndarray:
    return row.unit * np.sinh(row.low + (row.high - row.low) * row.codes / levels)


def test_a_packed_row_reads_back_within_one_level() -> None:
    values = np.random.default_rng(0).normal(0, 3, 500)
    row = scaled_8(values, 1.0)
    bent = np.arcsinh(values)
    level = (row.high - row.low) / LEVELS_8
    assert np.abs(np.arcsinh(_read(row, LEVELS_8)) - bent).max() <= level * 0.5001


def test_zero_is_exact_in_packed_rows() -> None:
    for values in (np.array([0.0, 1.0, 7.0]), np.array([-3.0, 0.0, 2.0])):
        row = scaled_8(values, 0.5)
        assert abs(_read(row, LEVELS_8)[np.flatnonzero(values == 0)[0]]) < 1e-12


def test_one_explosion_costs_the_quiet_time_little() -> None:
    values = np.concatenate([np.linspace(0.01, 0.05, 99), [1e9]])
    back = _read(scaled_8(values, 0.03), LEVELS_8)
    assert np.abs(back[:99] - values[:99]).max() < 0.01


def test_rows_packed_together_are_as_rows_packed_alone() -> None:
    values = np.random.default_rng(4).normal(size=(5, 60))
    values[1], values[2, 3:], values[3, 7] = np.abs(values[1]), np.nan, np.inf
    together = scaled_8(values, 1.0)
    for i, row in enumerate(values):
        alone = scaled_8(row, 1.0)
        np.testing.assert_array_equal(together.codes[i], alone.codes)
        assert (together.low[i], together.high[i]) == (alone.low, alone.high)


def test_packed_tracks_are_fine_and_mark_what_is_missing() -> None:
    values = np.array([[0.0, 1.0, np.nan, np.inf, -4.0]])
    row = scaled_16(values, 1.0)
    assert row.codes[0, 2:4].tolist() == [MISSING_16, MISSING_16]
    back = _read(row, 4095)[0]
    np.testing.assert_allclose(back[[0, 1, 4]], values[0, [0, 1, 4]], atol=5e-3)


def test_shuffled_bytes_add_up_to_the_codes_again() -> None:
    codes = np.random.default_rng(1).integers(0, 65536, (7, 50)).astype(np.uint16)
    low, high = np.split(shuffled(codes).astype(np.uint32), 2)
    deltas = (low + (high << 8)).reshape(7, 50)
    assert (np.cumsum(deltas, axis=1) % 65536 == codes).all()


def test_columns_cover_every_window_once() -> None:
    first = np.arange(0, 20_000, 10)
    at = columns(first, first + 9, 600)
    assert at.size <= 600
    assert at.starts[0] == 0 and at.starts[-1] == 2000 and (np.diff(at.starts) > 0).all()
    assert at.first[0] == 0 and at.last[-1] == 19_999
    assert (at.first[1:] == at.last[:-1] + 1).all()


def test_columns_begin_at_seams_where_that_leaves_enough_of_them() -> None:
    first = np.arange(0, 20_000, 10)
    close, far = np.arange(0, 2000, 8), np.arange(0, 2000, 64)
    sewn = columns(first, first + 9, 100, close)
    assert sewn.size == 100 and np.isin(sewn.starts[:-1], close).all()
    assert (sewn.first[1:] == sewn.last[:-1] + 1).all() and sewn.last[-1] == 19_999
    assert columns(first, first + 9, 100, far).starts.tolist() == list(range(0, 2001, 20))


def test_a_spike_of_one_window_survives_thinning() -> None:
    values = np.random.default_rng(2).normal(0, 0.1, (2000, 3))
    values[777, 1] = -9.0
    at = columns(np.arange(2000), np.arange(2000), 100)
    assert farthest(values, at)[:, 1].min() == pytest.approx(-9.0, abs=0.01)


def test_quantiles_follow_numpy_within_the_width_of_a_bin() -> None:
    values = np.random.default_rng(3).normal(1, 2, 20_000)
    expected = np.quantile(values, LEVELS)
    np.testing.assert_allclose(smooth_quantiles(summarize(values)), expected, rtol=0.05, atol=0.03)


def test_the_packed_map_holds_the_run_s_metric() -> None:
    run = simulated(windows=50)
    page = report.render(run)
    data = json.loads(_element(page, "data"))["run"]
    maps = np.frombuffer(gzip.decompress(base64.b64decode(_element(page, "blob-maps"))), np.uint8)
    packed = data["maps"]["mean_shift"]
    truth = run.metric("mean_shift")
    for site, offset, low, high in packed["rows"]:
        codes = maps[offset : offset + 50]
        value = packed["unit"] * np.sinh(low + (high - low) * codes / LEVELS_8)
        known = codes <= LEVELS_8
        assert (known == ~np.isnan(truth[:, site])).all()
        largest = max(np.abs(truth[known, site]).max(), packed["unit"])
        assert np.abs(value[known] - truth[known, site]).max() < 0.03 * largest


def test_the_table_is_exact() -> None:
    run = simulated(windows=50)
    data = json.loads(_element(report.render(run), "data"))["run"]
    truth = run.metric("mean_shift")
    for site, entry in enumerate(data["table"]["mean_shift"]):
        if entry is None:
            assert np.isnan(truth[:, site]).all()
            continue
        series = truth[~np.isnan(truth[:, site]), site]
        assert entry[0] == pytest.approx(series[-1], rel=1e-4)
        assert entry[1] == pytest.approx(series[np.abs(series).argmax()], rel=1e-4)


def test_a_gradient_that_is_gone_is_zero_and_not_missing() -> None:
    values = np.where(np.arange(1500) < 750, 1e-3, 0.0)[:, None]
    steps = np.arange(1500)
    pooled = _pooled(values, columns(steps, steps, 100), log=True)[:, 0]
    assert pooled[:50] == pytest.approx(1e-3)
    assert (pooled[50:] == 0).all()


@pytest.mark.parametrize("key", ["mean_shift", "std"])
def test_the_worst_of_a_run_is_the_farthest_on_the_metric_s_own_scale(key: str) -> None:
    """From zero, or from the median in orders of magnitude; of equals the first."""
    values = np.exp(np.random.default_rng(5).normal(size=(101, 40)))
    values[7, 0] = values[9, 0] = 0.0  # on a logarithmic scale farther than any
    values[11:, 1] = np.nan
    entry = glossary.GLOSSARY[key]
    steps = np.arange(101)
    for column, (last, worst, step) in enumerate(_extremes(values, entry, steps)):
        row = values[~np.isnan(values[:, column]), column]
        with np.errstate(divide="ignore"):
            size = np.abs(np.log(row / np.median(row))) if entry.scale == "log" else row
        assert step == size.argmax()
        assert (last, worst) == pytest.approx((row[-1], row[step]), rel=1e-4)


@pytest.mark.parametrize("where", ["in memory", "on disk", "on disk, from sums"])
def test_the_columns_of_a_page_are_the_windows_of_the_run_merged(
    where: str, tmp_path: Path
) -> None:
    """Moments, tallies, quantiles and histograms: as if windows had been added one by one."""
    run = simulated(windows=150, layers=6)
    if "on disk" in where:
        _written(run, tmp_path)
        run = open_run(tmp_path)
    summed = "sums" in where
    at = columns(run.first, run.steps, *((10, seams(run)) if summed else (40,)))
    assert (max(piece.grain for piece in cut(run, at)) > 1) == summed
    found = distributions(run, at, 10)
    for column in (0, 7, at.size - 1):
        windows = range(at.starts[column], at.starts[column + 1])
        merged = functools.reduce(operator.add, map(run.summary, windows))
        expected = {"mean": merged.mean, "std": merged.std, "rms": merged.rms}
        expected["zeros"] = merged.tallies.zero / np.where(merged.count, merged.count, np.nan)
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(found, name)[column], values, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(found.quantiles[column], smooth_quantiles(merged))
    whole = functools.reduce(operator.add, map(run.summary, range(len(run))))
    for site, (first, counts) in enumerate(found.histograms):
        bins = slice(first, first + counts.shape[1])
        np.testing.assert_array_equal(counts.sum(0), whole.histogram.counts[site, bins])
        assert counts.sum() == whole.count[site]


def test_the_mean_of_losses_near_the_largest_number_is_one(tmp_path: Path) -> None:
    """In memory, on disk and in the columns of a page: their sum would be infinite."""
    history = History()
    for first in range(0, 800, 10):
        losses = np.full(10, 1e308)
        history.add_window(Window(first, first + 9, Summary.empty((0,)), {}, losses, 0.0))
    run = history.view()
    _written(run, tmp_path)
    for some in (run, open_run(tmp_path)):
        np.testing.assert_allclose(some.losses, np.full(80, 1e308))
        at = columns(some.first, some.steps, 7)
        np.testing.assert_allclose(_losses(some, at), np.full(7, 1e308))


def _written(run: Run, folder: Path) -> None:
    """The same run, in a folder, partly packed."""
    with Writer(folder) as writer:
        for site in run.sites:
            writer.site(site, run.layers[site.layer])
        for i in range(len(run)):
            metrics = {key: run.metric(key)[i] for key in run.metrics}
            span = int(run.first[i]), int(run.steps[i])
            writer.window(Window(*span, run.summary(i), metrics, run.step_losses(i), 0.0))


def test_losses_of_single_steps_are_kept_around_an_incident() -> None:
    """All of them from 100 steps before to 100 after, each at its step, and none elsewhere."""
    run = _usual()
    near = json.loads(_element(_usual_page(), "data"))["run"]["near"]
    steps = np.array(near["steps"])
    expected = np.concatenate([run.step_losses(i) for i in range(len(run))])
    assert steps.min() == 500 and 300 not in steps
    np.testing.assert_allclose(near["losses"], expected[steps.astype(int)], rtol=1e-4)


def test_the_rate_of_a_single_step_is_kept_around_an_incident() -> None:
    """A step at another rate in the middle of a window, which the rate at its end hides."""
    run = simulated(rate=lambda steps: np.where(steps == 602, 30.0, 0.1))
    sent = payload(run, Packed())
    assert max(sent["rates"]) < 1
    near = dict(zip(sent["near"]["rate_steps"], sent["near"]["rates"], strict=True))
    assert set(near) >= set(range(500, 700)) and 300 not in near and near[602] == 30
    assert {rate for step, rate in near.items() if step != 602} == {0.1}


def test_the_payload_holds_the_rate_at_the_end_of_each_column_and_none_where_none_is_known() -> (
    None
):
    """More windows than columns: a column shows a rate that was set, the last of its steps."""
    run = simulated(windows=900, layers=2, distinct=2, tensors=("output",), rate=_halving)
    sent = payload(run, Packed())
    last = np.array(sent["time"]["last"])
    assert last.size < 900
    np.testing.assert_allclose(sent["rates"], _halving(last), rtol=1e-4)
    assert payload(simulated(windows=5), Packed())["rates"] == []


@pytest.mark.parametrize(("windows", "columns"), [(50, 600), (900, 600), (900, 4)])
@pytest.mark.parametrize("stored", [False, True])
def test_the_payload_holds_the_units_that_die_in_the_order_in_which_they_do(
    stored: bool, windows: int, columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit for each column, of its end; nothing of sites and of units that never die.

    Found to fail where all windows of one file lie within a column.
    """
    monkeypatch.setattr("shiftwatch.report.payload.MOST_COLUMNS", columns)
    rng = np.random.default_rng(0)
    since = rng.integers(0, 2 * windows, 300)
    history = History()
    with Writer(tmp_path) as writer:
        for site in ("alive", "dying"):
            history.add_site(Site(site), Layer(site))
            writer.site(Site(site), Layer(site))
        for step in range(windows):
            dead = (step >= since) & (rng.random(300) < 0.9)
            kept = Dead.of(dead, np.array([0, 300]), np.array([1]))
            window = Window(step, step, Summary.empty((2,)), {}, np.zeros(0), 0.0, dead=kept)
            history.add_window(window)
            writer.window(window)
    run, packed = open_run(tmp_path) if stored else history.view(), Packed()
    sent = payload(run, packed)
    ((site, offset, width, number),) = sent["dead"]
    last = np.array(sent["time"]["last"])
    expected = run.dead_units(1)[last]
    blob = np.frombuffer(b"".join(packed.maps.parts), np.uint8)[offset:]
    units = blob[: 2 * number].view("<u2")
    rows = blob[2 * number :][: number * -(-last.size // 8)].reshape(number, -1)
    assert (site, width, number) == (1, 300, expected.any(0).sum())
    assert (np.diff(expected[:, units].argmax(0)) >= 0).all()
    np.testing.assert_array_equal(
        np.unpackbits(rows, axis=1, count=last.size).T, expected[:, units]
    )


@pytest.mark.parametrize(
    ("number", "every", "sent"), [(3, 1, 3), (1_000, 1, 1_000), (7_500, 10, 750)]
)
def test_the_payload_holds_epochs_apart_from_events_and_of_many_those_of_round_numbers(
    number: int, every: int, sent: int
) -> None:
    """They do not crowd out what else was noted."""
    run = simulated(windows=5)
    told = payload(run, Packed())["events"]
    run.events = [Event(2 * n, "epoch", str(n)) for n in range(number)] + run.events
    found = payload(run, Packed())
    assert found["events"] == told
    assert found["epochs"]["every"] == every and len(found["epochs"]["begun"]) == sent
    assert found["epochs"]["begun"][2] == [4 * every, 2 * every]


def test_epochs_are_counted_in_the_facts_and_not_listed_as_events() -> None:
    """A thousand rows would hide the few that explain something."""
    run = simulated(windows=5)
    plain = report.render(run)
    run.events += [Event(n, "epoch", str(n)) for n in range(1_000)]
    page = report.render(run)
    assert page.count("<tr") == plain.count("<tr")
    assert "<dt>Epochs</dt><dd>1,000</dd>" in page


def _halving(steps: np.ndarray) -> np.ndarray:
    """A learning rate that is halved every 700 steps."""
    return np.asarray(0.1 * 0.5 ** (steps // 700))


def test_alerts_that_say_the_same_are_one_fact_with_all_its_kinds() -> None:
    """One sentence, one sparkline; figures as people write them, each advice once."""
    history = _one_layer(windows=4)
    words = "standard deviation fell ×1.33e+03 within a few steps"
    for kind in ("variance_shift", "vanishing"):
        history.add_alert(
            replace(
                _alert(),
                kind=kind,
                message=f"step 1 · fc output · {kind}: {words}; began in fc",
                advice="Look at the scale.",
            )
        )
    history.add_incident(Incident(1, "fc", 1, 2, "warning", ("variance_shift", "vanishing")))
    page = report.render(history.view())
    card = page[page.index('<article class="card') : page.index("</article>")]
    assert card.count("Standard deviation fell ×1,330 within a few steps<") == 1
    assert "variance shift and vanishing values" in card
    assert card.count("Look at the scale.") == 1


def _element(page: str, name: str) -> str:
    found = re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found[1]


# -- in the browser -------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (420, False)])
def test_the_page_draws_itself_without_a_request_or_an_error(
    opened: Any, width: int, dark: bool
) -> None:
    page = opened(_usual_page(), width=width, dark=dark, name=f"report-{width}-{dark}")
    assert page.text_content("#layer-name") == "block1.norm"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_fault_has_a_hot_colour_and_quiet_has_the_page_s(opened: Any) -> None:
    page = opened(_usual_page())
    quiet, hot = (_colour(page, "block1.norm", step) for step in (100, 900))
    assert min(quiet) > 200
    assert hot[2] > hot[0] + 40, "a fall of the mean is blue"


_PIXEL = """([row, share]) => {
  const c = document.querySelector('#map canvas'), box = c.getBoundingClientRect();
  const d = c.width / box.width, names = row, x = share;
  return [...c.getContext('2d').getImageData(Math.round(x * d), Math.round(names * d), 1, 1).data];
}"""


#: Rows of the map: the input, then each block's head and its layers.
_ROWS = ["<input>"]
for _b in range(4):
    _ROWS += [f"block{_b}", *(f"block{_b}.{kind}" for kind in ("conv", "norm", "relu"))]


def _at(row: str) -> float:
    """Height of a row's middle on the map's canvas."""
    return 14 + (_ROWS.index(row) + 0.5) * 17


def _colour(page: Any, layer: str, step: int) -> list[int]:
    gutter, width = 92, page.evaluate("document.querySelector('#map canvas').clientWidth")
    gutter = max(92, min(220, 24 + 6.6 * len("block0.conv")))
    x = gutter + (width - gutter - 8) * step / 1000
    return page.evaluate(_PIXEL, [_at(layer), x])[:3]


def test_a_click_on_a_row_opens_its_layer(opened: Any) -> None:
    page = opened(_usual_page())
    page.locator("#map canvas").click(position={"x": 600, "y": _at("block0.conv")})
    assert page.text_content("#layer-name") == "block0.conv"


def test_the_keyboard_reaches_cell_and_layer(opened: Any) -> None:
    page = opened(_usual_page())
    page.focus("#map canvas")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert "block1.relu" in page.text_content("#readout")
    page.keyboard.press("Enter")
    assert page.text_content("#layer-name") == "block1.relu"


def test_dragging_zooms_all_charts_and_a_double_click_resets(opened: Any) -> None:
    page = opened(_usual_page())
    map_ = page.locator("#map canvas")
    map_.scroll_into_view_if_needed()
    box = map_.bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 60, steps=4)
    page.mouse.up()
    assert page.is_visible("#reset")
    map_.dblclick(position={"x": 500, "y": 60})
    assert not page.is_visible("#reset")


def test_the_filter_takes_a_pattern_and_survives_a_broken_one(opened: Any) -> None:
    page = opened(_usual_page())
    page.fill("#filter", "relu$")
    assert page.text_content("#shown") == "4 of 13"
    page.fill("#filter", "relu(")
    assert "bad" in page.get_attribute("#filter", "class")
    assert page.text_content("#shown") == "4 of 13"


def test_every_metric_and_tensor_can_be_chosen(opened: Any) -> None:
    page = opened(_usual_page())
    for tensor in page.locator("#tensor button").all_text_contents():
        page.click(f"#tensor button:text-is('{tensor}')")
        for metric in page.locator("#metric option").all():
            page.select_option("#metric", metric.get_attribute("value"))
            assert page.locator("#legend .ticks span").count() == 3
    assert page.locator("#tensor button").count() == 4


def test_training_and_evaluation_are_switched_apart(opened: Any) -> None:
    page = opened(_usual_page(), name="report-eval")
    page.click("#mode button:text-is('Evaluation')")
    assert "evaluation" in page.text_content("#layer-words")
    assert page.text_content("#layer-name") == "block1.norm"


def test_no_mode_is_offered_where_there_is_one(opened: Any) -> None:
    page = opened(report.render(simulated(evaluation=False, windows=20)))
    assert not page.is_visible("#mode")


def test_the_table_sorts_and_opens(opened: Any) -> None:
    page = opened(_usual_page())
    page.click("#table th[aria-label='Mean shift, worst, at step'] button")
    assert page.locator("#table tbody th").first.text_content() == "block1.norm"
    page.locator("#table tbody tr").nth(3).click()
    assert page.text_content("#layer-name") == page.locator("#table tbody th").nth(3).text_content()


def test_a_link_to_a_follower_opens_it(opened: Any) -> None:
    page = opened(_usual_page())
    page.locator(".followers a.layer").nth(1).click()
    assert page.text_content("#layer-name") == "block2.conv"


def test_hostile_names_are_shown_as_they_are(opened: Any) -> None:
    page = opened(report.render(simulated(names=HOSTILE, windows=40)), name="report-hostile")
    assert page.locator("img").count() == 0
    rows = page.locator("#table tbody th").all_text_contents()
    assert set(HOSTILE) <= set(rows)
    page.hover("#map canvas", position={"x": 600, "y": 14 + 1.5 * 22})
    assert "pwned" not in page.title()


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("empty", empty_run),
        ("one-window", lambda: simulated(windows=1, fault=False)),
        ("two-layers", lambda: simulated(layers=2, windows=30, fault=False, loss=False)),
        ("nan", lambda: _nan_layer()),
        ("constant", lambda: _one_layer(windows=5, value=0.0).view()),
        ("alerts-only", lambda: _loose_alert()),
    ],
)
def test_odd_runs_draw_too(opened: Any, name: str, run: Any) -> None:
    opened(report.render(run()), name=f"report-{name}")


def test_many_layers_are_readable_on_a_phone(opened: Any) -> None:
    run = simulated(layers=160, windows=60, distinct=10, tensors=("output",), evaluation=False)
    page = opened(report.render(run), width=420, name="report-160")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_a_metric_unknown_to_the_page_is_drawn_all_the_same(opened: Any) -> None:
    history = _one_layer(windows=6, extra={"my_metric": -2.0})
    page = opened(report.render(history.view()))
    assert "My metric" in page.locator("#metric option").all_text_contents()


# -- small runs -----------------------------------------------------------------------------


def _one_layer(
    windows: int,
    name: str = "fc",
    value: float | None = None,
    extra: dict[str, float] | None = None,
) -> History:
    from shiftwatch.summaries import Block, measure

    history = History()
    history.add_site(Site(name), Layer(name, "Linear", "", True, ("<input>",)))
    rng = np.random.default_rng(0)
    for step in range(windows):
        values = rng.normal(size=(1, 1, 20, 4)) if value is None else np.full((1, 1, 20, 4), value)
        summary, _ = measure(Block(values, np.ones((1, 1), bool)))
        metrics = {"mean_shift": np.array([0.1 * step])}
        metrics |= {k: np.array([v * step]) for k, v in (extra or {}).items()}
        history.add_window(Window(step, step, summary, metrics, np.array([np.nan]), 0.0))
    return history


def _nan_layer() -> Run:
    return _one_layer(windows=4, value=np.nan).view()


def _alert(severity: str = "warning") -> Alert:
    return Alert(
        1, "fc", "output", "dead", severity, "unknown", 1.0, 0.5, "message", "", "fc", 1, 2
    )


def _loose_alert() -> Run:
    history = _one_layer(windows=4)
    history.add_alert(_alert())
    history.meta["reference"] = {"kind": "odd"}
    return history.view()
