"""Make docs/report.png, README's picture: the report of a demo run, as Chromium shows it.

python docs/picture.py
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

import shiftwatch
from shiftwatch.integrations.torch.demo import SCENARIOS, train
from shiftwatch.report import write

PICTURE = Path(__file__).with_name("report.png")
SCENARIO = "corrupted"


def main() -> None:
    """Train, report, photograph."""
    torch.set_num_threads(1)
    scenario = next(s for s in SCENARIOS if s.truth.name == SCENARIO)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / SCENARIO
        print(train(scenario, run).found)
        page = write(shiftwatch.open(run), Path(folder) / "report.html")
        browser = shutil.which("chromium") or sys.exit(
            "Chromium is needed: .ci/browser installs it."
        )
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            view = chromium.new_page(
                viewport={"width": 1200, "height": 1000},
                device_scale_factor=1.5,
                color_scheme="light",
            )
            view.goto(page.as_uri())
            view.wait_for_selector('body[data-ready="1"]')
            view.wait_for_timeout(200)
            panel = view.locator("#map-panel").bounding_box()
            bottom = panel["y"] + panel["height"]
            area = {"x": 0, "y": 0, "width": 1200, "height": bottom + 24}
            view.screenshot(path=PICTURE, full_page=True, clip=area)
            chromium.close()


if __name__ == "__main__":
    main()
