"""The page of a comparison, in a browser: opened, switched, walked, with pictures kept."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

from shiftwatch import report
from shiftwatch.comparison import LIMITS, compare
from shiftwatch.history import Run
from shiftwatch.records import Event
from tests.browser import opened as opened
from tests.browser import taken_away, until, violations
from tests.simulated import HOSTILE, simulated

NAMES = ("good", "new")


@functools.cache
def _good() -> Run:
    return simulated(fault=False, seed=1)


@functools.cache
def _page() -> str:
    return report.render_comparison(_good(), simulated(seed=2), names=NAMES)


@functools.cache
def _three() -> str:
    """A run that is alike and half as long, and one with a fault and other names."""
    names = [f"renamed{i}" for i in range(12)]
    short = simulated(fault=False, seed=3, windows=100)
    return report.render_comparison(
        _good(), short, simulated(seed=2, names=names), names=("good", "short", "renamed")
    )


def test_the_page_leads_with_the_verdict_and_the_differences_in_words() -> None:
    """All that matters is there without a script."""
    (against,) = compare(_good(), simulated(seed=2), names=NAMES).against
    assert f">{against.said[0]}</h1>" in _page()
    assert "Healthy: no alert" in _page()
    for difference in against.departed[:3]:
        assert difference.sentence.replace("'", "&#x27;") in _page()


def test_hostile_names_cannot_become_markup() -> None:
    """Of layers and of runs; nothing is fetched."""
    run = simulated(names=HOSTILE, windows=30)
    other = simulated(names=HOSTILE[::-1], windows=30)
    page = report.render_comparison(run, other, names=("<img src=x onerror=alert(1)>", "</title>"))
    assert "<img" not in page and "<svg onload" not in page
    assert page.count("</title>") == 1
    assert page.count("</script>") == page.count("<script") == 11
    assert not re.search(r"https?://", page)


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)]
)
def test_the_page_draws_itself_without_a_request_or_an_error(
    opened: Any, width: int, dark: bool
) -> None:
    """In both themes, and on a phone without scrolling sideways."""
    page = opened(_page(), width=width, dark=dark, name=f"compare-{width}-{dark}")
    assert page.text_content("#layer-name") == "block1.norm"
    assert page.locator("#table tbody th").first.text_content() == "block1.norm"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page = opened(_three(), width=width, dark=dark, name=f"compare-three-{width}-{dark}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_measure_can_be_chosen_and_both_plots_have_one_width(opened: Any) -> None:
    """Each draws its difference; those that a run has by itself, both runs too."""
    page = opened(_page())
    widths = page.evaluate(
        "['#map-a', '#map-b'].map(q => document.querySelector(q + ' canvas').clientWidth)"
    )
    gutters = 24 + 6.6 * len("block0.conv") - 8
    assert widths[0] - widths[1] == pytest.approx(gutters, abs=2)
    chosen = [o.get_attribute("value") for o in page.locator("#measure option").all()]
    assert set(chosen) == set(LIMITS) - {"dead_fraction"}  # these runs say nothing of it
    for key in chosen:
        page.select_option("#measure", key)
        assert page.locator("#difference-legend .ticks span").count() == 3
        assert page.is_visible("#both") == (key != "js")
    page.select_option("#measure", "saturation")
    assert page.text_content("#difference-words") == (
        "Share of values where the activation is nearly flat, new − good."
    )


def test_a_click_on_a_map_a_sentence_or_a_row_opens_the_layer(opened: Any) -> None:
    """And the buttons beside its name go through the ranking."""
    page = opened(_page())
    page.select_option("#measure", "drift")
    map_ = page.locator("#difference canvas")
    map_.scroll_into_view_if_needed()
    box = map_.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 14 + 17 * 2.5)
    assert page.text_content("#layer-name") == "block0.norm"
    page.locator(".found a.layer").nth(1).click()
    assert page.text_content("#layer-name") == page.text_content(".found li:nth-child(2) a")
    page.locator("#table tbody tr").nth(2).locator("button").click()
    assert page.text_content("#layer-name") == page.locator("#table tbody th").nth(2).text_content()
    page.click("#previous")
    assert page.text_content("#layer-name") == page.locator("#table tbody th").nth(1).text_content()
    assert page.locator("#tracks canvas").count() >= 5


def test_the_keyboard_walks_the_map(opened: Any) -> None:
    """Arrows move, what is under the cursor is read out, Enter opens."""
    page = opened(_page())
    page.focus("#difference canvas")
    for key in ("ArrowUp", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert "block1.conv" in page.text_content("#readout")
    page.keyboard.press("Enter")
    assert page.text_content("#layer-name") == "block1.conv"


def test_the_filter_keeps_the_layers_it_names(opened: Any) -> None:
    """A pattern that is none changes nothing."""
    page = opened(_page())
    page.select_option("#measure", "drift")
    page.fill("#filter", "relu")
    assert page.text_content("#shown") == "4 of 13"
    page.fill("#filter", "(")
    assert page.text_content("#shown") == "4 of 13"
    assert "bad" in page.get_attribute("#filter", "class")


def test_the_alignment_is_switched_on_the_page(opened: Any) -> None:
    """By share of training both runs end at 100 %, and the short one fills its map."""
    page = opened(_three())
    pressed = "#align [aria-pressed=true]"
    assert page.text_content(pressed) == "By step"
    page.click("text=By share of training")
    assert page.text_content(pressed) == "By share of training"
    strip = page.locator("#strip canvas")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 40)
    assert re.match(r"(99\.\d|100) % of training", page.text_content("#tip b"))
    assert "–" not in page.text_content("#tip")
    assert page.is_visible("#tip")


def test_another_run_is_chosen_and_renamed_layers_bear_both_names(opened: Any) -> None:
    """The sentences of all runs are there; the charts are of one at a time, the worst first."""
    page = opened(_three())
    assert page.text_content("#other [aria-pressed=true]") == "renamed"
    page.click("#other >> text=short")
    assert page.text_content("#charts-title") == "short against good"
    page.locator(".found a.layer").first.click()
    assert page.text_content("#other [aria-pressed=true]") == "renamed"
    assert page.text_content("#charts-title") == "renamed against good"
    name = page.text_content("#layer-name")
    assert re.fullmatch(r"renamed\d+", name)
    assert "block" in page.text_content("#layer-words")
    assert page.locator("#matched tbody tr").count() == 12


def test_runs_that_know_their_epochs_can_be_read_by_them(opened: Any) -> None:
    """Ten epochs of a hundred steps."""
    runs = [simulated(windows=200, fault=False, seed=seed) for seed in (1, 2)]
    for run in runs:
        run.events += [Event(step, "epoch", str(step // 100)) for step in range(0, 1000, 100)]
    page = opened(report.render_comparison(*runs, align="epoch", names=NAMES))
    assert page.text_content("#align [aria-pressed=true]") == "By epoch"
    page.click("text=By step")
    assert page.locator("#align button").count() == 2


def test_learning_rates_are_drawn_under_the_losses_on_the_same_axis(opened: Any) -> None:
    """By step the new run's ends early; by share it falls when the good one's does."""
    good = simulated(fault=False, rate=lambda steps: np.where(steps < 500, 0.1, 0.02))
    new = simulated(fault=False, windows=100, rate=lambda steps: np.where(steps < 250, 0.1, 0.02))
    page = opened(report.render_comparison(good, new, names=NAMES), name="compare-rates")
    assert page.text_content("#strip-heading") == "Loss and learning rate"
    assert page.text_content(".found li") == (
        "Learning ratethe learning rates differ from step 250: 0.02, 0.1 in good"
    )
    canvas = page.locator("#rates canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    at = {"x": 92 + 0.45 * (box["width"] - 100), "y": 30}
    canvas.hover(position=at)
    assert "good0.1new0.02" in page.text_content("#tip")
    page.click("text=By share of training")
    canvas.hover(position=at)
    assert "good0.1new0.1" in page.text_content("#tip")
    rows = taken_away(page, "#rate-title")
    assert rows[0] == ["Run", "First step", "Last step", "Learning rate"]
    assert ["new", "300", "304", "0.02"] in rows
    without = opened(_page())
    assert not without.is_visible("#rates")
    assert without.text_content("#strip-heading") == "Loss"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (lambda: simulated(windows=1, layers=3, fault=False), lambda: _good()),
        (lambda: _good(), lambda: simulated(windows=2, layers=1, loss=False, fault=False)),
        (
            lambda: simulated(windows=6, names=HOSTILE),
            lambda: simulated(windows=6, names=HOSTILE[::-1]),
        ),
    ],
)
def test_odd_pairs_draw_too(opened: Any, a: Any, b: Any) -> None:
    """One window, no loss, names that want to be markup."""
    opened(report.render_comparison(a(), b(), names=NAMES))


# -- passing it around ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "first"),
    [
        ("#loss-title", "Run"),
        ("#difference-tools", "Layer"),
        ("#of-b", "Layer"),
        ("#tracks .track >> nth=0", "Run"),
        ("#tracks .track >> nth=1", "First step"),
    ],
)
def test_a_chart_is_saved_as_png_svg_and_csv(opened: Any, place: str, first: str) -> None:
    """Every chart has the menu, and its file holds what it shows."""
    page = opened(_page())
    assert page.locator("details.tools").count() == page.locator(".chart").count()
    assert taken_away(page, place)[0][0] == first


def test_the_address_of_what_is_shown_leads_back_to_it(opened: Any) -> None:
    """Run, layer, measure, alignment, step and zoom, on a page opened anew."""
    page = opened(_three(), at="#run=1&layer=block2.conv&measure=mean_shift&align=share&step=250")
    assert page.text_content("#charts-title") == "short against good"
    assert page.text_content("#layer-name") == "block2.conv"
    assert page.text_content("#unpin") == "Unmark 50 % of training"
    page.click("#next")
    name = page.text_content("#layer-name")
    assert name != "block2.conv"
    until(page, f"decodeURIComponent(location.hash).includes('layer={name}')")
    again = opened(_three(), at=page.evaluate("location.hash"))
    for place in ("#charts-title", "#layer-name", "#align [aria-pressed=true]", "#unpin"):
        assert again.text_content(place) == page.text_content(place)
    assert again.input_value("#measure") == page.input_value("#measure") == "mean_shift"


def test_a_step_is_marked_where_another_alignment_has_it(opened: Any) -> None:
    """Step 600 of a thousand is 60 % of the training; unmarked, it leaves the address."""
    page = opened(_three(), at="#layer=renamed4&step=600")
    assert page.text_content("#unpin") == "Unmark step 600"
    page.click("text=By share of training")
    assert page.text_content("#unpin") == "Unmark 60 % of training"
    until(page, "location.hash.includes('step=600')")
    page.click("#unpin")
    until(page, "!location.hash.includes('step=')")


def test_an_alert_links_to_its_run_layer_and_step(opened: Any) -> None:
    """And the browser goes back."""
    page = opened(_three(), at="#run=1&layer=block0.relu&step=100")
    page.locator("#alerts a.layer").first.click()
    assert page.text_content("#charts-title") == "renamed against good"
    assert page.text_content("#unpin") == "Unmark step 600"
    page.go_back()
    until(page, "document.querySelector('#layer-name').textContent == 'block0.relu'")


@pytest.mark.parametrize("address", ["#layer=nothing", "#run=9&layer=block0.relu", "#step=%E0%A4"])
def test_an_address_that_leads_nowhere_shows_the_page_as_it_begins(
    opened: Any, address: str
) -> None:
    """Nothing in an address can break the page."""
    assert opened(_page(), at=address).text_content("#layer-name") == "block1.norm"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["two", "three", "hostile", "alike"])
def test_axe_finds_nothing_against_the_page(
    opened: Any, which: str, width: int, dark: bool
) -> None:
    """Contrast, names, roles, order of headings: all rules of axe-core."""
    html = {
        "two": _page,
        "three": _three,
        "hostile": lambda: report.render_comparison(
            simulated(windows=6, names=HOSTILE), simulated(windows=6, names=HOSTILE), names=NAMES
        ),
        "alike": lambda: report.render_comparison(
            _good(), simulated(fault=False, seed=2), names=NAMES
        ),
    }[which]()
    assert violations(opened(html, width=width, dark=dark)) == []
