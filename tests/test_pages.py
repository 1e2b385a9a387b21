"""Every page of docs/ runs from top to bottom, and prints what it says that it prints."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"^```(?:python|console)$", re.MULTILINE)
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if CODE.search(path.read_text(encoding="utf-8"))
)


def check(page: Path) -> subprocess.CompletedProcess[str]:
    """A page run in a process and a folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.pages", "--check", page],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=500,
    )


def lacking(page: str) -> list[str]:
    """Packages that the code of a page imports and that are not installed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    names = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)) | {"sybil"}
    if "integrations.torch" in text:
        names.add("torch")
    if "to_pandas" in text or "to_polars" in text:
        names |= {"pandas", "polars", "pyarrow"}
    return sorted(name for name in names if importlib.util.find_spec(name) is None)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs_and_prints_what_it_says(page: str) -> None:
    """Numbers may differ from machine to machine, words may not; ``python -m tests.pages PAGE`` mends."""
    if missing := lacking(page):
        pytest.skip(f"needs {', '.join(missing)}")
    done = check(ROOT / page)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_how_tos_and_the_tutorial_are_among_them() -> None:
    assert {"docs/tutorial.md", "docs/howto/pytorch.md", "docs/howto/reading.md"} <= set(PAGES)
    assert len(PAGES) > 10


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nprint('one 2')\n```\n```text title=\"Output\"\ntwo 2\n```\n", "one 2"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```python\nx = 1\n```\n```python\nprint(x + y)\n```\n", "'y' is not defined"),
        ("```console\n$ shiftwatch show nowhere\n```\n", "ended with 2"),
        ("```console\n$ shiftwatch --version\nno version\n```\n", "its code"),
    ],
)
def test_a_page_that_is_wrong_is_found(text: str, complaint: str, tmp_path: Path) -> None:
    pytest.importorskip("sybil")
    (tmp_path / "page.md").write_text(text)
    done = check(tmp_path / "page.md")
    assert done.returncode == 1
    assert complaint in done.stdout + done.stderr


def test_other_numbers_are_no_difference(tmp_path: Path) -> None:
    pytest.importorskip("sybil")
    text = "```python\nprint('loss 0.123 after 1,000 steps')\n```\n"
    (tmp_path / "page.md").write_text(
        text + '```text title="Output"\nloss 4.5e-3 after 20 steps\n```\n'
    )
    assert check(tmp_path / "page.md").returncode == 0
