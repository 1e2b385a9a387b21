"""A reader's walk through the report: choose, zoom, open, link, take away, by any hand and eye."""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pytest

from shiftwatch import report
from shiftwatch.records import Event
from tests.browser import exported, pictured, taken_away, until, violations
from tests.browser import opened as opened
from tests.simulated import DEATHS, HOSTILE, dying, empty_run, simulated


@functools.cache
def _page() -> str:
    return report.render(simulated())


@functools.cache
def _hostile() -> str:
    return report.render(simulated(names=HOSTILE, windows=40))


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)]
)
def test_a_walk_from_the_verdict_to_one_step_of_a_layer(
    opened: Any, width: int, dark: bool
) -> None:
    """Metric, zoom, layer and step, each on the page that the one before left behind."""
    page = opened(_page(), width=width, dark=dark)
    page.select_option("#metric", "variance_shift")
    assert "Logarithm of variance" in page.text_content("#metric-words")
    _drag(page, "#map canvas", 0.55, 0.75)
    assert page.text_content("#range").startswith("Steps ")
    page.click("#next")
    assert page.text_content("#layer-name") == "block1.relu"
    middle = page.locator("#tracks canvas").first
    middle.scroll_into_view_if_needed()
    middle.click(position={"x": page.evaluate("innerWidth") * 0.6, "y": 60})
    assert page.is_visible("#moment")
    assert page.text_content("#moment-title").startswith("At steps ")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    until(page, "location.hash.includes('step=')")
    pictured(page, f"walk-{width}-{'dark' if dark else 'light'}")


def test_another_metric_changes_its_own_chart_and_leaves_the_others_of_the_layer(
    opened: Any,
) -> None:
    """The steps still stand under the last: charts are as on a page opened at that metric."""
    charts = """[...document.querySelectorAll('#tracks .track')].map((track) =>
        [track.querySelector('h3').firstChild.textContent, track.offsetHeight])"""
    page = opened(_page())
    first = page.query_selector("#tracks canvas")
    layer = page.text_content("#layer-name")
    for metric in ("js", "saturation", "kl"):
        page.select_option("#metric", metric)
        fresh = opened(_page(), at=f"#layer={layer}&metric={metric}")
        assert page.evaluate(charts) == fresh.evaluate(charts)
    assert first.evaluate("canvas => canvas.isConnected")


def test_another_layer_takes_over_the_canvases_and_nothing_of_the_one_before(
    opened: Any,
) -> None:
    """Pictures, names and the words under the pointer are as on a page opened at that layer."""
    seen = """() => [...document.querySelectorAll('#tracks canvas')].map((canvas) =>
        [canvas.ariaLabel, canvas.toDataURL()])"""
    page = opened(_page())
    canvas = page.query_selector("#tracks canvas")
    page.click("#next")
    fresh = opened(_page(), at=f"#layer={page.text_content('#layer-name')}")
    assert canvas.evaluate("canvas => canvas.isConnected")
    assert page.evaluate(seen) == fresh.evaluate(seen)
    for tab in (page, fresh):
        tab.locator("#tracks canvas").first.hover(position={"x": 600, "y": 60})
    assert page.text_content("#tip") == fresh.text_content("#tip")


@pytest.mark.parametrize("layers", [12, 40])
def test_the_table_of_all_layers_takes_the_same_room_before_and_after_it_is_seen(
    opened: Any, layers: int
) -> None:
    """Long or short; and on paper all of it is there."""
    names = tuple(f"fc{i}" for i in range(layers))
    page = opened(report.render(simulated(names=names, windows=40)))
    room = "document.querySelector('#all').offsetHeight"
    until(page, f"document.querySelectorAll('#table tbody tr').length >= {layers}")
    before = page.evaluate(room)
    assert before > 300
    page.locator("#all").scroll_into_view_if_needed()
    until(page, "document.querySelector('#table tbody th').checkVisibility()")
    assert page.evaluate(room) == before
    page.emulate_media(media="print")
    assert page.evaluate("document.querySelector('#table').offsetHeight") > 25 * layers


def _drag(page: Any, selector: str, start: float, end: float) -> None:
    """Press, move and release across a share of a canvas' width."""
    canvas = page.locator(selector).first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + start * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()


# -- links ----------------------------------------------------------------------------------


def test_a_link_opens_the_page_at_its_layer_step_and_zoom(opened: Any) -> None:
    """What the address names is what is shown."""
    page = opened(
        _page(), at="#layer=block2.conv&tensor=weight&part=weight&step=700&from=500&to=900"
    )
    assert page.text_content("#layer-name") == "block2.conv"
    assert page.get_attribute("#tensor [data-key=weight]", "aria-pressed") == "true"
    assert page.text_content("#moment-title").startswith("At steps ")
    assert page.text_content("#range") == "Steps 500–899."


