"""The report of a run that grows, served over HTTP and redrawn in place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shiftwatch import report
from shiftwatch.run import Run
from tests.browser import until
from tests.simulated import dying, empty_run, simulated


@contextmanager
def _served(run: Callable[[], tuple[str, Run]]) -> Iterator[str]:
    """A server of one run: the page, and news of it under the tag that goes with the run."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tag, now = run()
            if self.path == "/update" and self.headers.get("If-None-Match") == tag:
                self.send_response(304)
                self.end_headers()
                return
            news = self.path == "/update"
            body = (report.update(now) if news else report.render(now, live="update")).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if news else "text/html")
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _visit(browser: Any, url: str) -> Iterator[Any]:
    faults: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda e: faults.append(str(e)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.goto(url)
    page.wait_for_selector("body[data-ready='1']")
    yield page
    page.close()
    assert [f for f in faults if "304" not in f] == []


def test_a_served_page_shows_what_was_added_and_stays_where_the_reader_was(browser: Any) -> None:
    """Zoom and layer stay, the verdict and the charts are those of the run as it is now."""
    shown = ["1", simulated(windows=40, fault=False)]
    with _served(lambda: (shown[0], shown[1])) as url, _visit(browser, url) as page:
        assert "Healthy" in page.text_content("h1")
        page.wait_for_selector("body[data-updates='1']")  # the first answer carries the tag
        page.evaluate("location.hash = '#layer=block2.relu&step=50&from=20&to=120'")
        until(page, "document.querySelector('#layer-name').textContent == 'block2.relu'")
        shown[:] = "2", simulated(windows=200, rate=lambda steps: 0.1 + 0.0 * steps)
        page.wait_for_selector("body[data-updates='2']")
        assert "It began in block1.norm at step 600" in page.text_content("h1")
        assert page.text_content("#layer-name") == "block2.relu"
        assert page.text_content("#range") == "Steps 20–119."
        page.click("#reset")
        page.hover("#strip canvas", position={"x": 1100, "y": 30})
        assert "Steps 9" in page.text_content("#tip b")
        assert "Learning rate0.1" in page.text_content("#tip")


def test_a_served_page_carries_the_map_of_units_on(browser: Any) -> None:
    """Nobody has died at first; then the layer that is looked at has its rows."""
    shown: list[Any] = ["1", dying(32)]
    with _served(lambda: (shown[0], shown[1])) as url, _visit(browser, url) as page:
        page.evaluate("location.hash = '#layer=early'")
        until(page, "document.querySelector('#layer-name').textContent == 'early'")
        assert page.locator("h3:text('one by one')").count() == 0
        shown[:] = "2", dying(120)
        page.wait_for_selector("h3:text('one by one')")
        shown[:] = "3", dying(240)
        until(page, "document.body.textContent.includes('0–239')")
        assert page.text_content("#layer-name") == "early"
        assert "4 of 64 units" in page.text_content("h3:text('one by one')")


def test_a_page_opened_before_the_first_window_fills_itself(browser: Any) -> None:
    """Nothing to draw at first; everything once the first windows are there."""
    shown: list[Any] = ["1", empty_run()]
    with _served(lambda: (shown[0], shown[1])) as url, _visit(browser, url) as page:
        assert not page.is_visible("#map")
        shown[:] = "2", simulated(windows=10, fault=False)
        page.wait_for_selector("#map canvas", state="visible")
        assert page.text_content("#layer-name") == "block0.conv"


def test_only_a_served_page_may_ask_its_own_server() -> None:
    """A file's policy allows no request at all."""
    run = simulated(windows=5)
    assert "connect-src" not in report.render(run).partition("<style")[0]
    head = report.render(run, live='x"y').partition("<style")[0]
    assert "connect-src 'self'" in head
    assert 'data-live="x&quot;y"' in report.render(run, live='x"y')
