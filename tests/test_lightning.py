"""The Lightning callback with real trainers, on the CPU."""

from __future__ import annotations

import copy
import csv
import json
import logging
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pl = pytest.importorskip("pytorch_lightning")
torch = pytest.importorskip("torch")

import shiftwatch  # noqa: E402
from shiftwatch.comparison.alignment import pair_windows  # noqa: E402
from shiftwatch.epochs import epochs  # noqa: E402
from shiftwatch.integrations.lightning import ShiftWatch  # noqa: E402
from shiftwatch.reporters import JsonlReporter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # Lightning's own

BATCH = 8


class Net(pl.LightningModule):
    """Four layers on noise; what happens at a step is up to the test."""

    def __init__(self, at=None):
        super().__init__()
        self.at = at or {}
        self.seen, self.validated = [], 0
        nn = torch.nn
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 1))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, number):
        if number in self.at:
            self.at[number](self)
        loss = (self(batch[0]) - batch[1]).square().mean()
        self.seen.append(loss.item())
        return loss

    def validation_step(self, batch, number):
        self.validated += 1
        self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def data(batches=32):
    torch.manual_seed(0)
    x = torch.randn(batches * BATCH, 6)
    y = x[:, :1] * 0.5
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=BATCH)


def trainer(folder, *callbacks, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"enable_checkpointing": False, "num_sanity_val_steps": 0, "max_epochs": 1}
    return pl.Trainer(
        accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **quiet | options
    )


def net(**options):
    torch.manual_seed(1)
    return Net(**options)


def poison(module):
    with torch.no_grad():
        module.net[2].weight[0, 0] = float("nan")


def hooks(module):
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in module.modules()
    )


def test_fit_is_watched_and_the_run_lies_in_the_trainers_folder(tmp_path):
    callback = ShiftWatch()
    assert callback.monitor is None and callback.alerts == []
    module = net()
    trainer(tmp_path, callback).fit(module, data())
    run = shiftwatch.open(callback.monitor.run)
    assert tmp_path in callback.monitor.run.parents
    assert run.meta["finished"] and run.steps[-1] == 31
    assert {"net.0", "net.1", "net.2", "net.3"} <= set(run.layers)
    assert hooks(module) == 0


def test_what_is_learned_is_the_same_to_the_last_bit(tmp_path):
    watched, alone = net(), net()
    trainer(tmp_path, ShiftWatch(run=False)).fit(watched, data())
    trainer(tmp_path).fit(alone, data())
    assert watched.seen == alone.seen
    for a, b in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_is_an_optimizer_step_and_its_loss_the_mean_of_its_batches(tmp_path):
    callback = ShiftWatch(run=False)
    module = net()
    trainer(tmp_path, callback, accumulate_grad_batches=4).fit(module, data(64))
    assert callback.monitor.steps == 16
    seen = torch.tensor(module.seen).reshape(2, 8, 4).mean((1, 2))
    assert callback.monitor.history.losses.tolist() == pytest.approx(seen.tolist(), rel=1e-5)


def test_the_last_step_of_an_epoch_counts_though_its_batches_are_fewer(tmp_path):
    callback = ShiftWatch(run=False)
    fit = trainer(tmp_path, callback, accumulate_grad_batches=4, max_epochs=2)
    fit.fit(net(), data(10))
    assert callback.monitor.steps == fit.global_step == 6


def test_epochs_are_noted_by_optimizer_step_and_align_runs_of_other_batches(tmp_path):
    """Epochs of 8 steps, and of 3, whose last one has fewer batches."""
    runs = []
    for batches, accumulated in ((8, 1), (10, 4)):
        callback = ShiftWatch(run=False)
        fit = trainer(tmp_path, callback, max_epochs=6, accumulate_grad_batches=accumulated)
        fit.fit(net(), data(batches))
        runs.append(callback.monitor.history)
        assert epochs(runs[-1]) == {fit.global_step // 6 * e: e for e in range(6)}
    assert pair_windows(*runs, "epoch").at[-1] == pytest.approx(6.0)
    assert shiftwatch.compare(*runs, align="epoch").against[0].aligned.first_a[-1] > 40 - 8


class Manual(Net):
    """Two optimizers, as a GAN has them."""

    automatic_optimization = False

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, number):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            loss = self(batch[0]).square().mean()
            self.manual_backward(loss)
            optimizer.step()
        return {"loss": loss}

    def configure_optimizers(self):
        layers = (self.net[0], self.net[2])
        return [torch.optim.SGD(layer.parameters(), lr=0.01) for layer in layers]