def test_the_address_of_what_is_shown_leads_back_to_it(opened: Any) -> None:
    """A page opened at the address that another page wrote shows the same."""
    page = opened(_page())
    page.click("#next")
    page.select_option("#metric", "js")
    until(page, "location.hash.includes('metric=js')")
    again = opened(_page(), at=page.evaluate("location.hash"))
    assert again.text_content("#layer-name") == page.text_content("#layer-name")
    assert again.input_value("#metric") == "js"


def test_links_of_a_card_go_to_layer_and_step_and_the_browser_goes_back(opened: Any) -> None:
    """A follower opens; going back closes it again."""
    page = opened(_page(), at="#layer=block0.relu&step=100")
    page.locator(".followers a.layer").first.click()
    assert page.text_content("#layer-name") == "block1.relu"
    page.go_back()
    until(page, "document.querySelector('#layer-name').textContent == 'block0.relu'")


@pytest.mark.parametrize("address", ["#layer=nothing", "#step=abc", "#%E0%A4%A", "#from=9&to=1"])
def test_an_address_that_leads_nowhere_shows_the_page_as_it_begins(
    opened: Any, address: str
) -> None:
    """Nothing in an address can break the page."""
    assert opened(_page(), at=address).text_content("#layer-name") == "block1.norm"


def test_a_link_to_a_hostile_name_opens_that_layer_and_no_markup(opened: Any) -> None:
    """The address is read as text."""
    page = opened(_hostile(), at=f"#layer={quote(HOSTILE[1], safe='')}")
    assert page.text_content("#layer-name") == HOSTILE[1]
    assert page.locator("img").count() == 0 and page.title() != "pwned"


# -- blocks ---------------------------------------------------------------------------------


def test_blocks_fold_and_unfold(opened: Any) -> None:
    """One click folds all; a click on a block's head opens that block alone."""
    page = opened(_page())
    tall = page.locator("#map canvas").bounding_box()["height"]
    page.click("#fold")
    assert page.text_content("#fold") == "Unfold blocks"
    until(page, f"document.querySelector('#map canvas').clientHeight < {tall - 100}")
    pictured(page, "folded")
    page.locator("#map canvas").click(position={"x": 30, "y": 14 + 1.5 * 22})
    until(page, "document.querySelector('#map canvas').clientHeight > 14 + 7 * 22")


def test_a_deep_network_begins_folded_but_for_the_block_of_the_incident(opened: Any) -> None:
    """Hundreds of layers fit the screen."""
    run = simulated(layers=150, windows=20, tensors=("output",), evaluation=False)
    page = opened(report.render(run), name="deep")
    assert page.locator("#map canvas").bounding_box()["height"] < 1100
    assert page.text_content("#layer-name") == "block16.relu"


# -- taking charts away ---------------------------------------------------------------------


@pytest.mark.parametrize("place", ["#loss-title", "#map-tools", "#tracks .track >> nth=1"])
def test_a_chart_is_saved_as_png_svg_and_csv(opened: Any, place: str) -> None:
    """The files are what they say: a picture of its size, well-formed SVG, rows of numbers."""
    page = opened(_page())
    taken_away(page, place)


