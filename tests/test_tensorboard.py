"""TensorBoard with the real package: events are read back as TensorBoard reads them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from shiftwatch.integrations.tensorboard import TensorBoardReporter
from shiftwatch.records import Alert, Incident, Report, Site

pytestmark = pytest.mark.filterwarnings("default")  # tensorboard's own

ALERT = Alert(
    10, "fc1", "output", "dead", "critical", "dead_fraction", 0.9, 0.5,
    "fc1 is dead", "look at the bias", "fc1", 1, 12,
)  # fmt: skip
INCIDENT = Incident(1, "fc1", 10, 12, "critical", ("dead",))


def reports():
    for step in (7, 15, 23):
        raised = {"alerts": (ALERT,), "incidents": (INCIDENT,)} if step == 15 else {}
        metrics = {"kl": np.array([step / 10]), "saturation": np.array([np.nan])}
        yield Report(step - 7, step, (Site("fc1"),), metrics, final=step == 23, **raised)


def read(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def check(events):
    kl = events.Scalars("shiftwatch/worst_kl")
    assert [(e.step, round(e.value, 6)) for e in kl] == [(7, 0.7), (15, 1.5), (23, 2.3)]
    assert [e.value for e in events.Scalars("shiftwatch/incidents")] == [0.0, 1.0, 1.0]
    assert "shiftwatch/worst_saturation" not in events.Tags()["scalars"], "NaN draws nothing"
    tag = "shiftwatch/alerts/dead/text_summary"
    (event,) = events.Tensors(tag)
    assert event.step == 12
    assert event.tensor_proto.string_val[0] == b"**critical** fc1 is dead\n\nlook at the bias"
    assert events.SummaryMetadata(tag).plugin_data.plugin_name == "text"


def test_a_folder_gets_scalars_and_alerts_as_text(tmp_path):
    reporter = TensorBoardReporter(tmp_path / "logs")
    for report in reports():
        reporter(report)
    check(read(tmp_path / "logs"))


def test_a_writer_of_yours_is_used_and_stays_open(tmp_path):
    torch_writer = pytest.importorskip("torch.utils.tensorboard")
    writer = torch_writer.SummaryWriter(str(tmp_path))
    reporter = TensorBoardReporter(writer)
    for report in reports():
        reporter(report)
    check(read(tmp_path))
    writer.add_scalar("loss", 1.0, 24)
    writer.close()
    assert [e.step for e in read(tmp_path).Scalars("loss")] == [24]


def test_no_other_framework_is_needed_to_write_events(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "sys.modules['torch'] = sys.modules['tensorflow'] = None\n"
        "from shiftwatch.records import Report, Site\n"
        "from shiftwatch.integrations.tensorboard import TensorBoardReporter\n"
        "report = Report(0, 7, (Site('fc1'),), {'kl': np.array([0.5])}, final=True)\n"
        "TensorBoardReporter(sys.argv[1])(report)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
    assert [e.value for e in read(tmp_path).Scalars("shiftwatch/worst_kl")] == [0.5]


def test_without_tensorboard_the_error_says_how_to_get_it():
    code = (
        "import sys; sys.modules['tensorboard'] = None\nimport shiftwatch.integrations.tensorboard"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'shiftwatch[tensorboard]'" in done.stderr
