"""watch(): the one line that a training script gets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.census import Exact, wanted
from shiftwatch.integrations.torch.modules import Layers
from shiftwatch.integrations.torch.probe import wanted as probe_wanted
from shiftwatch.integrations.torch.ranks import ranks as other_ranks
from shiftwatch.integrations.torch.replay import wanted as replay_wanted
from shiftwatch.integrations.torch.source import TorchSource
from shiftwatch.monitor import Monitor
from shiftwatch.records import TENSORS, Report


def watch(
    model: nn.Module,
    *,
    optimizer: Any = None,
    run: str | os.PathLike[str] | bool | None = None,
    layers: Layers = None,
    tensors: Iterable[str] = ("output", "input", "gradient", "weight", "update"),
    every: int = 1,
    budget: float | None = None,
    reference: str | os.PathLike[str] = "first",
    alpha: float = 0.01,
    rules: Sequence[Any] | None = None,
    metrics: Mapping[str, Callable[..., np.ndarray]] | None = None,
    reporters: Sequence[Callable[[Report], Any]] = (),
    exact: Exact | Layers = None,
    probe: Any = None,
    replay: int | None = None,
    ranks: Literal["auto", "alone"] = "auto",
    strict: bool = False,
) -> Monitor:
    """Watch a model while it trains. Attaches at once.

    Outputs, gradients and trained weights are the same to the last bit with and without it.

    Args:
        model: a module, wrapped (``DataParallel``, ``torch.compile``) or not. A model that
            was compiled *and called* before does not run new hooks; that is said, with the
            cure.
        optimizer: one or several; ``None`` finds those that hold the model's parameters
            when they step.
        run: folder to record into; ``None`` for a dated one, ``False`` for memory only.
        layers: which layers: glob pattern(s) over dotted names, or a function of
            ``(name, module)``. A container's name stands for all that is in it.
        tensors: which of ``shiftwatch.records.TENSORS``. Outputs of all leaf modules;
            inputs of the model, and of layers with weights where no watched layer put them
            out; gradients of the outputs; parameters and their updates.
        every: watch every n-th step.
        budget: share of the step time to stay under, such as 0.01: as many steps are watched as
            that pays for, the first eight whatever they cost. In steps that are left out hooks are
            off, except in compiled code, and in every fourth the loss is asked whether it is
            finite, for a few microseconds; ``monitor.overhead`` says what was spent.
        reference, alpha, rules, metrics, reporters: see :class:`shiftwatch.Monitor`.
        exact: layers whose outputs are counted in full instead of sampled, chosen as by
            ``layers``, or an :class:`Exact` with ``every=``. In the history, their mean, std,
            rms, zero, non-finite, saturated and dead shares are then exact, over the steps
            that were counted, and ``exact_count`` says over how many values; alerts are
            judged on samples as always. 3 to 4 ns per value on a CPU.
        probe: inputs that stay the same, on which every layer's output is measured as the weights
            learn: what the model is called with (a tensor, a tuple of arguments, a mapping), or
            a :class:`Probe` with ``every=``. See below, and ``docs/ics.md``.
        replay: how many references to keep, such as 4, so that an incident can be split into what a
            layer did itself and what it inherited; ``None`` for none. See below, and ``docs/alarms.md``.
        ranks: of a training in several processes, ``"auto"`` merges what all of them see, where
            all call ``watch`` before the first step; ``"alone"`` watches this one's share of each
            batch. See below.
        strict: raise errors in hooks instead of losing the site.

    Returns:
        A monitor: call ``monitor.step(loss=…)`` after each optimizer step and ``close()``
        at the end, or use it in a ``with`` statement.

    Raises:
        TypeError, ValueError: where an argument cannot work, with the cure.

    What is seen how often: outputs, inputs, weights and updates at every watched step; gradients
    in the first 8 and then in every eighth, all layers together. Histograms and single units come
    from whole samples of every step until the 64th, every second until the 256th, every fourth
    until the 1,024th and every eighth from then on, so that a window, which is judged as one, has
    8, 16, 32 and 64 steps. Sooner is judged what shows at first sight: a loss, an output of the
    model or a gradient that is not finite, and a tampered weight, at once; a mean square that
    jumps, at once until the 256th step, and within two and four steps until and from the 1,024th.

    Cost: 40 to 80 µs of a CPU's time per layer and step, whatever its size; about half of that with
    outputs alone; twice as much in the first thousand steps. 1 MB per layer, history included:
    it is bounded. What that is of a step, and beside other tools: ``docs/cost.md``.

    Under ``torch.compile`` all of this is seen where ``watch`` comes before the first call of
    the compiled model, whole or in parts: it adds no graph break, and nothing is compiled anew
    while it watches, or once, without it, when it is closed. In half precision only layers
    that are kernels of their own (linear, convolutional, attention) are looked at, with their
    inputs: what is fused between them is rounded only where somebody looks.

    Under ``DistributedDataParallel`` and ``fully_shard``, each rank posts what it measured in a
    window to the store of the default process group, and rank 0 merges and judges: it alone
    writes the run folder, logs and reports; ``alerts`` and ``incidents`` are the same on all ranks.
    No collective is called, and none is waited for: a rank that does not watch, is late by
    several windows or is gone is left out, and that is said once. Windows end at the same
    steps everywhere, so a first sign of trouble is judged at the next eighth step instead of at
    once; ``close()`` waits up to 5 s for the others.

    A model may change while it is watched: parameters may be replaced, resized, pruned or
    converted to another type. Layers that come later are not seen, and named.

    On CUDA and XPU nothing waits for the device: what was sampled in eight steps is copied home
    beside the training, and judged when it has arrived: at most 16 steps after it was, as long as
    the device is no more than eight steps behind the host. That holds for the first sign of a NaN,
    too; the step after is then looked at in full, and waited for. Give ``monitor.step(loss=loss)``
    the loss as it is, on its device. ``close()`` waits for the last copy. On other devices, such as
    MPS, the host waits once in eight steps. Where a CUDA graph is replayed no hook runs: weights
    and losses are seen, and the rest is said to be dark.

    With ``probe=batch`` the model is shown that batch before the first optimizer step, after 16, 32,
    64, 128 and 256, and after every 500th: a forward pass without gradients, that training cannot
    tell from none. What changes between them is due to the weights alone, which is internal
    covariate shift by its first definition; in fine-tuning, the distance from the first probe is
    the drift away from the pretrained model. ``monitor.probes`` holds the records, the history
    ``probe_wasserstein``, ``probe_kl`` and others at the windows in which they were taken. Nothing is
    judged by them. Of several ranks the first is asked. The user's own hooks run in such a pass.

    With ``replay=4`` the first 32 samples of a batch are kept four times over, with what entered and left
    each layer when the model was shown them once more, after the first steps and then at every
    16th (every 64th in the end). When an incident is raised they are run again, once through the whole model and
    once layer by layer: what a layer puts out now for what entered it then is its own change, the rest of
    its change it inherited. ``monitor.replay(incident)`` is that record, ``print(monitor.replay())``
    what has moved by now. Layers whose arguments cannot be kept are named in it. At most 64 MB for each
    reference, on the model's device. Training is the same to the last bit; a model whose forward writes
    into weights or tensors that are no buffers is refused before it does, and an event says why.

    Not seen: functional operations (they show in the next layer's input), layers inside of
    TorchScript, and branches, loops and function transforms inside of compiled code. Under
    ``torch.amp.GradScaler``, gradients are recorded without its scale. What is seen in which
    way to run PyTorch, and tested: ``docs/truth_table.md``.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watch(model, optimizer=optimizer, run=False) as monitor:
        ...     for _ in range(8):
        ...         loss = model(torch.randn(16, 4)).square().mean()
        ...         loss.backward(); optimizer.step(); optimizer.zero_grad()
        ...         monitor.step(loss=loss)
        >>> monitor.steps
        8
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"watch() takes a torch.nn.Module; got {type(model).__name__}. Pass the model itself; "
            "for arrays of another framework use shiftwatch.Monitor().observe()."
        )
    kinds = _kinds(tensors)
    optimizers = _optimizers(optimizer)
    root = modules.unwrap(model)
    found = modules.leaves(root)
    if not found:
        raise TypeError(
            f"The model must hold at least one layer, a module that computes; {type(root).__name__} "
            "has none. Build its layers as modules in __init__, or show arrays with "
            "shiftwatch.Monitor().observe()."
        )
    chosen = modules.choose(found, layers)
    if ranks not in ("auto", "alone"):
        raise ValueError(f"ranks must be 'auto' or 'alone'; got {ranks!r}.")
    shown, references = probe_wanted(probe), replay_wanted(replay)
    others = other_ranks(model, [w.name for w in chosen], ranks)
    monitor = Monitor(
        run,
        every=every,
        budget=budget,
        reference=reference,
        alpha=alpha,
        rules=rules,
        metrics=metrics,
        reporters=reporters,
        strict=strict,
        ranks=others,
        config={
            "framework": f"torch {torch.__version__}",
            "model": type(root).__name__,
            "layers": len(chosen),
            "tensors": list(kinds),
        },
    )
    try:
        source = TorchSource(
            model, monitor, optimizers, chosen, kinds, whole=layers is None, strict=strict,
            exact=wanted(exact), probe=shown if others is None or others.rank == 0 else None,
            replay=references if others is None or others.rank == 0 else 0,
        )  # fmt: skip
        source.hook()
        monitor.attach(source)
    except BaseException:
        monitor.close()
        raise
    return monitor


def _kinds(tensors: Iterable[str]) -> tuple[str, ...]:
    kinds = (tensors,) if isinstance(tensors, str) else tuple(tensors)
    unknown = [k for k in kinds if k not in TENSORS]
    if unknown or not kinds:
        raise ValueError(
            f"tensors must be some of {', '.join(TENSORS)}; got {unknown or kinds!r}. "
            "Leave it out to watch all."
        )
    return kinds


def _optimizers(optimizer: Any) -> list[Optimizer]:
    """The torch optimizers named by the user, taken out of wrappers such as accelerate's."""
    if optimizer is None:
        return []
    listed = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    plain = []
    for one in listed:
        inner = one
        while not isinstance(inner, Optimizer) and hasattr(inner, "optimizer"):
            inner = inner.optimizer
        if not isinstance(inner, Optimizer):
            raise TypeError(
                f"optimizer must be a torch.optim.Optimizer or several; got {type(one).__name__}. "
                "Leave it out: shiftwatch finds the optimizers that step the model."
            )
        plain.append(inner)
    return plain
