"""The report of large runs: time to write, size, time to the first picture, interaction, memory.

    python benchmarks/report.py [--quick] [--repeats 9] [--results FILE]

Runs are made here, of normal values whose size and place wander, with one fault: 160 layers ×
10,000 windows, 2,000 layers × 1,000 windows, and a folder of 1 GB. Each report is written by a
process of its own (its time and its peak of memory, without what the imports take), then opened in
the system's Chromium: until the first picture, and until the frame after each of some interactions,
several times. Saved in ``benchmarks/results/report.json``, from which ``benchmarks/tables.py``
fills docs/report.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import shiftwatch
from shiftwatch.history import Window
from shiftwatch.records import INPUT, Alert, Event, Incident, Layer, Site
from shiftwatch.store import Writer
from shiftwatch.summaries import Block, Summary
from shiftwatch.summaries import measure as summarized

RESULTS = Path(__file__).parent / "results" / "report.json"
_KEYS = ("mean_shift", "variance_shift", "kl", "js", "psi", "wasserstein", "saturation",
         "dead_fraction", "zero_fraction", "nonfinite", "std", "rms", "kurtosis")  # fmt: skip
_STEPS = 10  # per window
_REST = 200  # milliseconds before each interaction
_DISTINCT = 64  # windows really sampled; the others are mixtures of them

#: Name, layers, windows, bytes at which to stop.
CASES = (
    ("160 layers × 10,000 windows", 160, 10_000, None),
    ("2,000 layers × 1,000 windows", 2_000, 1_000, None),
    ("a folder of 1 GB", 160, 100_000, 1_000_000_000),
)
QUICK = (
    ("160 layers × 500 windows", 160, 500, None),
    ("500 layers × 60 windows", 500, 60, None),
    ("a folder of 20 MB", 160, 100_000, 20_000_000),
)


def recorded(folder: Path, layers: int, windows: int, size: int | None) -> int:
    """Write a run as a training would; the number of windows."""
    rng = np.random.default_rng(0)
    drawn = [_sampled(rng, layers) for _ in range(_DISTINCT)]
    onset = 0
    with Writer(folder, {"name": "benchmark"}, limit=1_000_000, size=1 << 40) as writer:
        for i in range(layers):
            name = f"blocks.{i // 8}.{('norm1', 'attn.q', 'attn.k', 'attn.v', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')[i % 8]}"
            before = INPUT if not i else ""
            writer.site(Site(name), Layer(name, "Linear", "", True, (before,)))
        for number in range(windows):
            if size is not None and number % 256 == 0 and _bytes(folder) > size:
                windows = number
                break
            summary = _mixed(rng, drawn)
            metrics = {key: np.abs(rng.normal(0.1, 0.03, layers)) for key in _KEYS}
            metrics["mean_shift"] = rng.normal(0, 0.1, layers)
            first = number * _STEPS
            losses = 2 * np.exp(-number / windows) + 0.1 * rng.normal(size=_STEPS)
            writer.window(Window(first, first + _STEPS - 1, summary, metrics, losses, 0.01))
            if number == windows // 2:
                onset = first
                writer.event(Event(first, "learning_rate", "0.1 to 0.01"))
        layer = "blocks.3.attn.v"
        words = f"step {onset} · {layer} output · mean_shift: mean moved by 4 standard deviations"
        writer.alert(Alert(onset, layer, "output", "mean_shift", "critical", "mean_shift", 4.0, 1.0,
                           words, "Look at it first.", layer, 1, onset + 10))  # fmt: skip
        writer.incident(Incident(1, layer, onset, onset + 10, "critical", ("mean_shift",)))
        writer.close({"finished": True})
    return windows


def _sampled(rng: np.random.Generator, layers: int) -> Summary:
    """2,048 values of each layer, of a size and a place of its own."""
    size = np.exp(rng.normal(0, 0.2, (layers, 1, 1)))
    place = rng.normal(0, 0.2, (layers, 1, 1))
    values = size * (rng.normal(size=(1, layers, 32, 64)) + place)
    return summarized(Block(values, np.ones((1, layers), bool)))[0]


def _mixed(rng: np.random.Generator, drawn: list[Summary]) -> Summary:
    """Each site from one of the drawn windows: no two windows are alike, as in a training."""
    a = drawn[rng.integers(len(drawn))]
    b = drawn[rng.integers(len(drawn))]
    sites = a.shape[0]
    both = Summary.concatenate([replace(a, units=None), replace(b, units=None)])
    return both[np.arange(sites) + sites * rng.integers(0, 2, sites)]


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def written(folder: Path, page: Path) -> dict[str, float]:
    """Write the report, here and now: seconds, and the peak of memory over that of the imports."""
    from shiftwatch.report import write

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, busy = time.perf_counter(), time.process_time()
    run = shiftwatch.open(folder)
    opened = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write(run, page)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kilo = 1024 if sys.platform != "darwin" else 1
    return {
        "opened": opened,
        "seconds": seconds,
        "processor": time.process_time() - busy,
        "open_bytes": (after - before) * kilo,
        "peak_bytes": (peak - before) * kilo,
        "page_bytes": page.stat().st_size,
    }


#: What is done to the page, each once per repeat: name to a script that returns when it was done.
INTERACTIONS = {
    "choose a metric": """i => { const s = document.querySelector('#metric');
        s.selectedIndex = (s.selectedIndex + 1) % s.options.length; s.dispatchEvent(new Event('change')); }""",
    "open a layer": "() => document.querySelector('#next').click()",
    "zoom": """i => { location.hash = `#step=10&from=${100 * (i + 1)}&to=${3000 + 100 * i}`; }""",
    "all steps": "() => document.querySelector('#reset').click()",
    "filter": """i => { const f = document.querySelector('#filter');
        f.value = ['attn', 'mlp', ''][i % 3]; f.dispatchEvent(new Event('input')); }""",
    "fold a block": "() => document.querySelector('#fold').click()",
    "point": """i => { const c = document.querySelector('#map canvas'), b = c.getBoundingClientRect();
        c.dispatchEvent(new PointerEvent('pointermove',
            {bubbles: true, clientX: b.left + 300 + 10 * i, clientY: b.top + 60})); }""",
}

_UNTIL_PAINTED = """([act, i]) => new Promise((done) => {
  const begun = performance.now();
  eval('(' + act + ')')(i);
  requestAnimationFrame(() => { const port = new MessageChannel(); port.port1.onmessage = () => done(performance.now() - begun); port.port2.postMessage(0); });
})"""


def looked_at(page: Path, repeats: int) -> dict[str, list[float]]:
    """Milliseconds until the first picture, and until the frame after each interaction."""
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or sys.exit("Chromium is needed: .ci/browser installs it.")
    times: dict[str, list[float]] = {"first picture": [], **{name: [] for name in INTERACTIONS}}
    # The page's policy allows no eval; the context that measures is let past it, nothing else.
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for repeat in range(repeats):
            context = chromium.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("body[data-ready='1']", timeout=60_000)
            mark = "performance.getEntriesByName('drawn')[0].startTime"
            times["first picture"].append(tab.evaluate(mark))
            if repeat == repeats - 1:
                tab.locator("#map").scroll_into_view_if_needed()
                for i in range(repeats):
                    for name, act in INTERACTIONS.items():
                        tab.wait_for_timeout(_REST)  # what is out of sight is drawn meanwhile
                        times[name].append(tab.evaluate(_UNTIL_PAINTED, [act, i]))
            context.close()
        chromium.close()
    return times


def measured(
    case: tuple[str, int, int, int | None], repeats: int, keep: Path | None
) -> list[dict[str, Any]]:
    """Rows of one case: the file, and each time in the browser."""
    name, layers, windows, size = case
    with tempfile.TemporaryDirectory() as scratch:
        folder = (keep or Path(scratch)) / f"{layers}-{windows}"
        page = Path(scratch) / "report.html"
        if not folder.exists():
            windows = recorded(folder, layers, windows, size)
        runs = []
        for _ in range(3):
            command = [sys.executable, __file__, "--write", str(folder), str(page)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout))
        facts = {key: float(np.median([r[key] for r in runs])) for key in runs[0]}
        facts |= {
            "folder_bytes": _bytes(folder),
            "layers": layers,
            "windows": len(shiftwatch.open(folder)),
        }
        rows = [{"case": name, "what": "file", **facts}]
        print(name, json.dumps(facts))
        for what, values in looked_at(page, repeats).items():
            low, middle, high = np.percentile(values, [25, 50, 75]).tolist()
            rows.append({"case": name, "what": what, "low": low, "median": middle, "high": high})
            print(f"  {what}: {middle:.0f} ms [{low:.0f}, {high:.0f}]")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small runs, nothing saved")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, help="folder to keep the runs in, for another time")
    parser.add_argument("--only", type=int, help="number of the one case to measure")
    parser.add_argument("--write", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(json.dumps(written(*options.write)))
        return
    cases = QUICK if options.quick else CASES
    cases = cases if options.only is None else cases[options.only : options.only + 1]
    rows = [row for case in cases for row in measured(case, options.repeats, options.keep)]
    if not options.quick:
        import measure as record

        record.save(options.results, rows, "case", "what")


if __name__ == "__main__":
    main()
