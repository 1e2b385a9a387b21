"""A page in a real browser: opened from a file, with every complaint held against it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Read here, for no test heeds the environment: a folder that keeps a picture of each page.
_PICTURES = os.environ.get("SHIFTWATCH_SCREENSHOTS")


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens HTML, waits until it is drawn, and holds that nothing was asked or complained of."""
    faults: list[str] = []
    contexts = []

    def open_page(html: str, *, width: int = 1280, dark: bool = False, name: str = "") -> Any:
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
            lambda r: faults.append(f"request: {r.url}") if r.url != file.as_uri() else None,
        )
        page.goto(file.as_uri())
        page.wait_for_selector("body[data-ready='1']", timeout=20_000)
        if _PICTURES and name:
            page.screenshot(path=Path(_PICTURES) / f"{name}.png", full_page=True)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def _ours(message: Any) -> bool:
    """Chromium advises a test that reads pixels twice; everything else counts."""
    return "willReadFrequently" not in message.text
