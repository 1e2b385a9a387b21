"""DeepDiagnosis: symptoms by layer, once in an epoch; the program is stopped at the first.

References:
    Wardat et al. (2022), "DeepDiagnosis: Automatically Diagnosing Faults and Recommending
    Actionable Fixes in Deep Learning Programs", ICSE. Rules, limits and their order as in
    ``callback/callbacks.py`` of github.com/DeepDiagnosis/ICSE2022.
"""

from __future__ import annotations

import numpy as np

from benchmarks.faults.baselines.recording import Recording
from benchmarks.faults.baselines.signs import EPOCH, Sign, of_layers, of_run

#: Epochs after which something must have changed; of the accuracy.
UNCHANGED, NO_BETTER = 5, 20


def deepdiagnosis(r: Recording) -> list[Sign]:
    """Its symptoms, of layers forwards in what they put out, backwards in their gradients.

    Departures: it looks at the batch that was trained on, not at the first one in inference mode; weights of
    every kind of layer are looked at, not of dense ones alone; that the output's range fits the
    targets' is not asked.
    """
    at = np.arange(EPOCH - 1, r.steps, EPOCH)
    if not len(at):
        return []
    epochs = [x[: len(at) * EPOCH].reshape(-1, EPOCH).mean(1) for x in (r.loss, r.accuracy)]
    return [*_forward(r, at), *_figures(at, *epochs), *_backward(r, at)]


def _forward(r: Recording, at: np.ndarray) -> list[Sign]:
    """Means that are not finite or zero; in the last epoch ReLUs of which seven tenths are zero; inputs
    of sigmoids and tanhs that are large; means that stay the same.
    """
    mean, dead, large = (r[n][at] for n in ("output.mean", "output.nonpositive", "gate.large"))
    last = (np.arange(len(at)) == len(at) - 1)[:, None]
    fifth = (np.arange(1, len(at) + 1) % UNCHANGED == 0)[:, None]
    soft = r.with_activation("sigmoid", "tanh")
    called = ~np.isnan(r["output.finite"][at])
    return [
        *of_layers(r, called & _bad(mean), "nonfinite", "output", "numerical", steps=at),
        *of_layers(
            r, last & (dead >= 0.7) & r.with_activation("relu"), "dead", "output", "dead node",
            value=dead, limit=0.7, steps=at,
        ),
        *of_layers(
            r, fifth & (large > 0.5) & soft, "saturation", "input", "saturated activation",
            value=large, limit=0.5, steps=at,
        ),
        *of_layers(r, called & _stays(mean), "frozen", "output", "unchanged tensor", steps=at),
    ]  # fmt: skip


def _figures(at: np.ndarray, loss: np.ndarray, accuracy: np.ndarray) -> list[Sign]:
    """A loss that is not finite or stays the same; an accuracy of zero, or that stays the same."""
    return [
        *of_run(~np.isfinite(loss), "nonfinite", "invalid loss", steps=at),
        *of_run(_stays(loss), "loss", "loss not decreasing", steps=at),
        *of_run(accuracy == 0, "loss", "invalid accuracy", steps=at),
        *of_run(_stays(accuracy, NO_BETTER), "loss", "accuracy not increasing", steps=at),
    ]


def _backward(r: Recording, at: np.ndarray) -> list[Sign]:
    """Gradients and weights: means that are not finite or zero, or stay the same; and gradients of less
    than 1e-7.
    """
    size = r["gradient.mean_abs"][at]
    signs = of_layers(
        r, size < 1e-7, "vanishing", "gradient", "vanishing gradient",
        value=size, limit=1e-7, steps=at,
    )  # fmt: skip
    for tensor in ("gradient", "weight"):
        mean = r[f"{tensor}.mean"][at]
        there = ~np.isnan(r[f"{tensor}.finite"][at])
        signs += of_layers(r, there & _bad(mean), "nonfinite", tensor, "numerical", steps=at)
        signs += of_layers(r, there & _stays(mean), "frozen", tensor, "unchanged tensor", steps=at)
    order = {name: -i for i, name in enumerate(r.layers)}
    return sorted(signs, key=lambda sign: (sign.step, order[sign.layer]))


def _bad(mean: np.ndarray) -> np.ndarray:
    """Not finite, or zero."""
    return ~np.isfinite(mean) | (mean == 0)


def _stays(x: np.ndarray, epochs: int = UNCHANGED) -> np.ndarray:
    """Whether the last so many epochs were all the same, asked once in as many: as ``x``."""
    same = np.zeros(x.shape, bool)
    for i in range(epochs - 1, len(x), epochs):
        same[i] = (x[i - epochs + 1 : i + 1] == x[i]).all(0)
    return same
