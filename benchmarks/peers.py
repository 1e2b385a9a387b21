"""What is measured: shiftwatch, floors to hold it against, and its peers.

A variant is attached to a model and its optimizer; then ``after_step(loss)`` is called once per
step, and ``close()`` at the end. Peers are the installed packages themselves (``peers.txt`` says
how to install them); where a package only works inside its own trainer, its callback is called
in the trainer's place, with nothing between. A peer's figure is what its computation costs,
without the sending to a server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Attached:
    """Something that watches a training. This one does nothing."""

    #: shiftwatch's monitor, where there is one.
    monitor: Any = None

    def __init__(self, after_step: Callable[[Tensor], Any] | None = None, *close: Any) -> None:
        self._after, self._close = after_step, close

    def after_step(self, loss: Tensor) -> None:
        if self._after is not None:
            self._after(loss)

    def close(self) -> None:
        for one in self._close:
            one()


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Args:
        name: as in the table.
        attach: ``(model, optimizer)`` to :class:`Attached`.
        sees: what it looks at.
        needs: modules without which it is "not installed".
        every: it works at every so manieth step, and idles between.
        dense: name of the row that works at every step, where ``every`` is not 1.
    """

    name: str
    attach: Callable[[nn.Module, Optimizer], Attached]
    sees: str
    needs: tuple[str, ...] = ()
    every: int = 1
    dense: str = ""

    def missing(self) -> list[str]:
        """What of its needs is not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def leaves(model: nn.Module) -> list[nn.Module]:
    """Modules that hold no others."""
    return [m for m in model.modules() if next(m.children(), None) is None]


# --- floors ------------------------------------------------------------------------------------


def nothing(model: nn.Module, optimizer: Optimizer) -> Attached:
    return Attached()


def empty_hook(model: nn.Module, optimizer: Optimizer) -> Attached:
    handles = [m.register_forward_hook(lambda m, i, o: None) for m in leaves(model)]
    return Attached(None, *(h.remove for h in handles))


def read_pass(model: nn.Module, optimizer: Optimizer) -> Attached:
    """The least that looking at every value costs; nothing waits, the sums stay on the device."""
    sums: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sums[module] = output.detach().sum()
        else:
            sums[module] = sum(x.detach().sum() for x in output if isinstance(x, Tensor))  # type: ignore[assignment]

    handles = [m.register_forward_hook(hook) for m in leaves(model)]
    return Attached(None, *(h.remove for h in handles))


# --- shiftwatch --------------------------------------------------------------------------------


def shiftwatch(**options: Any) -> Callable[[nn.Module, Optimizer], Attached]:
    """``watch()`` with these options, recording into a folder as it does by default."""

    def attach(model: nn.Module, optimizer: Optimizer) -> Attached:
        from shiftwatch.integrations.torch import watch

        logging.getLogger("shiftwatch").setLevel(logging.ERROR)
        folder = tempfile.mkdtemp()
        monitor = watch(model, optimizer=optimizer, **{"run": folder, **options})
        attached = Attached(
            lambda loss: monitor.step(loss=loss),
            monitor.close,
            lambda: shutil.rmtree(folder, ignore_errors=True),
        )
        attached.monitor = monitor
        return attached

    return attach


# --- peers -------------------------------------------------------------------------------------


def wandb_watch(every: int) -> Callable[[nn.Module, Optimizer], Attached]:
    """``wandb.watch(log="all")`` in an offline run, and ``run.log`` of the loss at every step."""

    def attach(model: nn.Module, optimizer: Optimizer) -> Attached:
        import wandb

        folder = tempfile.mkdtemp()
        run = wandb.init(
            mode="offline", dir=folder, settings=wandb.Settings(silent=True, console="off")
        )
        run.watch(model, log="all", log_freq=every)
        return Attached(
            lambda loss: run.log({"loss": loss.item()}),
            run.finish,
            lambda: shutil.rmtree(folder, ignore_errors=True),
        )

    return attach


def fastai_stats(**options: Any) -> Callable[[nn.Module, Optimizer], Attached]:
    """fastai's ActivationStats, called as its Learner calls it."""

    def attach(model: nn.Module, optimizer: Optimizer) -> Attached:
        from fastai.callback.hook import ActivationStats

        stats = ActivationStats(**options)
        stats.learn = SimpleNamespace(model=model, training=True, train_iter=0)
        stats.before_fit()

        def after_step(loss: Tensor) -> None:
            stats.after_batch()
            stats.learn.train_iter += 1
            stats.before_batch()

        return Attached(after_step, stats.after_fit)

    return attach