def test_manual_optimisation_with_two_optimizers_is_one_step_per_batch(tmp_path):
    callback = ShiftWatch(run=False)
    fit = trainer(tmp_path, callback)
    fit.fit(Manual(), data(16))
    assert (fit.global_step, callback.monitor.steps) == (32, 16)


def test_validation_inside_fit_is_kept_apart_as_eval(tmp_path):
    callback = ShiftWatch(run=False)
    trainer(tmp_path, callback, num_sanity_val_steps=2, max_epochs=2).fit(net(), data(), data(4))
    modes = {site.mode for site in callback.monitor.history.sites if site.tensor == "output"}
    assert modes == {"train", "eval"}


def test_the_sanity_check_is_not_recorded(tmp_path):
    callback = ShiftWatch(run=False)
    fit = trainer(tmp_path, callback, num_sanity_val_steps=2, check_val_every_n_epoch=2)
    module = net()
    fit.fit(module, data(), data(4))
    assert module.validated == 2, "there was a sanity check, and no other validation"
    assert {site.mode for site in callback.monitor.history.sites} == {"train"}


def test_validate_and_test_on_their_own_attach_nothing(tmp_path):
    callback = ShiftWatch(run=tmp_path / "run")
    trainer(tmp_path, callback).validate(net(), data(2), verbose=False)
    assert callback.monitor is None and not (tmp_path / "run").exists()


def test_a_trial_run_leaves_no_folder(tmp_path):
    callback = ShiftWatch(run=tmp_path / "run")
    trainer(tmp_path, callback, fast_dev_run=True).fit(net(), data())
    assert callback.monitor.run is None and callback.monitor.steps == 1
    assert not (tmp_path / "run").exists()


def end_of(path):
    return json.loads(path.read_text().splitlines()[-1])


def stumble(error):
    def raises(module):
        raise error

    return raises


def test_an_error_in_training_comes_through_and_the_run_is_closed(tmp_path):
    callback = ShiftWatch(run=tmp_path / "run", reporters=[JsonlReporter(tmp_path / "log.jsonl")])
    module = net(at={20: stumble(RuntimeError("bad batch"))})
    with pytest.raises(RuntimeError, match="bad batch"):
        trainer(tmp_path, callback).fit(module, data())
    assert hooks(module) == 0 and end_of(tmp_path / "log.jsonl")["final"]
    run = shiftwatch.open(tmp_path / "run")
    assert run.meta["finished"] and run.steps[-1] == 19
    assert any(event.kind == "exception" for event in run.events)


def test_control_c_closes_the_run_too(tmp_path):
    callback = ShiftWatch(run=tmp_path / "run", reporters=[JsonlReporter(tmp_path / "log.jsonl")])
    module = net(at={20: stumble(KeyboardInterrupt())})
    with pytest.raises(SystemExit):
        trainer(tmp_path, callback).fit(module, data())
    assert hooks(module) == 0 and end_of(tmp_path / "log.jsonl")["final"]


def test_a_second_fit_is_the_next_attempt(tmp_path):
    callback = ShiftWatch(run=tmp_path / "run")
    for _ in range(2):
        trainer(tmp_path, callback).fit(net(), data(16))
        assert callback.monitor.steps == 16
    assert shiftwatch.open(tmp_path / "run").attempts == ["attempt-001", "attempt-002"]


def test_two_trainings_without_run_do_not_meet(tmp_path):
    folders = set()
    for _ in range(2):
        callback = ShiftWatch()
        trainer(tmp_path, callback).fit(net(), data(8))
        folders.add(callback.monitor.run)
    assert len(folders) == 2


def test_stop_on_ends_training_in_order(tmp_path, caplog):
    callback = ShiftWatch(run=False, stop_on="critical")
    fit = trainer(tmp_path, callback, max_epochs=5)
    fit.fit(net(at={20: poison}), data())
    assert 20 < callback.monitor.steps < 32 and fit.current_epoch <= 1
    (first, *_) = callback.alerts
    assert (first.kind, first.severity) == ("nonfinite", "critical")
    assert "training ends here (stop_on='critical')" in caplog.text


