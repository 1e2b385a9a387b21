"""A page in a real browser: opened from a file, with every complaint held against it."""

from __future__ import annotations

import csv
import importlib.resources
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

# Read here, for no test heeds the environment: the folder that keeps a picture of each page.
_PICTURES = Path(os.environ.get("SHIFTWATCH_SCREENSHOTS") or Path(__file__).parent / "screenshots")
_AXE = importlib.resources.files("axe_playwright_python") / "axe.min.js"


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens HTML, waits until it is drawn, and holds that nothing was asked or complained of."""
    faults: list[str] = []
    contexts = []

    def open_page(
        html: str, *, width: int = 1280, dark: bool = False, name: str = "", at: str = ""
    ) -> Any:
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(html, encoding="utf-8", errors="replace")
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda e: faults.append(f"error: {e}"))
        page.on("console", lambda m: faults.append(f"{m.type}: {m.text}") if _ours(m) else None)
        page.on(
            "request",
            lambda r: faults.append(f"request: {r.url}") if not _own(r.url, file) else None,
        )
        page.goto(file.as_uri() + at)
        page.wait_for_selector("body[data-ready='1']", timeout=20_000)
        if name:
            pictured(page, name)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def pictured(page: Any, name: str) -> None:
    """Keep a picture of the whole page among the artefacts of the tests."""
    _PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=_PICTURES / f"{name}.png", full_page=True)


def until(page: Any, expression: str) -> None:
    """Wait until something holds in the page, whose policy lets no waiting script in."""
    for _ in range(500):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"It never came to hold: {expression}")


def exported(page: Any, place: str, words: str) -> Path:
    """The file that the menu of a chart gives."""
    page.locator(place).locator("summary").first.click()
    with page.expect_download() as download:
        page.locator(place).locator(f"button:text-is('{words}')").first.click()
    return Path(download.value.path())


def taken_away(page: Any, place: str, least: int = 13) -> list[list[str]]:
    """Save a chart in every way, hold that each file is what it says, and give the table's rows."""
    assert exported(page, place, "Save PNG").read_bytes().startswith(b"\x89PNG\r\n")
    svg = exported(page, place, "Save SVG").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter())) > 10 and "NaN" not in svg
    rows = list(csv.reader(exported(page, place, "Save CSV").read_text("utf-8").splitlines()))
    assert len({len(row) for row in rows}) == 1 and len(rows) >= least
    return rows


def violations(page: Any) -> list[str]:
    """What axe-core finds against accessibility: rule, how bad, and where."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: "
        + "; ".join(
            n["html"][:120] + " " + n.get("failureSummary", "")[:200] for n in v["nodes"][:3]
        )
        for v in found
    ]


def _own(url: str, file: Path) -> bool:
    """The page itself, and what it makes and keeps in memory to be saved."""
    return url.partition("#")[0] == file.as_uri() or url.startswith(("blob:", "data:"))


def _ours(message: Any) -> bool:
    """Chromium advises a test that reads pixels twice; everything else counts."""
    return "willReadFrequently" not in message.text
