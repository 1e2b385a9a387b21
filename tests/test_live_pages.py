"""The live pages in a real browser: runs that begin, grow, break and go while they are open."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shiftwatch.live.server import Server
from tests.browser import violations
from tests.live import Training, until
from tests.test_cli import record

# Read here, for no test heeds the environment: a folder that keeps a picture of each page.
_PICTURES = os.environ.get("SHIFTWATCH_SCREENSHOTS")

_HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"


@contextmanager
def served(top: Path, **options: Any) -> Iterator[Server]:
    server = Server(top, **options)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Tabs:
    """Tabs of one browser, and what they complained of."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.faults: list[str] = []

    def open(self, url: str) -> Any:
        page = self.context.new_page()
        page.on("pageerror", lambda e: self.faults.append(str(e)))
        page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        page.goto(url)
        page.wait_for_selector("body[data-ready='1']")
        return page


@pytest.fixture
def tabs(browser: Any) -> Iterator[Tabs]:
    made = Tabs(browser)
    yield made
    made.context.close()
    # Of what a gone run or server answers, Chromium itself speaks.
    assert [f for f in made.faults if "Failed to load resource" not in f] == []


def picture(page: Any, name: str) -> None:
    if _PICTURES:
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.screenshot(path=Path(_PICTURES) / f"live-{name}-{theme}.png")
        size = page.viewport_size
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 390, "height": 844})
        page.screenshot(path=Path(_PICTURES) / f"live-{name}-phone.png")
        page.set_viewport_size(size)


def settled(page: Any) -> float:
    """Where the open layer begins on the screen, once nothing scrolls any more."""
    return float(page.evaluate("""async () => {
        let top = NaN, same = 0;
        for (let frame = 0; same < 30 && frame < 1000; frame++) {
            await new Promise(requestAnimationFrame);
            const now = document.querySelector('#layer').getBoundingClientRect().top;
            same = now === top ? same + 1 : 0;
            top = now;
        }
        return top;
    }"""))  # fmt: skip


def line(page: Any, name: str) -> str:
    """What the list says of a run, "" where it is not listed."""
    return str(page.evaluate(
        "n => [...document.querySelectorAll('.run')].find(e => e.dataset.name === n)?.innerText ?? ''",
        name,
    ))  # fmt: skip


def test_the_list_follows_the_folder(tabs: Tabs, tmp_path: Path) -> None:
    """Runs appear, break, die and go; nothing moves but the lines that changed."""
    record(tmp_path / "mlp-baseline", broken=False, steps=200)
    record(tmp_path / "mlp-lr0.3", broken=True, steps=150)
    record(tmp_path / "sweep" / "width-256", broken=False, steps=160)
    with served(tmp_path) as server, Training(tmp_path / "resnet-18", break_at=120) as training:
        training.steps(80)
        page = tabs.open(server.url)
        page.wait_for_selector(".run:nth-child(4)")
        assert page.text_content("#headline") == "4 runs: 1 being written, 1 critical."
        assert page.locator(".run").first.get_attribute("data-name") == "resnet-18", "newest first"
        assert "writing" in line(page, "resnet-18") and "Healthy" in line(page, "resnet-18")
        tops = "[...document.querySelectorAll('.run')].map(e => e.getBoundingClientRect().top)"
        before = page.evaluate(tops)
        training.steps(120)
        until(lambda: "It began in fc2 at step 120" in line(page, "resnet-18"))
        assert page.evaluate(tops) == before, "the layout jumped"
        picture(page, "list")
        page.fill("#filter", "mlp")
        assert page.locator(".run:visible").count() == 2
        page.fill("#filter", "")
        page.click("button[value=alarmed]")
        assert page.locator(".run:visible").count() == 2
        training.kill()
        until(lambda: "died" in line(page, "resnet-18"))
        shutil.rmtree(tmp_path / "sweep")
        until(lambda: line(page, "sweep/width-256") == "")
        assert page.text_content("#headline") == "3 runs: 2 critical."