def torchexplorer(every: int) -> Callable[[nn.Module, Optimizer], Attached]:
    """torchexplorer without a backend to send to. Its hooks cannot be removed."""

    def attach(model: nn.Module, optimizer: Optimizer) -> Attached:
        import torchexplorer as package

        package.watch(model, log_freq=every, backend="none", verbose=False)
        return Attached()

    return attach


def delve(model: nn.Module, optimizer: Optimizer) -> Attached:
    """delve's covariances; its eigenvalues, due once per epoch, are left out."""
    from delve import SaturationTracker

    folder = tempfile.mkdtemp()
    SaturationTracker(folder, save_to="csv", modules=model, device="cpu")
    return Attached(None, lambda: shutil.rmtree(folder, ignore_errors=True))


def composer_monitor(every: int) -> Callable[[nn.Module, Optimizer], Attached]:
    """Composer's ActivationMonitor, called as its Trainer calls it, logging nowhere."""

    def attach(model: nn.Module, optimizer: Optimizer) -> Attached:
        with _stubs(
            ("composer.core", {"Callback": object, "State": object, "Time": _Time,
                               "TimeUnit": SimpleNamespace(BATCH="ba", EPOCH="ep")}),
            ("composer.loggers", {"Logger": object}),
            ("composer.loggers.wandb_logger", {"WandBLogger": type("WandBLogger", (), {})}),
        ):  # fmt: skip
            module = _from_file("composer", "callbacks/activation_monitor.py")
        monitor = module.ActivationMonitor(interval=f"{every}ba")
        batch = SimpleNamespace(value=0)
        state = SimpleNamespace(
            model=model, timestamp=SimpleNamespace(get=lambda unit: batch, batch=batch)
        )
        logger = SimpleNamespace(destinations=(), log_metrics=lambda metrics: None)

        def after_step(loss: Tensor) -> None:
            monitor.after_forward(state, logger)
            batch.value += 1
            monitor.before_forward(state, logger)

        monitor.before_forward(state, logger)
        return Attached(after_step, monitor.remove_forward_hooks)

    return attach


class _Time:
    """As much of Composer's Time as its monitor uses."""

    unit = "ba"

    def __init__(self, text: str) -> None:
        self.value = int(text.removesuffix("ba"))

    def __lt__(self, other: _Time) -> bool:
        return self.value < other.value

    @classmethod
    def from_input(cls, text: str, unit: str) -> _Time:
        return cls(text)

    from_timestring = classmethod(lambda cls, text: cls(text))


def bolts_monitor(every: int) -> Callable[[nn.Module, Optimizer], Attached]:
    """Lightning-Bolts' ModuleDataMonitor of all modules, into TensorBoard's files."""

    def attach(model: nn.Module, optimizer: Optimizer) -> Attached:
        from torch.utils.tensorboard import SummaryWriter

        folder = tempfile.mkdtemp()
        logger_class = type("TensorBoardLogger", (), {})
        names = {"Callback": object, "LightningModule": nn.Module, "Trainer": object}
        loggers = {"TensorBoardLogger": logger_class, "WandbLogger": type("WandbLogger", (), {})}
        with _stubs(
            ("pytorch_lightning", names),
            ("pytorch_lightning.loggers", {**loggers, "Logger": object}),
            ("pytorch_lightning.utilities", {"rank_zero_warn": warnings.warn}),
            ("pytorch_lightning.utilities.apply_func",
             {"apply_to_collection": lambda data, dtype, function: data}),
            ("pl_bolts.utils", {"_WANDB_AVAILABLE": False}),
            ("pl_bolts.utils.stability", {"under_review": lambda: lambda thing: thing}),
            ("pl_bolts.utils.warnings", {"warn_missing_pkg": lambda name: None}),
        ):  # fmt: skip
            module = _from_file("pl_bolts", "callbacks/data_monitor.py")
        logger: Any = logger_class()
        logger.experiment = SummaryWriter(folder)
        trainer = SimpleNamespace(logger=logger, global_step=0, log_every_n_steps=50)
        monitor = module.ModuleDataMonitor(submodules=True, log_every_n_steps=every)
        monitor.on_train_start(trainer, model)
        monitor.on_train_batch_start(trainer, model, None, 0)

        def after_step(loss: Tensor) -> None:
            trainer.global_step += 1
            monitor.on_train_batch_start(trainer, model, None, trainer.global_step)

        return Attached(
            after_step,
            lambda: monitor.on_train_end(trainer, model),
            logger.experiment.close,
            lambda: shutil.rmtree(folder, ignore_errors=True),
        )

    return attach


