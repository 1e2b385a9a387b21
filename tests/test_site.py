"""The site: built without a warning, and seen in a browser to ask the network for nothing."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Read here, for no test heeds the environment: a folder that keeps a picture of each page.
_PICTURES = os.environ.get("SHIFTWATCH_SCREENSHOTS")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    for package in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; make site brings it")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, served on this machine: browsers search in no files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A tab in which nothing may be asked of anyone else, and nothing be complained of."""
    faults: list[str] = []
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.on("pageerror", lambda e: faults.append(f"error: {e}"))
    tab.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("request", lambda r: faults.append(r.url) if not _ours(r.url, address) else None)
    yield tab
    tab.close()
    assert faults == []


def _ours(url: str, address: str) -> bool:
    return url.startswith((f"{address}/", "data:", f"blob:{address}"))


def test_no_page_names_a_foreign_script_style_font_or_picture(site: Path) -> None:
    foreign = re.compile(
        r'<(?:script|img|iframe|source)[^>]+src="?https?:|'
        r'<link[^>]+(?:stylesheet|preconnect|preload)[^>]+https?:|url\(["\']?https?:'
    )
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(files) > 30
    assert [str(f.relative_to(site)) for f in files if foreign.search(f.read_text("utf-8"))] == []


def test_every_metric_has_its_entry(site: Path) -> None:
    from shiftwatch import metrics

    text = (site / "metrics.html").read_text(encoding="utf-8")
    entries = set(re.findall(r'id="shiftwatch\.(?:statistics|divergences)\.\w+\.(\w+)"', text))
    assert entries == set(metrics)


def test_every_rule_has_its_entry(site: Path) -> None:
    from shiftwatch.rules import DEFAULT

    text = (site / "api" / "rules.html").read_text(encoding="utf-8")
    assert [r for r in {type(r).__name__ for r in DEFAULT} if f'.{r}"' not in text] == []


def test_formulas_are_drawn_and_none_is_left_as_source(site: Path) -> None:
    text = (site / "metrics.html").read_text(encoding="utf-8")
    assert text.count("<math") > 15
    for file in site.rglob("*.html"):
        assert 'class="arithmatex"' not in file.read_text(encoding="utf-8"), file


def test_docstrings_leave_no_markup_behind(site: Path) -> None:
    left = re.compile(r":(?:func|class|meth|attr|data|mod):|&gt;&gt;&gt;(?![^<]*</)")
    for file in (site / "api").rglob("*.html"):
        assert not left.search(file.read_text(encoding="utf-8")), file


def test_figures_of_the_front_page_are_those_of_the_benchmark() -> None:
    front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    faults = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    (alarms,) = re.findall(r"healthy runs with an alarm \| \d+/(\d+) = ([\d.]+)%", faults)
    (found,) = re.findall(r"killed faults found \| \d+/(\d+) = ([\d.]+)%", faults)
    assert f"{alarms[1]} %</span> of {alarms[0]} healthy" in front
    assert f"{found[1]} %</span> of {found[0]} faults" in front


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    "name", ["index", "tutorial", "gallery", "metrics", "alarms", "api/monitor", "howto/pytorch"]
)
def test_a_page_stays_on_this_machine_and_fits_its_width(
    page: Any, address: str, name: str, dark: bool, width: int
) -> None:
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{address}/{name}.html")
    page.wait_for_load_state("networkidle")
    scheme = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
    assert scheme == ("slate" if dark else "default")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert page.evaluate(broken) == []
    if _PICTURES:
        shade = "dark" if dark else "light"
        file = Path(_PICTURES) / f"site-{name.replace('/', '-')}-{shade}-{width}.png"
        page.screenshot(path=file)


def test_search_finds_a_metric(page: Any, address: str) -> None:
    page.goto(f"{address}/index.html")
    page.locator("[data-md-component='search-query']").click()
    page.keyboard.type("hellinger")
    page.wait_for_selector(".md-search-result__item a", timeout=20_000)
    assert "hellinger" in page.locator(".md-search-result__list").inner_text().lower()


def test_links_that_leave_the_docs_lead_to_pages_of_the_site(page: Any, address: str) -> None:
    page.goto(f"{address}/cost.html")
    page.locator("article a", has_text="benchmarks/").first.click()
    page.wait_for_load_state("networkidle")
    assert page.locator("h1").inner_text().startswith("benchmarks")
    assert "overhead.py" in page.locator("article").inner_text()
