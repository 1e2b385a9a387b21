"""What all baselines need, taken once from full tensors by plain hooks: arrays over steps and layers.

Nothing is sampled, so that no baseline misses what is there. Forward passes without gradients are
evaluations and are left out; those of one step, as of an accumulated batch or of a discriminator
that sees real and forged samples, count as one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.faults import layers

#: Steps of a window of the histograms, and bins: deciles of the first window.
WINDOW, BINS = 8, 10

#: Steps in which the spread of gradients is taken, which is dear.
START = 10

#: A unit is idle, or saturated, that is active in less than this share of its values.
ACTIVE = 0.01

#: Beyond these inputs SageMaker Debugger takes a tanh or a sigmoid for saturated.
TANH, SIGMOID = (-9.4999, 9.4999), (-23.0, 16.99999)

#: Beyond this size DeepDiagnosis does.
LARGE = 5.0

#: Columns of a recording, each float64[steps, layers], NaN where a layer has no such tensor.
COLUMNS = (
    "output.finite",  # 1 or 0
    "output.mean",
    "output.std",
    "output.zero",  # share of values that are zero
    "output.nonpositive",  # share of values of at most zero
    "output.idle",  # share of units that are positive in less than a hundredth of their values
    "gate.variance",  # of what enters an activation
    "gate.large",  # share of its values of at least five, either way
    "gate.saturated",  # share of units with hardly a value within the limits of tanh or sigmoid
    "weight.finite",
    "weight.mean",
    "weight.zero",
    "weight.update",  # norm of the last change, relative to the weight's
    "weight.same",  # 1 where numpy.allclose takes it for that of the step before
    "gradient.finite",
    "gradient.mean",
    "gradient.mean_abs",
    "gradient.norm",
    "gradient.zero",
    "gradient.size",  # number of values
    "gradient.spread",  # 95th less 5th percentile, in the first ten steps
)


@dataclass(frozen=True)
class Recording:
    """A training in figures.

    Args:
        layers: names of modules without children, in order of execution.
        activations: of each ``"relu"``, ``"tanh"``, ``"sigmoid"``, or ``""`` for any other.
        columns: see :data:`COLUMNS`.
        loss: float64[steps].
        accuracy: float64[steps], share of a batch told right; NaN where nothing is predicted.
        rate: float64[steps], largest learning rate.
        dropout: float64[steps], largest probability.
        norm: float64[steps], of all gradients, as the optimizer took them.
        lowest: float64[steps], of the model's input; NaN where that is symbols.
        highest: likewise.
        bins: float64[steps, layers, bins], how many values of an output lie in each bin.
    """

    layers: tuple[str, ...]
    activations: tuple[str, ...]
    columns: dict[str, np.ndarray]
    loss: np.ndarray
    accuracy: np.ndarray
    rate: np.ndarray
    dropout: np.ndarray
    norm: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    bins: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    @property
    def steps(self) -> int:
        """How many were recorded."""
        return len(self.loss)

    def with_activation(self, *names: str) -> np.ndarray:
        """bool[layers]: those that are one of these."""
        return np.isin(self.activations, names)


#: What an activation is called; one that is not here is no concern of any rule.
_ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}


class Recorder:
    """Looks on and takes the figures; in the end every baseline judges them.

    Args:
        judge: alerts of all baselines from the whole recording.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        judge: Callable[[Recording], list[dict[str, Any]]],
    ) -> None:
        self.names = layers.leaves(model)
        self.modules = [model.get_submodule(name) for name in self.names]
        self.optimizers, self.judge = optimizers, judge
        self.calls: list[list[tuple[Any, Tensor]]] = [[] for _ in self.names]
        self.handles = [m.register_forward_hook(self._look(i)) for i, m in enumerate(self.modules)]
        self.weights = [_weights(module) for module in self.modules]
        self.before = [_flat(weights) for weights in self.weights]
        self.columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
        self.scalars: dict[str, list[float]] = {
            name: []
            for name in ("loss", "accuracy", "rate", "dropout", "norm", "lowest", "highest")
        }
        self.first: list[list[Tensor]] = [[] for _ in self.names]
        self.edges: list[Tensor | None] = [None for _ in self.names]
        self.bins: list[np.ndarray] = []

    def _look(self, i: int) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if torch.is_grad_enabled():
                out = output[0] if isinstance(output, tuple) else output
                self.calls[i].append((inputs[0].detach(), out.detach()))

        return hook

    @torch.no_grad()
    def after_step(self, loss: Tensor, accuracy: float) -> None:
        """All figures of one step."""
        row = {name: np.full(len(self.names), np.nan) for name in COLUMNS}
        outputs: list[Tensor | None] = [None for _ in self.names]
        for i, (module, calls) in enumerate(zip(self.modules, self.calls, strict=True)):
            if calls:
                outputs[i] = _joined([out for _, out in calls])
                self._put(row, i, "output", _of_output(outputs[i]))
                if type(module) in _ACTIVATIONS:
                    entered = _joined([x for x, _ in calls])
                    self._put(row, i, "gate", _of_gate(entered, _ACTIVATIONS[type(module)]))
            weights = self.weights[i]
            if weights:
                now = _flat(weights)
                self._put(row, i, "weight", _of_weight(now, self.before[i]))
                self.before[i] = now
            gradients = [w.grad for w in weights if w.grad is not None]
            if gradients:
                gradient = _flat(gradients)
                self._put(row, i, "gradient", _of_gradient(gradient))
                if len(self.bins) < START:
                    row["gradient.spread"][i] = _spread(gradient)
        for name, values in row.items():
            self.columns[name].append(values)
        self._count(outputs)
        self._scalars(float(loss.detach()), accuracy)
        for calls in self.calls:
            calls.clear()

    def _put(self, row: dict[str, np.ndarray], i: int, part: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            row[f"{part}.{name}"][i] = value

    def _scalars(self, loss: float, accuracy: float) -> None:
        """Figures of the whole step."""
        groups = [g for optimizer in self.optimizers for g in optimizer.param_groups]
        norms = [p.grad.norm() for g in groups for p in g["params"] if p.grad is not None]
        entered = next((calls[0][0] for calls in self.calls if calls), torch.zeros(0, dtype=int))
        low, high = entered.aminmax() if entered.is_floating_point() else (np.nan, np.nan)
        values = {
            "loss": loss,
            "accuracy": accuracy,
            "rate": max(g["lr"] for g in groups),
            "dropout": max((m.p for m in self.modules if isinstance(m, nn.Dropout)), default=0.0),
            "norm": float(torch.stack(norms).norm()) if norms else np.nan,
            "lowest": float(low),
            "highest": float(high),
        }
        for name, value in values.items():
            self.scalars[name].append(value)

    def _count(self, outputs: list[Tensor | None]) -> None:
        """Histograms of this step; their edges are deciles of the first window."""
        step = len(self.bins)
        self.bins.append(np.zeros((len(outputs), BINS)))
        for i, output in enumerate(outputs):
            if output is None:
                continue
            if step < WINDOW:
                self.first[i].append(output.flatten())
            elif self.edges[i] is not None:
                self.bins[step][i] = _counts(output.flatten(), self.edges[i])
        if step == WINDOW - 1:
            for i, window in enumerate(self.first):
                if window:
                    self.edges[i] = _deciles(torch.cat(window))
                    self.bins[step][i] = _counts(torch.cat(window), self.edges[i])
                window.clear()

    def close(self) -> list[dict[str, Any]]:
        """What each baseline makes of it."""
        for handle in self.handles:
            handle.remove()
        return self.judge(
            Recording(
                layers=tuple(self.names),
                activations=tuple(_ACTIVATIONS.get(type(m), "") for m in self.modules),
                columns={name: np.stack(rows) for name, rows in self.columns.items()},
                bins=np.stack(self.bins),
                **{name: np.array(values) for name, values in self.scalars.items()},
            )
        )


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """A module's own parameters but for biases."""
    return [p for name, p in module.named_parameters(recurse=False) if "bias" not in name]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """All values side by side, a copy."""
    return torch.cat([t.detach().flatten() for t in tensors]) if tensors else torch.zeros(0)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """All values as [values, units]: of an image a unit is a channel, else the last dimension."""
    apart = [t.movedim(1, -1) if t.ndim == 4 else t for t in tensors]
    return torch.cat([t.reshape(-1, t.shape[-1]) for t in apart]).float()


def _of_output(x: Tensor) -> dict[str, float]:
    std, mean = torch.std_mean(x, correction=0)
    positive = x > 0
    return {
        "finite": float(x.isfinite().all()),
        "mean": float(mean),
        "std": float(std),
        "zero": float((x == 0).float().mean()),
        "nonpositive": float((x <= 0).float().mean()),
        "idle": float((positive.float().mean(0) < ACTIVE).float().mean()),
    }


def _of_gate(x: Tensor, activation: str) -> dict[str, float]:
    low, high = TANH if activation == "tanh" else SIGMOID
    within = ((x > low) & (x < high)).float().mean(0)
    return {
        "variance": float(x.var(correction=0)),
        "large": float((x.abs() >= LARGE).float().mean()),
        "saturated": float((within < ACTIVE).float().mean()),
    }


def _of_weight(now: Tensor, before: Tensor) -> dict[str, float]:
    return {
        "finite": float(now.isfinite().all()),
        "mean": float(now.mean()),
        "zero": float((now == 0).float().mean()),
        "update": float((now - before).norm() / (before.norm() + 1e-9)),
        "same": float(torch.allclose(now, before, rtol=1e-5, atol=1e-8)),
    }


def _of_gradient(g: Tensor) -> dict[str, float]:
    return {
        "finite": float(g.isfinite().all()),
        "mean": float(g.mean()),
        "mean_abs": float(g.abs().mean()),
        "norm": float(g.norm()),
        "zero": float((g == 0).float().mean()),
        "size": float(g.numel()),
    }


def _spread(g: Tensor) -> float:
    """95th less 5th percentile."""
    low, high = np.quantile(g.numpy(), [0.05, 0.95]) if g.isfinite().all() else (np.nan, np.nan)
    return float(high - low)


def _deciles(x: Tensor) -> Tensor:
    """Edges between ten bins that hold as much each, or fewer where many values are the same.

    From 65,536 values at most, evenly spaced.
    """
    x = x[:: max(1, -(-len(x) // 65536))]
    x = x[x.isfinite()]
    if not len(x):
        return torch.zeros(1)
    edges = np.unique(np.quantile(x.numpy(), np.linspace(0, 1, BINS + 1)[1:-1]))
    return torch.from_numpy(edges.astype(np.float32))


def _counts(x: Tensor, edges: Tensor | None) -> np.ndarray:
    """int[bins]"""
    assert edges is not None
    found: np.ndarray = torch.bincount(torch.bucketize(x, edges), minlength=BINS).numpy()
    return found
