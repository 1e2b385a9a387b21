"""What all tests and doctests share: a folder of their own, and which files a run takes."""

from __future__ import annotations

import ast
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent

#: What the tests of the core may import; files that import more are left out by --core.
CORE = {"hypothesis", "numpy", "pytest", "scipy", "shiftwatch", *sys.stdlib_module_names}
CORE |= {"tomli", "tomllib"}

# Several tests run at once, and the tensors are small: one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no judgement of time.
hypothesis.settings.register_profile("shiftwatch", derandomize=True, deadline=None)
hypothesis.settings.load_profile("shiftwatch")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--core", action="store_true", help="leave out the files that need more than NumPy"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("--core"):
        return None
    if collection_path == ROOT / "shiftwatch" / "integrations":
        return True
    if ROOT / "tests" in collection_path.parents and collection_path.suffix == ".py":
        return bool(needs(collection_path.read_text(encoding="utf-8"))) or None
    return None


def needs(source: str) -> set[str]:
    """Packages beyond the core's that a test file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] not in CORE or parts[:2] == ["shiftwatch", "integrations"]:
                found.add(name)
    return found


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in its own folder, heeding no setting of the person who runs it."""
    for name in os.environ:
        if name.startswith(("SHIFTWATCH_", "WANDB_")) and name != "SHIFTWATCH_REQUIRE_BROWSER":
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium; skips where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("SHIFTWATCH_REQUIRE_BROWSER"):
        pytest.fail("the tests of the report page need Chromium; .ci/browser installs it")
    pytest.skip("no Chromium; .ci/browser installs it")


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[object]:
    """A headless Chromium under Playwright: ``browser.new_page()``."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tool:
        window = tool.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield window
        window.close()
