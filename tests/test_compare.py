"""Two runs held against each other: the numbers, and the page."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

from shiftwatch import report
from shiftwatch.compare import LIMITS, Comparison, compare
from shiftwatch.divergences import DIVERGENCES
from shiftwatch.history import History, Run, Window
from shiftwatch.records import Layer, Site
from shiftwatch.summaries import Block, measure
from tests.browser import opened as opened
from tests.simulated import HOSTILE, empty_run, simulated


@functools.cache
def _good() -> Run:
    return simulated(fault=False, seed=1)


@functools.cache
def _bad() -> Run:
    return simulated(seed=2)


@functools.cache
def _compared() -> Comparison:
    return compare(_good(), _bad())


def test_a_run_does_not_differ_from_itself() -> None:
    comparison = compare(_good(), _good())
    assert comparison.departed == ()
    assert all(d.score == 0 for d in comparison.differences)
    assert comparison.verdict.startswith("No difference")


def test_two_seeds_of_one_recipe_do_not_depart() -> None:
    comparison = compare(_good(), simulated(fault=False, seed=3))
    assert comparison.departed == ()
    assert comparison.verdict.startswith("No layer departs")


def test_the_broken_layer_departs_first_and_leads_the_ranking() -> None:
    comparison = _compared()
    assert comparison.differences[0].layer == "block1.norm"
    first = comparison.departed[0]
    assert first.layer == "block1.norm"
    assert first.departed is not None and 600 <= first.departed <= 640
    assert f"first in block1.norm, at step {first.departed}" in comparison.verdict


def test_layers_before_the_broken_one_do_not_depart() -> None:
    gone = {d.layer for d in _compared().departed}
    assert not gone & {"block0.conv", "block0.norm", "block0.relu", "block1.conv", "<input>"}


def test_values_are_the_divergences_of_b_from_a() -> None:
    a, b, comparison = _good(), _bad(), _compared()
    k, column = 150, comparison.sites.index(Site("block2.conv"))
    one, other = a.summary(k)[a.column(Site("block2.conv"))], b.summary(k)
    other = other[b.column(Site("block2.conv"))]
    assert comparison.steps[k] == b.steps[k]
    for key in ("mean_shift", "variance_shift", "kl", "js", "wasserstein"):
        assert comparison.values[key][k, column] == pytest.approx(DIVERGENCES[key](other, one))


def test_shares_are_differences_in_percentage_points() -> None:
    a, b, comparison = _good(), _bad(), _compared()
    site = Site("block1.relu")
    column = comparison.sites.index(site)
    expected = b.metric("saturation")[:, b.column(site)] - a.metric("saturation")[:, a.column(site)]
    np.testing.assert_allclose(comparison.values["saturation"][:, column], expected)


def test_shares_that_were_not_recorded_are_counted_again() -> None:
    a = _shifted(lambda step: 0.0, metrics=False)
    b = _shifted(lambda step: np.nan if step > 5 else 0.0, metrics=False)
    assert compare(a, b).differences[0].metric == "nonfinite"


def test_layers_of_one_run_only_are_listed() -> None:
    a = simulated(layers=6, windows=10, fault=False)
    b = simulated(layers=7, windows=10, fault=False)
    assert compare(a, b).only_b == ("block2.conv",)
    assert compare(b, a).only_a == ("block2.conv",)
    assert "block2.conv" not in compare(a, b).layers


def test_windows_match_by_step_and_not_by_number() -> None:
    a = _shifted(lambda step: float(step >= 50) * 5, every=1, steps=100)
    b = _shifted(lambda step: float(step >= 50) * 5, every=10, steps=100)
    comparison = compare(a, b)
    assert (comparison.distance == 0).all()
    assert comparison.departed == ()


def test_only_the_common_time_is_compared() -> None:
    a = _shifted(lambda step: 0.0, steps=40)
    b = _shifted(lambda step: 9.0 * (step > 60), steps=100)
    comparison = compare(a, b)
    assert comparison.steps.max() <= 41
    assert comparison.departed == ()


def test_one_odd_window_is_not_a_departure() -> None:
    a = _shifted(lambda step: 0.0)
    assert compare(a, _shifted(lambda step: 9.0 * (step == 20))).departed == ()
    assert compare(a, _shifted(lambda step: 9.0 * (step >= 20))).departed[0].departed == 20


def test_a_difference_from_the_start_is_said_so() -> None:
    comparison = compare(_shifted(lambda step: 0.0), _shifted(lambda step: 4.0))
    assert "from the start" in comparison.verdict
    assert comparison.differences[0].worst["mean_shift"] == pytest.approx(4.0, abs=0.3)


def test_infos_are_no_alerts_of_either() -> None:
    assert _compared().alerts_a == ()
    assert {a.severity for a in _compared().alerts_b} == {"critical", "warning"}


@pytest.mark.parametrize("order", [1, -1])
def test_nothing_in_common_is_said_in_words(order: int) -> None:
    a, b = [_good(), empty_run()][::order]
    assert compare(a, b).verdict.startswith("Nothing to compare")


def test_long_runs_are_compared_at_an_even_choice_of_steps() -> None:
    a = simulated(layers=2, windows=700, distinct=5, fault=False, evaluation=False)
    comparison = compare(a, a)
    assert comparison.steps.size == 300
    assert comparison.steps[0] == a.steps[0] and comparison.steps[-1] == a.steps[-1]


def test_every_limit_belongs_to_a_value() -> None:
    assert set(_compared().values) == set(LIMITS)
    assert all(v.shape == (200, 13) for v in _compared().values.values())


# -- the page -------------------------------------------------------------------------------


@functools.cache
def _page() -> str:
    return report.render_comparison(_good(), _bad())


def test_the_page_leads_with_the_verdict() -> None:
    assert _compared().verdict in _page()
    assert "Healthy: no alert" in _page()


def test_hostile_names_cannot_become_markup() -> None:
    run = simulated(names=HOSTILE, windows=30)
    page = report.render_comparison(run, simulated(names=HOSTILE[::-1], windows=30))
    assert "<img" not in page and "<svg onload" not in page
    assert page.count("</script>") == page.count("<script") == 11
    assert not re.search(r"https?://", page)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (420, False)])
def test_the_page_draws_itself_without_a_request_or_an_error(
    opened: Any, width: int, dark: bool
) -> None:
    page = opened(_page(), width=width, dark=dark, name=f"compare-{width}-{dark}")
    assert page.text_content("#layer-name") == "block1.norm"
    assert page.locator("#table tbody th").first.text_content() == "block1.norm"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_both_maps_show_the_metric_on_plots_of_one_width(opened: Any) -> None:
    page = opened(_page())
    widths = page.evaluate(
        "['#map-a', '#map-b'].map(q => document.querySelector(q + ' canvas').clientWidth)"
    )
    gutters = 24 + 6.6 * len("block0.conv") - 8
    assert widths[0] - widths[1] == pytest.approx(gutters, abs=2)
    for metric in page.locator("#metric option").all():
        page.select_option("#metric", metric.get_attribute("value"))
        assert page.locator("#legend .ticks span").count() == 3
    for metric in page.locator("#difference option").all():
        page.select_option("#difference", metric.get_attribute("value"))


def test_a_row_of_the_ranking_opens_the_layer(opened: Any) -> None:
    page = opened(_page())
    page.locator("#table tbody tr").nth(2).click()
    assert page.text_content("#layer-name") == page.locator("#table tbody th").nth(2).text_content()
    page.click("#previous")
    assert page.text_content("#layer-name") == page.locator("#table tbody th").nth(1).text_content()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (empty_run, empty_run),
        (empty_run, lambda: simulated(windows=3, layers=2, fault=False)),
        (lambda: simulated(windows=1, layers=3, fault=False), lambda: _good()),
        (lambda: _good(), lambda: _shifted(lambda step: np.nan)),
        (lambda: _shifted(lambda step: 0.0), lambda: _shifted(lambda step: np.nan)),
    ],
)
def test_odd_pairs_draw_too(opened: Any, a: Any, b: Any) -> None:
    opened(report.render_comparison(a(), b()))


def _shifted(course: Any, *, every: int = 1, steps: int = 40, metrics: bool = True) -> Run:
    """One layer whose mean follows ``course`` of the step; NaN fills it with NaN."""
    history = History()
    history.add_site(Site("fc"), Layer("fc", "Linear"))
    for first in range(0, steps, every):
        rng = np.random.default_rng(first // 10)
        last = first + every - 1
        values = rng.normal(size=(1, 1, 100, 8)) + course(last)
        summary, _ = measure(Block(values, np.ones((1, 1), bool)))
        own = {"mean_shift": summary.mean} if metrics else {}
        history.add_window(Window(first, last, summary, own, np.zeros(0), 0.0))
    return history.view()
