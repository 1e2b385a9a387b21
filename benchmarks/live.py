"""What watching costs: the list of runs, tabs that wait, and how soon what was written is seen.

    python benchmarks/live.py [--runs 300] [--tabs 5] [--seconds 30] [--quick] [--results FILE]

A server in a process of its own, as ``shiftwatch serve`` starts it, over a folder of runs of a real
monitor (12 layers, 400 steps) and copies of them. *cold*: the first answer of a server that has read
nothing, every file in the system's cache. *warm*: the list again, when nothing changed. *one grew*:
again, when one run did. *idle*: processor time of the server while tabs wait, half of them at the list
and half at one report, each asking every two seconds, as a share of one core. *writing*: the same
while the run of that report grows by a window twice a second. *seen*: from the end of
``monitor.step``, with which a window is written, to the first answer that holds it, to a reader who
asks every 50 ms. Medians and quartiles. Saved in ``benchmarks/results/live.json``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import measure
import numpy as np
from measure import RESULTS

from shiftwatch import Monitor

LAYERS, STEPS = 12, 400
EVERY = 2.0  # seconds between two questions of a tab


def train(monitor: Monitor, steps: int, rng: np.random.Generator) -> None:
    """Steps of a training of twelve layers that learns nothing."""
    for _ in range(steps):
        for layer in range(LAYERS):
            monitor.observe(f"block{layer}", rng.normal(size=(32, 64)))
        monitor.step(loss=2 / (1 + 0.01 * monitor.steps))


def folder(top: Path, runs: int) -> None:
    """So many finished runs: one that was recorded, and copies of it."""
    with Monitor(run=top / "run000") as monitor:
        train(monitor, STEPS, np.random.default_rng(0))
    for number in range(1, runs):
        shutil.copytree(top / "run000", top / f"run{number:03d}")


class Asked:
    """A connection that is kept, as a browser does."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.tag = ""

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask; the tag of the last answer goes along."""
        self.connection.request("GET", path, headers={"If-None-Match": self.tag})
        answer = self.connection.getresponse()
        self.tag = answer.headers.get("ETag", self.tag)
        return answer.status, answer.read()

    def seconds(self, path: str) -> float:
        """Wall time of a question."""
        begin = time.perf_counter()
        self.get(path)
        return time.perf_counter() - begin


@contextmanager
def served(top: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a server."""
    command = [sys.executable, "-m", "shiftwatch", "serve", str(top), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2].partition("/")[0])
    try:
        yield port, process.pid
    finally:
        process.terminate()
        process.communicate()


def processor(pid: int) -> float:
    """Processor seconds of a process so far, as Linux counts them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listed(top: Path, times: int) -> dict[str, list[float]]:
    """Seconds of the list, cold, warm and with one run that grew."""
    found: dict[str, list[float]] = {"cold": [], "warm": [], "one grew": []}
    for _ in range(times):
        with served(top) as (port, _):
            client = Asked(port)
            client.get("/assets/runs.css")  # the process is up
            found["cold"].append(client.seconds("/runs"))
            version = json.loads(client.get("/runs")[1])["version"]
            time.sleep(2.5)  # times of files are trusted when they are older than two seconds
            client.get(f"/runs?since={version}")
            for _ in range(3):
                time.sleep(1.1)  # the folder is looked at once a second
                found["warm"].append(client.seconds(f"/runs?since={version}"))
                time.sleep(1.1)
                meta = top / "run000" / "attempt-001" / "meta.json"
                (meta.parent / "copy").write_bytes(meta.read_bytes())
                (meta.parent / "copy").replace(meta)
                found["one grew"].append(client.seconds(f"/runs?since={version}"))
    return found


def watched(top: Path, tabs: int, length: float, monitor: Monitor | None) -> float:
    """Share of a core that the server takes while tabs ask it."""
    rng = np.random.default_rng(1)
    stop = threading.Event()

    def tab(number: int, port: int) -> None:
        client = Asked(port)
        version = 0
        stop.wait(number * EVERY / tabs)
        while not stop.is_set():
            if number % 2:
                status, body = client.get(f"/runs?since={version}")
                version = json.loads(body)["version"] if status == 200 else version
            else:
                client.get("/run/writing/update")
            stop.wait(EVERY)

    def write() -> None:
        while monitor is not None and not stop.wait(0.5):
            train(monitor, 8, rng)

    with served(top) as (port, pid):
        threads = [threading.Thread(target=tab, args=(n, port)) for n in range(tabs)]
        threads.append(threading.Thread(target=write))
        for thread in threads:
            thread.start()
        time.sleep(3 * EVERY)  # what is read once has been read
        before, begin = processor(pid), time.perf_counter()
        time.sleep(length)
        share = (processor(pid) - before) / (time.perf_counter() - begin)
        stop.set()
        for thread in threads:
            thread.join()
    return share


def seen(top: Path, monitor: Monitor, times: int) -> list[float]:
    """Seconds from a window's last step to the first answer that holds it."""
    rng = np.random.default_rng(2)
    found = []
    with served(top) as (port, _):
        client = Asked(port)
        client.get("/run/writing/update")
        for _ in range(times):
            while client.get("/run/writing/update")[0] != 304:
                time.sleep(0.05)
            time.sleep(float(rng.uniform(0.5, 1.5)))
            train(monitor, 16, rng)
            begin = time.perf_counter()
            while client.get("/run/writing/update")[0] != 200:
                time.sleep(0.05)
            found.append(time.perf_counter() - begin)
    return found


def told(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return [values[0]] * 3
    low, _, high = statistics.quantiles(values, n=4)
    return [low, statistics.median(values), high]


def main() -> None:
    """Run, print the table, save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--tabs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="that tabs are watched")
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="20 runs, once, and save nothing")
    parser.add_argument("--results", type=Path, help="file to write the figures into")
    given = parser.parse_args()
    runs, times = (20, 1) if given.quick else (given.runs, given.times)
    length = 3.0 if given.quick else given.seconds
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        folder(top, runs)
        rows |= {f"list, {key}, ms": [1e3 * v for v in told(values)]
                 for key, values in listed(top, times).items()}  # fmt: skip
        monitor = Monitor(run=top / "writing")
        train(monitor, STEPS, np.random.default_rng(3))
        idle = [watched(top, given.tabs, length, None) for _ in range(times)]
        rows["idle, % of a core"] = [1e2 * v for v in told(idle)]
        writing = [watched(top, given.tabs, length, monitor) for _ in range(times)]
        rows["writing, % of a core"] = [1e2 * v for v in told(writing)]
        rows["seen, s"] = told(seen(top, monitor, 3 * times))
        monitor.close()
    print(f"{runs} runs, {given.tabs} tabs{'':>16}  quartile    median  quartile")
    for name, values in rows.items():
        print(f"{name:32}" + "".join(f"{v:10.2f}" for v in values))
    path = given.results or (None if given.quick else RESULTS / "live.json")
    if path is not None:
        known = measure.conditions(False, given.quick) | {"runs": runs, "tabs": given.tabs}
        measure.save(path, [known | {"name": n, "quartiles": v} for n, v in rows.items()], "name")


if __name__ == "__main__":
    main()