def test_without_stop_on_training_goes_on_and_the_alert_is_logged(tmp_path, caplog):
    callback = ShiftWatch(run=False)
    trainer(tmp_path, callback).fit(net(at={20: poison}), data())
    assert callback.monitor.steps == 32
    said = [record for record in caplog.records if record.name == "shiftwatch"]
    assert callback.alerts and callback.alerts[0].message in said[0].getMessage()


def test_an_unknown_stop_on_is_refused():
    with pytest.raises(ValueError, match="stop_on must be"):
        ShiftWatch(stop_on="info")


# checkpoints


def saved(folder, **options):
    callback = ShiftWatch(**options)
    fit = trainer(folder, callback)
    fit.fit(net(), data(24))
    fit.save_checkpoint(folder / "a.ckpt")
    return callback


@pytest.mark.parametrize("run", ["named", None])
def test_resuming_goes_on_in_the_run_where_the_checkpoint_was_saved(tmp_path, run):
    options = {} if run is None else {"run": tmp_path / run}
    first = saved(tmp_path, **options)
    callback = ShiftWatch(**options)
    trainer(tmp_path, callback, max_epochs=2).fit(net(), data(24), ckpt_path=tmp_path / "a.ckpt")
    assert callback.monitor.run == first.monitor.run
    run = shiftwatch.open(callback.monitor.run)
    assert callback.monitor.steps == 48 and run.steps[-1] == 47 and run.first[0] == 0
    assert run.attempts == ["attempt-001"]


def test_resuming_elsewhere_goes_on_in_a_run_of_its_own(tmp_path):
    saved(tmp_path, run=tmp_path / "first")
    callback = ShiftWatch(run=tmp_path / "second")
    trainer(tmp_path, callback, max_epochs=2).fit(net(), data(24), ckpt_path=tmp_path / "a.ckpt")
    run = shiftwatch.open(tmp_path / "second")
    assert callback.monitor.steps == 48 and run.steps[-1] == 47 and run.first[0] == 24
    assert shiftwatch.open(tmp_path / "first").steps[-1] == 23


@pytest.mark.parametrize("at", [24, 30])
def test_epochs_are_those_of_the_training_also_where_it_was_resumed(tmp_path, at):
    """At the end of the first, and in the middle of the second, which is not begun twice."""
    keeper = pl.callbacks.ModelCheckpoint(tmp_path, "a", every_n_train_steps=at)
    callback = ShiftWatch(run=tmp_path / "run")
    options = {"enable_checkpointing": True, "max_epochs": 2, "max_steps": 40}
    trainer(tmp_path, callback, keeper, **options).fit(net(), data(24))
    callback = ShiftWatch(run=tmp_path / "run")
    trainer(tmp_path, callback, max_epochs=3).fit(net(), data(24), ckpt_path=tmp_path / "a.ckpt")
    assert callback.monitor.steps == 72
    run = shiftwatch.open(tmp_path / "run")
    assert f"resumed at step {at}" in [event.detail for event in run.events]
    assert epochs(run) == {0: 0, 24: 1, 48: 2}


def test_a_run_resumed_elsewhere_is_held_against_the_same_epochs(tmp_path):
    callback = ShiftWatch(run=tmp_path / "whole")
    trainer(tmp_path, callback, max_epochs=3).fit(net(), data(24))
    saved(tmp_path, run=tmp_path / "first")
    callback = ShiftWatch(run=tmp_path / "second")
    trainer(tmp_path, callback, max_epochs=3).fit(net(), data(24), ckpt_path=tmp_path / "a.ckpt")
    whole, second = (shiftwatch.open(tmp_path / name) for name in ("whole", "second"))
    aligned = pair_windows(whole, second, "epoch")
    assert aligned.first_a[:5].tolist() == aligned.first_b[:5].tolist() == [24, 32, 40, 48, 56]
    assert aligned.at[-1] == pytest.approx(3.0)