@contextlib.contextmanager
def _stubs(*modules: tuple[str, dict[str, Any]]) -> Iterator[None]:
    """Modules of these names and contents, as long as a file that imports them is read."""
    before = dict(sys.modules)
    made: dict[str, ModuleType] = {}
    for name, contents in modules:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            made.setdefault(".".join(parts[:depth]), ModuleType(name))
        vars(made[name]).update(contents)
    for module in made.values():
        module.__path__ = []  # a package
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
        sys.modules.update(before)


def _from_file(package: str, path: str) -> Any:
    """One module of an installed package, without the package's own imports."""
    places = [Path(p) / package / path for p in sys.path]
    file = next(p for p in places if p.is_file())
    spec = importlib.util.spec_from_file_location(f"_{package}_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FLOORS = [
    Variant("nothing", nothing, "nothing: the noise of the comparison"),
    Variant("empty hook", empty_hook, "nothing: what PyTorch needs to call a hook per layer"),
    Variant("read pass", read_pass, "the sum of every output"),
]
OURS = [
    Variant("shiftwatch", shiftwatch(), "outputs, inputs, gradients, weights, updates"),
    Variant("shiftwatch, outputs only", shiftwatch(tensors=("output", "input")), "outputs, inputs"),
    Variant("shiftwatch budget=0.01", shiftwatch(budget=0.01), "the same, as often as 1 % allows"),
]
_WANDB = "gradients and weights: histograms; no activations"
_FASTAI = "outputs of layers with weights: mean, std, share near zero"
_EXPLORER = "1,000 values of outputs, inputs, gradients, weights: histograms"
_COMPOSER = "outputs and inputs of all modules: norm, mean, kurtosis, max"
_BOLTS = "outputs and inputs of all modules: histograms"
_NEEDS_EXPLORER = ("torchexplorer", "wandb", "pygraphviz")
PEERS = [
    Variant("wandb.watch", wandb_watch(1), _WANDB, ("wandb",)),
    Variant("wandb.watch /1000", wandb_watch(1000), _WANDB, ("wandb",), 1000, "wandb.watch"),
    Variant("fastai", fastai_stats(), _FASTAI, ("fastai",)),
    Variant("fastai, all layers", fastai_stats(include_paramless=True),
            "outputs of all layers: mean, std, share near zero", ("fastai",)),
    Variant("fastai, histogram", fastai_stats(with_hist=True), f"{_FASTAI}, histogram",
            ("fastai",)),
    Variant("torchexplorer", torchexplorer(1), _EXPLORER, _NEEDS_EXPLORER),
    Variant("torchexplorer /500", torchexplorer(500), _EXPLORER, _NEEDS_EXPLORER, 500,
            "torchexplorer"),
    Variant("delve", delve, "outputs of Conv2d, Linear, LSTM: covariance", ("delve",)),
    Variant("Composer", composer_monitor(1), _COMPOSER, ("composer",)),
    Variant("Composer /25", composer_monitor(25), _COMPOSER, ("composer",), 25, "Composer"),
    Variant("Bolts", bolts_monitor(1), _BOLTS, ("pl_bolts", "tensorboard")),
    Variant("Bolts /50", bolts_monitor(50), _BOLTS, ("pl_bolts", "tensorboard"), 50, "Bolts"),
]  # fmt: skip

VARIANTS = {v.name: v for v in (*FLOORS, *OURS, *PEERS)}

if __name__ == "__main__":
    for variant in VARIANTS.values():
        lacks = ", ".join(variant.missing())
        print(f"{variant.name:26}{f'not installed: {lacks}' if lacks else variant.sees}")
    print(f"torch {torch.__version__}")
