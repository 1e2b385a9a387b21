"""Runs, alerts and incidents as a notebook shows them: a real IPython, no browser needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shiftwatch
from shiftwatch import Monitor
from shiftwatch.records import Alert, Incident
from tests.simulated import HOSTILE, empty_run, simulated

interactive = pytest.importorskip("IPython.core.interactiveshell")
captured = pytest.importorskip("IPython.utils.capture")
Config = pytest.importorskip("traitlets.config").Config


class _Elements(HTMLParser):
    """Elements of a text, and whether each that was opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def alert(**changes: Any) -> Alert:
    known: dict[str, Any] = dict(
        step=140, layer="fc1", tensor="output", kind="dead", severity="critical",
        metric="dead_fraction", value=0.9, limit=0.5, message="step 140 · fc1 · dead",
        advice="Lower the learning rate.", origin="fc1", incident=1, detected=150,
    )  # fmt: skip
    return Alert(**(known | changes))


def test_a_run_shows_verdict_facts_loss_and_incidents() -> None:
    text = simulated()._repr_html_()
    assert "2 incidents. It began in block1.norm at step 600" in text
    assert "Layers 12" in text and "<svg" in text and text.count("stroke-dasharray") == 2
    assert "block1.norm from step 600" in text
    assert "Nothing recorded" in empty_run()._repr_html_()
    assert "<svg" not in simulated(loss=False)._repr_html_()


def test_an_alert_shows_message_advice_and_origin() -> None:
    text = alert()._repr_html_()
    for words in ("step 140 · fc1 · dead", "Lower the learning rate.", "raised at step 150"):
        assert words in text
    assert "incident" not in alert(incident=0, severity="info")._repr_html_()


def test_an_incident_shows_origin_state_and_followers() -> None:
    text = Incident(2, "fc1", 140, 150, "warning", ("dead",), ("fc2",), cleared=180)._repr_html_()
    for words in ("2. fc1 from step 140: dead", "cleared at step 180", "followed by fc2"):
        assert words in text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup_and_nothing_is_fetched(name: str) -> None:
    run = simulated(names=[name, "plain.a", "plain.b"], windows=20)
    pieces = [
        run._repr_html_(),
        alert(message=name, advice=name, origin=name)._repr_html_(),
        Incident(1, name, 0, 1, name, (name,), (name,))._repr_html_(),
    ]
    for text in pieces:
        elements = _Elements(text)
        assert set(elements.names) <= {"div", "svg", "path"}
        assert not {a for a in elements.attributes if a.startswith("on")}
        assert not re.search(r"url\(|href|src=", re.sub(r"&lt;.*?&gt;", "", text))


def train(monitor: Monitor, steps: int) -> None:
    rng = np.random.default_rng(0)
    for step in range(steps):
        monitor.observe("fc1", rng.normal(size=(32, 16)))
        monitor.step(loss=1 / (step + 1))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """IPython, as a notebook runs it; nothing of it is kept."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    interactive.InteractiveShell.clear_instance()
    made = interactive.InteractiveShell.instance(
        config=Config({"HistoryManager": {"enabled": False}})
    )
    yield made
    interactive.InteractiveShell.clear_instance()


def test_show_shows_the_monitor_and_again_in_the_same_place(shell: Any) -> None:
    monitor = Monitor(run=False)
    with captured.capture_output() as first:
        train(monitor, 20)
        monitor.show()
        train(monitor, 40)
        monitor.show()
    shell.execution_count += 1  # another cell
    with captured.capture_output() as second:
        monitor.show()
    assert [o.update for o in first.outputs] == [False, True]
    identities = [o.transient["display_id"] for o in (*first.outputs, *second.outputs)]
    assert identities[0] == identities[1] != identities[2]
    assert "Healthy: no alert" in first.outputs[1].data["text/html"]
    assert "steps 0 to" in first.outputs[1].data["text/plain"]


def test_show_prints_where_there_is_no_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    interactive.InteractiveShell.clear_instance()
    monitor = Monitor(run=False)
    train(monitor, 20)
    monitor.show()
    assert capsys.readouterr().out.startswith("Run in memory")


def test_a_run_of_a_folder_shows_where_it_lies(tmp_path: Path) -> None:
    with Monitor(run=tmp_path / "<first>") as monitor:
        train(monitor, 20)
    text = shiftwatch.open(tmp_path / "<first>")._repr_html_()
    assert "&lt;first&gt;" in text and "<first>" not in text