def test_a_checkpoint_saved_without_shiftwatch_can_be_resumed_with_it(tmp_path):
    fit = trainer(tmp_path)
    fit.fit(net(), data(16))
    fit.save_checkpoint(tmp_path / "a.ckpt")
    callback = ShiftWatch(run=False)
    trainer(tmp_path, callback, max_epochs=2).fit(net(), data(16), ckpt_path=tmp_path / "a.ckpt")
    assert callback.monitor.steps == 16


def test_a_checkpoint_tested_in_between_does_not_leak_into_the_next_fit(tmp_path):
    saved(tmp_path, run=False)
    callback = ShiftWatch(run=False)
    fit = trainer(tmp_path, callback)
    fit.validate(net(), data(2), ckpt_path=tmp_path / "a.ckpt", verbose=False)
    fit.fit(net(), data(8))
    assert callback.monitor.steps == 8


def test_instances_that_differ_live_in_one_trainer(tmp_path):
    callbacks = [
        ShiftWatch(run=tmp_path / "a", layers=["net.0"]),
        ShiftWatch(run=tmp_path / "b"),
        ShiftWatch(run=False, every=2),
    ]
    trainer(tmp_path, *callbacks).fit(net(), data(16))
    assert [callback.monitor.steps for callback in callbacks] == [16] * 3
    outputs = [
        {s.layer for s in c.monitor.history.sites if s.tensor == "output"} for c in callbacks
    ]
    assert outputs[0] == {"net.0"} and len(outputs[1]) == 4


def test_a_callback_can_be_copied_and_sent_after_fit(tmp_path):
    callback = ShiftWatch(run=False, layers=["net.*"])
    trainer(tmp_path, callback).fit(net(), data(8))
    for other in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert other.monitor is None and other.state_key == callback.state_key
        trainer(tmp_path, other).fit(net(), data(8))
        assert other.monitor.steps == 8


# loggers


def test_rollups_reach_the_csv_logger_once_per_window(tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    callback = ShiftWatch()
    trainer(tmp_path, callback, logger=logger).fit(net(), data(24))
    assert callback.monitor.run == Path(logger.log_dir, "shiftwatch")
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["shiftwatch/overhead"]]
    assert [int(row["step"]) for row in rows] == [7, 15, 23]
    assert {"shiftwatch/worst_kl", "shiftwatch/layers_in_alarm"} <= set(rows[-1])


def test_rollups_reach_tensorboard(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from pytorch_lightning.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path)
    trainer(tmp_path, ShiftWatch(), logger=logger).fit(net(), data(24))
    read = events.EventAccumulator(logger.log_dir)
    read.Reload()
    assert [e.step for e in read.Scalars("shiftwatch/incidents")] == [7, 15, 23]


def test_wandb_gets_rollups_alerts_tables_and_report_without_set_up(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    import wandb

    from tests import wandb_file

    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    from pytorch_lightning.loggers import WandbLogger

    settings = wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True)
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="p", settings=settings)
    callback = ShiftWatch()
    trainer(tmp_path, callback, logger=logger).fit(net(at={20: poison}), data())
    file = wandb_file.finish(logger.experiment)
    rows = [row for row in wandb_file.history(file) if "shiftwatch/overhead" in row]
    assert [row["trainer/global_step"] for row in rows][:2] == [7, 15]
    assert rows[-1]["shiftwatch/incidents"] >= 1
    assert wandb_file.records(file, "alert")[0].title.startswith("nonfinite: ")
    assert "net.2" in wandb_file.table(file, "shiftwatch/layers")["layer"]
    assert "net.2" in wandb_file.page(file, "shiftwatch/report")


def test_a_logger_that_fails_is_said_once_and_training_goes_on(tmp_path, caplog):
    from pytorch_lightning.loggers import CSVLogger

    class Broken(CSVLogger):
        def log_metrics(self, metrics, step=None):
            raise OSError("no space left on device")

    callback = ShiftWatch(run=False)
    trainer(tmp_path, callback, logger=Broken(tmp_path)).fit(net(), data(24))
    assert callback.monitor.steps == 24
    errors = [r for r in caplog.records if r.name == "shiftwatch" and r.levelno >= logging.ERROR]
    assert len(errors) == 1 and "ToLoggers failed" in errors[0].getMessage()


# the two roots, the command line, several processes