def test_epochs_stand_under_the_steps_and_in_the_words_at_the_pointer(opened: Any) -> None:
    """Ten of a hundred steps; zoomed into two of them, these; from a narrow page some go."""
    run = simulated(windows=200)
    run.events += [Event(step, "epoch", str(step // 100)) for step in range(0, 1000, 100)]
    page = opened(report.render(run), name="report-epochs")
    assert _epochs(page) == [str(n) for n in range(10)]
    page.hover("#strip canvas", position={"x": 1100, "y": 30})
    assert page.text_content("#tip b").endswith(" · epoch 9")
    page.evaluate("location.hash = '#layer=block0.conv&from=480&to=720'")
    until(page, "document.querySelector('#range').textContent == 'Steps 480–719.'")
    assert _epochs(page) == ["5", "6", "7"]
    assert _epochs(opened(report.render(run), width=390)) == ["0", "2", "4", "6", "8"]


def _epochs(page: Any) -> list[str]:
    """Those that a picture of the map names: the texts beside the word, but for the word."""
    root = ElementTree.fromstring(exported(page, "#map-panel", "Save SVG").read_text("utf-8"))
    texts = list(root.iter("{http://www.w3.org/2000/svg}text"))
    (word,) = [t for t in texts if t.text == "epoch"]
    return [t.text or "" for t in texts if t.get("y") == word.get("y") and t is not word]


def test_the_learning_rate_is_drawn_under_the_loss_and_taken_away_with_it(opened: Any) -> None:
    """In the picture, the table, the words under the pointer and those for who cannot see it."""
    run = simulated(windows=50, rate=lambda steps: np.where(steps < 100, 0.1, 0.02))
    page = opened(report.render(run), width=420, dark=True, name="report-rate")
    assert "learning rate" in page.locator("#strip canvas").get_attribute("aria-label")
    page.hover("#strip canvas", position={"x": 320, "y": 120})
    assert "Learning rate0.02" in page.text_content("#tip")
    assert ">Learning rate</text>" in exported(page, "#loss-title", "Save SVG").read_text("utf-8")
    rows = taken_away(page, "#loss-title")
    assert rows[0] == ["First step", "Last step", "Loss", "Learning rate"]
    assert [row[3] for row in rows[1:]] == ["0.1"] * 20 + ["0.02"] * 30
    assert violations(page) == []
    without = opened(report.render(simulated(windows=50)), width=420)
    shorter = without.locator("#strip canvas").bounding_box()["height"]
    assert shorter < page.locator("#strip canvas").bounding_box()["height"]
    assert "rate" not in without.locator("#strip canvas").get_attribute("aria-label")


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)]
)
def test_the_units_that_die_are_drawn_named_and_taken_away(
    opened: Any, width: int, dark: bool
) -> None:
    """One is dead for a while only; a layer whose units live has no such chart."""
    name = f"report-units-{width}-{'dark' if dark else 'light'}"
    page = opened(_dying(), width=width, dark=dark, name=name, at="#layer=early")
    place = "#tracks .track:has(h3:text('one by one'))"
    assert "4 of 64 units, the first to die on top" in page.text_content(f"{place} h3")
    canvas = page.locator(f"{place} canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()

    def told(unit: int, step: int) -> str:
        row = [*DEATHS["early"]].index(unit)
        left, right = 96 if width < 640 else 92, 8  # what a chart leaves free
        x = left + (step + 0.5) / 240 * (box["width"] - left - right)
        page.mouse.move(box["x"] + x, box["y"] + 6 + 14 * (row + 0.5))
        return str(page.text_content("#tip"))

    assert "unit 31not dead yet" in told(31, 20)
    assert re.search(r"unit 31dead since step (4\d|5\d)dead4 of 64 units", told(31, 110))
    assert re.search(r"unit 5alive again since step 1[12]\ddead3 of 64 units", told(5, 200))
    rows = taken_away(page, place, least=5)
    assert [row[0] for row in rows] == ["Unit", "31", "5", "0", "17"]
    assert rows[1][1] == "0" and rows[1][-1] == "1" and rows[2][-1] == "0"
    assert {cell for row in rows[1:] for cell in row[1:]} == {"0", "1"}
    assert violations(page) == []
    page.evaluate("location.hash = '#layer=flat'")
    until(page, "document.querySelector('#layer-name').textContent == 'flat'")
    assert page.locator(place).count() == 0


def test_the_map_of_units_is_dark_where_they_are_dead_also_zoomed(opened: Any) -> None:
    """Half of the units die at step 160: pale before, and dark from there to the end."""
    page = opened(_dying(), at="#layer=late&from=120&to=220")
    shade = """(x) => { const all = [...document.querySelectorAll('#tracks .track')];
        const canvas = all.find((t) => t.textContent.includes('one by one')).querySelector('canvas');
        const at = 92 + x * (canvas.clientWidth - 100), g = canvas.getContext('2d');
        const [r, green, b] = g.getImageData(at * devicePixelRatio, 80 * devicePixelRatio, 1, 1).data;
        return r - green; }"""
    assert abs(page.evaluate(shade, 0.3)) < 30
    assert page.evaluate(shade, 0.9) > 60


@functools.cache
def _dying() -> str:
    return report.render(dying())


def test_the_pictures_of_a_hostile_run_are_well_formed(opened: Any) -> None:
    """Names are escaped in SVG, and no cell of a table begins a formula."""
    page = opened(_hostile())
    svg = ElementTree.fromstring(exported(page, "#map-tools", "Save SVG").read_text("utf-8"))
    words = {node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert "plain" in words and "<svg onload=alert(1)>" in words
    table = exported(page, "#map-tools", "Save CSV").read_text("utf-8")
    assert not re.search(r"(?m)^[=+@]", table)


def test_the_table_behind_a_chart_holds_the_steps_in_view(opened: Any) -> None:
    """Zoomed, it has the rows of the zoom; Escape closes it and leaves the page as it was."""
    page = opened(_page(), at="#layer=block1.norm&from=600&to=650")
    page.locator("#tracks .track summary").first.click()
    page.locator("#tracks .track button:text-is('Show table')").first.click()
    rows = page.locator("dialog tbody tr")
    assert rows.count() == 10
    assert rows.first.locator("th").text_content() == "600"
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert page.locator("dialog").count() == 0


def test_the_verdict_is_copied_as_markdown(opened: Any) -> None:
    """What lands in the clipboard is the verdict with its incidents, names in code spans."""
    page = opened(_page())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#markdown")
    until(page, "document.querySelector('#markdown').textContent == 'Copied'")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "2 incidents. It began in block1.norm at step 600" in copied
    assert "`block1.norm`" in copied and "followed by `block1.relu`" in copied


# -- by any hand and eye --------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", ["usual", "healthy", "hostile", "empty", "pinned"])
def test_axe_finds_nothing_against_the_page(
    opened: Any, which: str, width: int, dark: bool
) -> None:
    """Contrast, names, roles, order of headings: all rules of axe-core."""
    html = {
        "usual": _page,
        "pinned": _page,
        "healthy": lambda: report.render(simulated(windows=30, fault=False)),
        "hostile": _hostile,
        "empty": lambda: report.render(empty_run()),
    }[which]()
    at = "#layer=block1.norm&step=620&from=500&to=700" if which == "pinned" else ""
    assert violations(opened(html, width=width, dark=dark, at=at)) == []


def test_nothing_jumps_when_another_layer_is_opened(opened: Any) -> None:
    """What the reader looks at stays where it is while charts are exchanged below."""
    page = opened(_page())
    page.click("#next")
    page.wait_for_timeout(700)  # it scrolls smoothly
    top = "document.querySelector('#layer-name').getBoundingClientRect().top"
    before = page.evaluate(top)
    for _ in range(3):
        page.click("#next")
    assert page.evaluate(top) == before


def test_print_is_light_whatever_the_theme(opened: Any) -> None:
    """Paper is white: charts drawn in the dark are drawn anew for it."""
    page = opened(_page(), dark=True)
    corner = "(() => { const c = document.querySelector('#map canvas'); return [...c.getContext('2d').getImageData(c.width / 2, 30, 1, 1).data].slice(0, 3); })()"
    assert max(page.evaluate(corner)) < 120
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert min(page.evaluate(corner)) > 180
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_timeout(100)
    assert max(page.evaluate(corner)) < 120


def test_escape_gives_up_the_step_and_then_the_zoom(opened: Any) -> None:
    """The keyboard undoes what the pointer did."""
    page = opened(_page(), at="#layer=block1.norm&step=620&from=500&to=700")
    page.focus("#map canvas")
    page.keyboard.press("Escape")
    assert not page.is_visible("#moment")
    page.keyboard.press("Escape")
    assert not page.is_visible("#reset")


#: A line of 400 points over 200 columns of pixels, flat but for one spike, or the shape under it: how
#: many pixels are inked in the column of the spike and in another one.
_INKED = """([wide, sharp]) => {
    class SvgPen {}
    MARKS
    const canvas = document.createElement('canvas'), g = canvas.getContext('2d');
    canvas.width = 200 * sharp; canvas.height = 100 * sharp; g.scale(sharp, sharp);
    const line = Array.from({length: 400}, (_, i) => [i / 2, i === 201 ? 10 : 80]);
    if (wide) { g.lineWidth = 2; stroked(g, line); } else filled(g, line, line.map(([x]) => [x, 90]));
    return [100, 40].map((x) => {
        const {data} = g.getImageData(x * sharp, 0, 1, canvas.height);
        return data.filter((alpha, i) => i % 4 === 3 && alpha > 127).length;
    });
}"""


@pytest.mark.parametrize("sharp", [1, 2])
def test_of_more_points_than_pixels_no_spike_is_lost(opened: Any, sharp: int) -> None:
    """Such a line is drawn column by column, and as wide as it was asked to be."""
    page = opened(_page())
    marks = files(report).joinpath("assets/charts/marks.js").read_text()
    spike, flat = page.evaluate(_INKED.replace("MARKS", marks), [True, sharp])
    assert spike == pytest.approx(71 * sharp, abs=2) and flat == 2 * sharp
    spike, flat = page.evaluate(_INKED.replace("MARKS", marks), [False, sharp])
    assert spike == pytest.approx(80 * sharp, abs=2) and flat == 10 * sharp