def test_a_report_grows_while_the_training_writes(tabs: Tabs, tmp_path: Path) -> None:
    """Zoom, layer and place stay where the reader left them; the verdict changes."""
    with served(tmp_path) as server, Training(tmp_path / "run", break_at=200) as training:
        training.steps(160)
        page = tabs.open(server.url)
        page.click(".run a")
        page.wait_for_selector("body[data-ready='1'] #map canvas")
        page.wait_for_selector("body[data-updates]:not([data-updates='0'])")
        assert "Healthy" in page.text_content("h1")
        page.evaluate("location.hash = '#layer=fc3&step=40&from=20&to=120'")
        page.wait_for_function("document.querySelector('#layer-name').textContent == 'fc3'")
        at = settled(page)
        assert abs(at) < 2, "the address points to the layer"
        training.steps(160)
        until(lambda: "It began in fc2" in page.text_content("h1"))
        assert page.text_content("#layer-name") == "fc3"
        assert page.text_content("#range") == "Steps 20–119."
        assert abs(settled(page) - at) < 2, "what the reader looks at jumped"
        page.evaluate("scrollTo(0, 0)")
        picture(page, "report")
        page.click("text=All runs")
        page.wait_for_selector(".run.critical")


def test_news_do_not_cut_a_scroll_short(tabs: Tabs, tmp_path: Path) -> None:
    """Who follows a link to a layer comes there, though the page grows on the way."""
    with served(tmp_path) as server, Training(tmp_path / "run", break_at=200) as training:
        training.steps(160)
        page = tabs.open(f"{server.url}run/run/")
        page.wait_for_selector("body[data-updates='1']")
        tabs.context.set_offline(True)  # the news come with the scroll, not before
        until(lambda: "No answer" in page.text_content("#live"))
        training.steps(160)
        until(lambda: server.listing.since(0)["runs"][0]["marks"])
        tabs.context.set_offline(False)
        page.evaluate("""() => {
            location.hash = '#layer=fc3';
            addEventListener('scroll', () => document.dispatchEvent(new Event('visibilitychange')), {once: true});
        }""")
        until(lambda: "It began in fc2" in page.text_content("h1"))
        assert page.text_content("#layer-name") == "fc3"
        assert abs(settled(page)) < 2


def test_an_earlier_attempt_is_a_click_away(tabs: Tabs, tmp_path: Path) -> None:
    """A run that was begun again shows its latest attempt, and leads to the others and back."""
    record(tmp_path / "run", broken=True)
    record(tmp_path / "run", broken=False)
    with served(tmp_path) as server:
        page = tabs.open(f"{server.url}run/run/")
        assert "Healthy" in page.text_content("h1")
        assert page.text_content(".attempts") == "Attempts: 1 latest"
        assert violations(page) == []
        page.click(".attempts a")
        page.wait_for_selector("body[data-updates='1']")
        assert "It began in fc2" in page.text_content("h1")
        assert page.text_content(".attempts [aria-current]") == "1"
        page.click("text=latest")
        page.wait_for_selector("body[data-updates='1']")
        assert "Healthy" in page.text_content("h1")
        answer = page.request.get(f"{server.url}run/run/attempt-009/")
        assert answer.status == 404