PROGRAM = """
    import sys, warnings
    warnings.simplefilter("ignore")
    {first}
    import torch
    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)
        def training_step(self, batch, number):
            return self.layer(batch[0]).square().mean()
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)
    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            rows = torch.utils.data.TensorDataset(torch.randn(64, 4))
            return torch.utils.data.DataLoader(rows, batch_size=4)
    {then}
"""

FIT = """
    callback = ShiftWatch(run=False)
    fit = pl.Trainer(max_epochs=1, callbacks=[callback], logger=False, accelerator="cpu",
                     enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, default_root_dir=sys.argv[1])
    fit.fit(Net(), Data())
    assert callback.monitor.steps == 16, callback.monitor
    other = {"lightning.pytorch": "pytorch_lightning"}.get(pl.__name__, "lightning.pytorch")
    print("both" if other in sys.modules else "one")
"""


def program(first, then, *args, folder):
    code = textwrap.dedent(PROGRAM).format(
        first=textwrap.dedent(first).strip(),
        then=textwrap.dedent(then).strip(),
    )
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=120,
        cwd=folder, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "root", [pytest.param("pytorch_lightning", marks=pytest.mark.slow), "lightning.pytorch"]
)
def test_the_callback_is_of_the_root_that_is_loaded(root, tmp_path):
    pytest.importorskip(root)
    first = f"import {root} as pl\nfrom shiftwatch.integrations.lightning import ShiftWatch"
    done = program(first, FIT, str(tmp_path), folder=tmp_path)
    assert done.stdout.split()[-1:] == ["one"], done.stderr


@pytest.mark.slow
def test_imported_first_it_fits_both_roots_at_once(tmp_path):
    pytest.importorskip("lightning.pytorch")
    both = """
        from shiftwatch.integrations.lightning import ShiftWatch
        import pytorch_lightning, lightning.pytorch
        for pl in (pytorch_lightning, lightning.pytorch):
            isinstance(ShiftWatch(), pl.Callback) or sys.exit(f"no callback of {pl.__name__}")
    """
    done = program(both, FIT, str(tmp_path), folder=tmp_path)
    assert done.stdout.split()[-1:] == ["both"], done.stderr


CLI = """
    from {root}.cli import LightningCLI
    cli = LightningCLI(Net, Data)
    (callback,) = [c for c in cli.trainer.callbacks if isinstance(c, ShiftWatch)]
    print("made", callback.run, callback.stop_on, callback._options)
    if cli.subcommand == "fit":
        print("steps", callback.monitor.steps)
"""


