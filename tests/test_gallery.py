"""The gallery of faults: every kind is there, and its script still finds and cures each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from shiftwatch.records import KINDS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")


def gallery(into: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """docs/gallery.py, which fails where a fault is not found or its cure raises anything."""
    command = [sys.executable, ROOT / "docs" / "gallery.py", "--into", into, *names]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=900)


def test_every_kind_has_an_entry_with_its_picture() -> None:
    assert sorted(re.findall(r"^## .* \{#(\w+)\}$", PAGE, re.MULTILINE)) == sorted(KINDS)
    for kind in KINDS:
        assert f"](gallery/{kind}.png)" in PAGE
        assert (ROOT / "docs" / "gallery" / f"{kind}.png").stat().st_size < 100_000


def test_a_fault_of_the_gallery_is_found_and_its_cure_is_quiet(tmp_path: Path) -> None:
    for package in ("torch", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    done = gallery(tmp_path, "frozen")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "frozen: frozen; cured: nothing\n"
    assert (tmp_path / "gallery" / "frozen.png").exists()


@pytest.mark.slow
def test_all_faults_of_the_gallery_are_found_and_their_cures_are_quiet(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = gallery(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = re.findall(r"\{#(\w+)\}", (tmp_path / "gallery.md").read_text(encoding="utf-8"))
    assert sorted(entries) == sorted(KINDS)