def test_an_attempt_that_begins_is_linked_on_the_pages_that_are_open(
    tabs: Tabs, tmp_path: Path
) -> None:
    """On that of the run, which goes on to show it, and on that of an earlier attempt."""
    record(tmp_path / "run", broken=True)
    with served(tmp_path) as server:
        latest = tabs.open(f"{server.url}run/run/")
        assert latest.text_content(".attempts") == ""
        record(tmp_path / "run", broken=False)
        until(lambda: latest.text_content(".attempts") == "Attempts: 1 latest")
        assert "Healthy" in latest.text_content("h1")
        first = tabs.open(f"{server.url}run/run/attempt-001/")
        record(tmp_path / "run", broken=False)
        for page in (first, latest):
            until(lambda page=page: page.text_content(".attempts") == "Attempts: 1 2 latest")
        assert first.text_content(".attempts [aria-current]") == "1"
        assert "It began in fc2" in first.text_content("h1")
        first.click(".attempts >> text=2")
        first.wait_for_url("**/attempt-002/")
        assert "Healthy" in first.text_content("h1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_against_the_list(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    """Contrast, names, roles: of runs in every state, and where there is none."""
    (tmp_path / "none").mkdir()
    runs = tmp_path / "runs"
    record(runs / "good", broken=False)
    record(runs / "bad", broken=True)
    record(runs / _HOSTILE.replace("/", ""), broken=True, names=("fc1", _HOSTILE))
    (runs / "begun").mkdir()
    (runs / "begun" / "lock").touch()
    with served(runs) as server, served(tmp_path / "none") as empty:
        tabs = Tabs(browser, color_scheme=scheme)
        for url, listed in ((server.url, 4), (empty.url, 0)):
            page = tabs.open(url)
            page.set_viewport_size({"width": width, "height": 900})
            assert page.locator(".run").count() == listed
            assert violations(page) == []
        tabs.context.close()


def test_many_tabs_follow_one_run(tabs: Tabs, tmp_path: Path) -> None:
    """More tabs than a browser holds connections: all are served, all see the end."""
    with served(tmp_path) as server, Training(tmp_path / "run", break_at=100) as training:
        training.steps(60)
        until(lambda: server.listing.since(0)["runs"])
        pages = [tabs.open(f"{server.url}run/run/") for _ in range(9)]
        pages.append(tabs.open(server.url))
        training.steps(120)
        training.end()
        for page in pages[:-1]:
            until(lambda page=page: "It began in fc2" in page.text_content("h1"))
        until(lambda: "ended" in line(pages[-1], "run"))


def test_a_run_that_is_deleted_while_open_is_told_and_stays_readable(
    tabs: Tabs, tmp_path: Path
) -> None:
    record(tmp_path / "run", broken=True)
    with served(tmp_path) as server:
        page = tabs.open(f"{server.url}run/run/")
        page.wait_for_selector("body[data-updates='1']")
        shutil.rmtree(tmp_path / "run")
        until(lambda: "gone" in (page.text_content("#live") or ""))
        assert "It began in fc2" in page.text_content("h1")


def test_names_of_runs_and_layers_never_become_markup(tabs: Tabs, tmp_path: Path) -> None:
    folder = tmp_path / _HOSTILE.replace("/", "")
    record(folder, broken=True, names=("fc1", _HOSTILE, "<!--data-->"))
    with served(tmp_path) as server:
        page = tabs.open(server.url)
        page.wait_for_selector(".run")
        assert _HOSTILE in line(page, folder.name)
        page.click(".run a")
        page.wait_for_selector("body[data-updates='1']")
        assert page.locator("img").count() == 0
        assert "pwned" not in page.title() or page.title().startswith("<img")


def test_a_page_says_when_its_server_is_gone_and_comes_back(tabs: Tabs, tmp_path: Path) -> None:
    record(tmp_path / "first", broken=False)
    with served(tmp_path) as server:
        page = tabs.open(server.url)
        port = server.port
    page.wait_for_selector("#contact.lost")
    record(tmp_path / "second", broken=False)
    with served(tmp_path, port=port):
        until(lambda: line(page, "second"))
        assert page.locator("#contact.lost").count() == 0


def test_a_token_opens_the_page_once_and_for_all(tabs: Tabs, tmp_path: Path) -> None:
    """The cookie carries it on; the address shows it no more."""
    record(tmp_path / "run", broken=False)
    with served(tmp_path, token=True) as server:
        page = tabs.open(server.url)
        assert "token" not in page.url
        page.wait_for_selector(".run")
        page.click(".run a")
        page.wait_for_selector("body[data-updates='1']")
        refused = tabs.context.new_page().goto(server.url.partition("?")[0] + "runs")
        assert refused.status == 200
        tabs.context.clear_cookies()
        assert tabs.context.new_page().goto(server.url.partition("?")[0]).status == 403


def test_an_empty_folder_says_so(tabs: Tabs, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        page = tabs.open(server.url)
        assert "appears by itself" in page.text_content("#none")
        picture(page, "empty")