@pytest.mark.slow
def test_the_lightning_command_line_knows_its_options(tmp_path):
    pytest.importorskip("jsonargparse")
    root = "pytorch_lightning"
    first = f"import {root} as pl\nfrom shiftwatch.integrations.lightning import ShiftWatch"
    name = "shiftwatch.integrations.lightning.ShiftWatch"
    common = ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.max_epochs=1",
              "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"]  # fmt: skip
    options = ["--trainer.callbacks.run=runs/a", "--trainer.callbacks.stop_on=critical",
               "--trainer.callbacks.layers=[layer]", "--trainer.callbacks.budget=0.1"]  # fmt: skip
    done = program(
        first, CLI.format(root=root), "fit", f"--trainer.callbacks={name}", *options, *common,
        folder=tmp_path,
    )  # fmt: skip
    assert "made runs/a critical {'layers': ['layer']" in done.stdout, done.stderr
    assert "steps 16" in done.stdout
    assert (tmp_path / "runs" / "a").is_dir()
    wrong = [*options[:1], "--trainer.callbacks.stop_on=never"]
    done = program(
        first, CLI.format(root=root), "fit", f"--trainer.callbacks={name}", *wrong, *common,
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2 and "stop_on" in done.stderr


RANKS = """
    class Broken(Net):
        def training_step(self, batch, number):
            if number == 20:
                with torch.no_grad():
                    self.layer.weight[0, 0] = float("nan")
            return super().training_step(batch, number)
    class Told:
        def __call__(self, report):
            if report.final:
                print("steps", report.step + 1)
    callback = ShiftWatch(run=sys.argv[1] + "/run", stop_on="critical", reporters=[Told()])
    fit = pl.Trainer(max_epochs=9, callbacks=[callback], logger=False, accelerator="cpu",
                     devices=2, strategy="ddp_fork", enable_checkpointing=False,
                     enable_progress_bar=False, enable_model_summary=False)
    rows = torch.utils.data.TensorDataset(torch.randn(256, 4))
    fit.fit(Broken(), torch.utils.data.DataLoader(rows, batch_size=4))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_of_several_processes_the_first_judges_and_all_stop_together(tmp_path):
    first = (
        "import pytorch_lightning as pl\nfrom shiftwatch.integrations.lightning import ShiftWatch"
    )
    done = program(first, RANKS, str(tmp_path), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("steps")]
    assert told == ["steps 32"], "judged after step 23, and they ask each other at every eighth"
    assert done.stderr.count("training ends here") == 1
    assert "nonfinite" in done.stderr, "heard, though nobody set up logging"


def test_without_lightning_the_error_says_how_to_get_it():
    code = (
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if 'lightning' in n else find(n, *a)\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('pytorch_lightning'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "sys.modules['shiftwatch.integrations.torch'] = type(sys)('torch')\n"
        "sys.modules['shiftwatch.integrations.torch'].watch = None  # 4 s that nobody needs\n"
        "import shiftwatch.integrations.lightning"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'shiftwatch[lightning]'" in done.stderr


TWO = """
    import json, logging, os, sys
    from pathlib import Path

    import pytorch_lightning as pl
    import torch
    from shiftwatch.integrations.lightning import ShiftWatch

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    said = []
    logging.getLogger("shiftwatch").addHandler(type("Say", (logging.Handler,), {
        "emit": lambda self, record: said.append(record.getMessage())})())

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            nn = torch.nn
            self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

        def training_step(self, batch, number):
            x = batch[0].clone()
            if self.global_rank == 1 and number == 20:
                x[0, 0] = float("nan")
            return (self.net(x) - 1).square().mean()

        def validation_step(self, batch, number):
            self.net(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    rows = torch.utils.data.TensorDataset(torch.randn(64 * 8 * 2, 6))
    loader = torch.utils.data.DataLoader(rows, batch_size=8)
    callback = ShiftWatch(run=folder / "run", stop_on="critical", **json.loads(sys.argv[2]))
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        num_sanity_val_steps=0, callbacks=[callback],
    )
    trainer.fit(Net(), loader, loader)
    rank = trainer.global_rank
    path = callback.monitor.run if callback.monitor is not None else None
    alerts = [(a.step, a.kind, a.message) for a in callback.alerts]
    (folder / f"rank{rank}.json").write_text(json.dumps(
        [alerts, said, path and str(path), trainer.global_step]))
"""


def ranks(folder, **options):
    """A fit in two processes; alerts, messages, run folder and steps of each."""
    script = folder / "train.py"
    script.write_text(textwrap.dedent(TWO))
    (folder / "rank0.json").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, script, folder, json.dumps(options)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [folder / f"rank{rank}.json" for rank in (0, 1)]
    return [json.loads(file.read_text()) for file in files]


def test_all_ranks_watch_and_the_first_one_writes(tmp_path):
    """A fault in one rank's data ends the fit on both, and is in the one run there is."""
    (alerts, said, path, steps), (others, silent, nowhere, stopped) = ranks(tmp_path)
    assert alerts and alerts == others
    assert alerts[0][:2] == [20, "nonfinite"] and "on rank 1" in alerts[0][2]
    assert path == str(tmp_path / "run") and nowhere is None
    assert not silent and not any("alone" in message for message in said)
    assert steps == stopped < 64
    run = shiftwatch.open(tmp_path / "run")
    assert [a.kind for a in run.alerts][:1] == ["nonfinite"]
    inputs = next(i for i, s in enumerate(run.sites) if s.layer == "net.0" and s.tensor == "output")
    assert int(run.summary(0).count[inputs]) == 2 * 8 * 8 * 16


def test_the_first_rank_alone_watches_its_share_where_that_is_asked_for(tmp_path):
    """As ``ranks="alone"`` says; nothing is said about it."""
    (alerts, said, path, _), (others, _, nowhere, _) = ranks(tmp_path, ranks="alone")
    assert path and nowhere is None and others == []
    assert alerts and not any("alone" in message for message in said)
