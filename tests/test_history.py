"""What is kept of a run in memory, and how it is read."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftwatch.export import export
from shiftwatch.history import History, Run, Window, merge
from shiftwatch.records import Alert, Event, Incident, Layer, Site
from shiftwatch.summaries import Block, Summary, measure

HOSTILE = "a\"</script>'\n\r\u2028\ud800\x00é" + "x" * 5000


def summary_of(values):
    """Summary of [sites, values], without units."""
    values = np.asarray(values, float)
    summary, _ = measure(
        Block(values=values[None, :, :, None], filled=np.ones((1, len(values)), bool))
    )
    return summary[:]


def window(first, step=None, sites=2, **metrics):
    """A window over some steps, with values drawn from its first step as the seed."""
    random = np.random.default_rng(first)
    step = first if step is None else step
    return Window(
        first=first,
        step=step,
        summary=summary_of(random.normal(size=(sites, 50))),
        metrics={key: np.full(sites, value) for key, value in metrics.items()},
        losses=random.random(step - first + 1),
        overhead=0.01,
    )


def history(windows, sites=2, **options):
    kept = History(**options)
    for number in range(sites):
        kept.add_site(Site(f"fc{number}"), Layer(f"fc{number}", "Linear"))
    for each in windows:
        kept.add_window(each)
    return kept


def alert(message="it broke", severity="warning", detected=3):
    return Alert(
        detected, "fc0", "output", "dead", severity, "dead_fraction", 1.0, 0.5, message, "", "fc0",
        1, detected,
    )  # fmt: skip


def assert_same(a, b):
    """Summaries alike: counts exactly, moments to rounding."""
    for group in ("tallies", "histogram"):
        for name in vars(getattr(a, group)):
            if name in type(getattr(a, group)).__dataclass_fields__:
                left, right = getattr(getattr(a, group), name), getattr(getattr(b, group), name)
                np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(a.count, b.count)
    np.testing.assert_allclose(a.mean, b.mean)
    np.testing.assert_allclose(a.moments.m2, b.moments.m2)
    np.testing.assert_array_equal(a.moments.max, b.moments.max)


def test_two_windows_merge_to_the_summary_of_all_their_values():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(3, 40)), random.normal(size=(3, 60))
    halves = [Window(i, i, summary_of(x), {}, np.zeros(1), 0.0) for i, x in enumerate((a, b))]
    assert_same(merge(*halves).summary, summary_of(np.concatenate([a, b], axis=1)))


def test_a_merged_metric_is_the_mean_over_steps_and_ignores_nan():
    a, b = window(0, 0, kl=1.0, psi=np.nan), window(1, 3, kl=5.0, psi=2.0)
    both = merge(a, b)
    assert both.metrics["kl"].tolist() == [4.0, 4.0]
    assert both.metrics["psi"].tolist() == [2.0, 2.0]
    assert (both.first, both.step) == (0, 3)


def test_merging_pads_sites_and_metrics_that_only_one_window_knows():
    both = merge(window(0, sites=1, kl=1.0), window(1, sites=3, js=2.0))
    assert both.summary.count.tolist() == [100, 50, 50]
    np.testing.assert_array_equal(both.metrics["kl"], [1.0, np.nan, np.nan])
    assert both.metrics["js"].tolist() == [2.0, 2.0, 2.0]


def test_an_infinite_metric_stays_infinite_when_merged():
    both = merge(window(0, kl=np.inf), window(1, kl=1.0))
    assert both.metrics["kl"].tolist() == [np.inf, np.inf]


def test_losses_of_merged_windows_are_thinned_and_keep_their_mean():
    windows = [window(8 * i, 8 * i + 7) for i in range(64)]
    mean = np.mean([w.losses.mean() for w in windows])
    while len(windows) > 1:
        windows = [merge(*windows[i : i + 2]) for i in range(0, len(windows), 2)]
    assert windows[0].losses.size == 64
    assert windows[0].losses.mean() == pytest.approx(mean)


def test_a_merged_schedule_holds_the_rates_that_were_set_and_none_between():
    """A rate that halves every hundred steps, in windows of eight, of which sixty-four are left."""
    steps = np.arange(4096)
    given = 0.1 * 0.5 ** (steps // 100)
    windows = [
        Window(i, i + 7, summary_of([[1.0]]), {}, np.zeros(0), 0.0, part)
        for i in range(0, 4096, 8)
        for part in [np.array([steps, given])[:, i : i + 8]]
    ]
    run = history(windows, sites=1, limit=64).view()
    places, rates = run.schedule
    assert len(run) == 64 and 512 < places.size < 4096
    assert np.diff(places, prepend=-1).max() < 8
    np.testing.assert_array_equal(rates, given[places])
    np.testing.assert_array_equal(run.learning_rates, given[run.steps])


def test_a_merged_window_knows_the_rates_that_either_knew():
    rates = np.array([[4.0, 5.0], [0.2, 0.1]])
    known = Window(4, 7, summary_of([[1.0]]), {}, np.zeros(0), 0.0, rates)
    for pair in ((known, window(8, 11, sites=1)), (window(0, 3, sites=1), known)):
        run = history([merge(*pair)], sites=1).view()
        assert [part.tolist() for part in run.schedule] == [[4, 5], [0.2, 0.1]]
        assert run.learning_rates.tolist() == [0.1]


def test_a_row_gives_its_window_back_exactly():
    values = np.array([[0.1, -0.0, np.nan, np.inf], [1e-310, 3e38, 1e300, -5.0]])
    one = Window(
        3, 9, summary_of(values), {"kl": np.array([np.nan, -np.inf])}, np.array([np.nan]), 0.5
    )
    back = one.row.window()
    assert_same(back.summary, one.summary)
    assert back.summary.moments.m4.tobytes() == one.summary.moments.m4.tobytes()
    assert back.metrics["kl"].tobytes() == one.metrics["kl"].tobytes()
    assert (back.first, back.step, back.overhead) == (3, 9, 0.5)


def test_a_metric_of_the_wrong_length_is_refused_by_name():
    wrong = Window(0, 0, Summary.empty((2,)), {"kl": np.zeros(3)}, np.zeros(0), 0.0)
    with pytest.raises(ValueError, match=r"one value per site, 2 .*'kl' has shape \(3,\)"):
        History().add_window(wrong)


@settings(max_examples=30, deadline=None)
@given(limit=st.integers(4, 40), number=st.integers(0, 300))
def test_a_history_stays_within_its_limit_and_loses_no_step(limit, number):
    windows = [
        Window(i, i, Summary.empty((1,)), {"kl": np.array([float(i)])}, np.array([float(i)]), 0.0)
        for i in range(number)
    ]
    run = history(windows, sites=1, limit=limit).view()
    assert len(run) == min(limit, number)
    assert run.first[:1].tolist() == [0][:number]
    assert run.first[1:].tolist() == (run.steps[:-1] + 1).tolist()
    assert run.steps[-1:].tolist() == [number - 1][:number]
    recent = min(limit // 2, number)  # the younger half stays as it came
    assert run.steps[len(run) - recent :].tolist() == list(range(number - recent, number))
    spans = run.steps - run.first + 1
    assert np.average(run.metric("kl")[:, 0], weights=spans) == pytest.approx(
        (number - 1) / 2
    ) if number else True  # fmt: skip


def test_the_older_half_of_a_long_history_is_evenly_resolved():
    windows = [Window(i, i, Summary.empty((1,)), {}, np.zeros(0), 0.0) for i in range(3000)]
    run = history(windows, sites=1, limit=32).view()
    spans = (run.steps - run.first + 1)[:12]
    assert spans.max() <= 4 * spans.min()


def test_a_history_stays_within_its_memory():
    windows = [window(i, sites=20, kl=0.1) for i in range(40)]
    size = windows[0].row.nbytes
    run = history(windows, sites=20, memory=10 * size).view()
    assert 4 <= len(run) <= 12
    assert int(run.between(0, 39).count[0]) == 40 * 50


def test_a_limit_too_small_to_merge_is_refused():
    with pytest.raises(ValueError, match="at least 4 windows; got 3"):
        History(limit=3)


def test_a_view_does_not_change_when_the_history_goes_on():
    kept = history([window(0, kl=1.0)])
    run = kept.view()
    kept.add_window(window(1, kl=2.0))
    kept.add_alert(alert())
    kept.add_site(Site("late"), Layer("late"))
    assert (len(run), len(run.alerts), len(run.sites)) == (1, 0, 2)
    assert run.metric("kl").shape == (1, 2)


def test_a_site_known_already_keeps_its_column_and_renews_its_layer():
    kept = History()
    assert kept.add_site(Site("a"), Layer("a")) == 0
    assert kept.add_site(Site("b"), Layer("b")) == 1
    assert kept.add_site(Site("a"), Layer("a", parents=("<input>",))) == 0
    run = kept.view()
    assert list(run.layers) == ["a", "b"]
    assert run.layers["a"].parents == ("<input>",)


def test_an_incident_of_the_same_number_is_replaced():
    kept = History()
    for cleared in (None, 7):
        kept.add_incident(Incident(1, "fc0", 0, 1, "warning", ("dead",), cleared=cleared))
    assert [i.cleared for i in kept.view().incidents] == [7]


def test_sites_and_metrics_that_came_later_read_as_nan_before():
    run = history([window(0, sites=1, kl=1.0), window(1, sites=2, kl=2.0, js=3.0)]).view()
    np.testing.assert_array_equal(run.metric("kl"), [[1.0, np.nan], [2.0, 2.0]])
    np.testing.assert_array_equal(run.metric("js"), [[np.nan, np.nan], [3.0, 3.0]])
    assert run.summary(0).count.tolist() == [50, 0]
    assert np.isnan(run.quantiles(1, [0.5])[0]).all()


def test_a_run_reads_back_what_went_in():
    windows = [window(4 * i, 4 * i + 3, kl=float(i)) for i in range(5)]
    run = history(windows).view()
    assert run.first.tolist() == [0, 4, 8, 12, 16]
    assert run.steps.tolist() == [3, 7, 11, 15, 19]
    np.testing.assert_allclose(run.losses, [w.losses.mean() for w in windows])
    assert run.overhead == pytest.approx(0.01)
    assert_same(run.summary(-1), windows[-1].summary)
    q = [0.1, 0.5]
    expected = [w.summary.histogram.quantile(np.array(q))[1] for w in windows]
    np.testing.assert_array_equal(run.quantiles(1, q), expected)
    np.testing.assert_array_equal(run.quantiles(Site("fc1"), q), expected)
    assert run.quantiles(1, 0.5).shape == (5,)
    with pytest.raises(IndexError):
        run.summary(5)


def test_between_merges_the_windows_that_lie_partly_in_the_range():
    windows = [window(4 * i, 4 * i + 3) for i in range(5)]
    run = history(windows).view()
    assert_same(run.between(3, 8), windows[0].summary + windows[1].summary + windows[2].summary)
    assert run.between(100, 200).count.tolist() == [0, 0]


def test_losses_that_are_unknown_read_as_nan():
    unknown = Window(0, 1, Summary.empty((2,)), {}, np.array([np.nan, np.nan]), 0.0)
    none = Window(2, 3, Summary.empty((2,)), {}, np.zeros(0), 0.0)
    half = Window(4, 5, Summary.empty((2,)), {}, np.array([np.nan, 3.0]), 0.0)
    np.testing.assert_array_equal(history([unknown, none, half]).view().losses, [np.nan, np.nan, 3])


def test_a_series_leaves_out_what_does_not_apply():
    run = history([window(0), window(1, kl=2.0)]).view()
    steps, values = run.series("kl", "fc1")
    assert (steps.tolist(), values.tolist()) == ([1], [2.0])


def test_an_unknown_name_is_answered_with_the_nearest():
    run = history([window(0, mean_shift=1.0)]).view()
    with pytest.raises(ValueError, match=r"no metric 'mean_shft'\. Did you mean 'mean_shift'\?"):
        run.metric("mean_shft")
    with pytest.raises(ValueError, match=r"no layer 'fc7'\. Did you mean 'fc1' or 'fc0'"):
        run.series("mean_shift", "fc7")
    with pytest.raises(ValueError, match=r"no site 'fc1:gradient'\. It holds 'fc1:output'"):
        run.series("mean_shift", "fc1", tensor="gradient")
    with pytest.raises(ValueError, match="It holds none yet"):
        Run().metric("kl")


def test_an_empty_run_can_be_read():
    run = Run()
    assert (len(run), run.metrics, run.steps.tolist(), run.losses.tolist()) == (0, (), [], [])
    assert np.isnan(run.overhead)
    assert run.between(0, 9).shape == (0,)
    assert list(run.to_pandas().columns) == ["step", "layer", "tensor", "metric", "value"]
    assert "no windows yet" in repr(run)


def test_the_repr_names_the_worst_alerts_first_on_one_line_each():
    kept = history([window(0, 7, kl=1.0)])
    kept.add_alert(alert("later\nand <b>worse</b>", "critical", detected=9))
    for number in range(6):
        kept.add_alert(alert(f"small {number}"))
    run = kept.view()
    lines = repr(run).splitlines()
    assert lines[0] == "Run in memory"
    assert lines[1] == "  steps 0 to 7: 1 window of 2 sites in 2 layers, overhead 1.0%"
    assert lines[3] == "    critical: later and <b>worse</b>"
    assert lines[-1] == "    … and 2 more in .alerts"
    assert "<b>worse" not in run._repr_html_()


def test_tidy_rows_hold_every_value_that_applies():
    kept = History()
    kept.add_site(Site(HOSTILE), Layer(HOSTILE))
    kept.add_site(Site("rnn", "output", "1.0"), Layer("rnn"))
    kept.add_site(Site("rnn", mode="eval"), Layer("rnn"))
    first = window(0, 3, sites=3, kl=1.0)
    first.metrics["kl"][1] = np.nan
    kept.add_window(first)
    kept.add_window(window(4, 7, sites=3, kl=2.0, js=np.inf))
    table = kept.view().to_pandas()
    name = HOSTILE.replace("\ud800", "\\ud800")  # no table has a place for half a character
    assert list(table.columns) == ["step", "layer", "tensor", "metric", "value"]
    assert [tuple(row) for row in table.itertuples(index=False)] == [
        (3, name, "output", "kl", 1.0),
        (7, name, "output", "kl", 2.0),
        (7, "rnn", "output[1.0]", "kl", 2.0),
        (7, name, "output", "js", np.inf),
        (7, "rnn", "output[1.0]", "js", np.inf),
    ]
    assert kept.view().to_pandas(mode="eval")["layer"].tolist() == ["rnn"] * 3


@pytest.mark.parametrize("ending", ["parquet", "csv", "json"])
def test_an_exported_file_reads_back_as_the_same_table(tmp_path, ending):
    import pandas

    run = history([window(i, kl=i / 3, js=0.1) for i in range(4)]).view()
    path = export(run, tmp_path / f"run.{ending}")
    read = {"parquet": pandas.read_parquet, "csv": pandas.read_csv, "json": pandas.read_json}
    pandas.testing.assert_frame_equal(read[ending](path), run.to_pandas(), check_dtype=False)
    assert [p.name for p in tmp_path.iterdir()] == [f"run.{ending}"]


def test_an_export_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "run.parquet").write_text("old")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Parquet needs the package 'pyarrow'.*\[export\]"):
        export(history([]).view(), tmp_path / "run.parquet")
    assert (tmp_path / "run.parquet").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_events_and_meta_are_kept():
    kept = History()
    kept.meta["config"] = {"lr": 0.1}
    kept.add_event(Event(3, "learning_rate", "0.1 → 0.01"))
    run = kept.view()
    assert run.meta == {"config": {"lr": 0.1}}
    assert run.events == [Event(3, "learning_rate", "0.1 → 0.01")]
