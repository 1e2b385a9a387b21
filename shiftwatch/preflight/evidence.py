"""Evidence: what an adapter measures in the passes before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftwatch.preflight.measure import Values

#: The name of the model's output among the layers, as ``"<input>"`` is that of its input.
OUTPUT = "<output>"


@dataclass(frozen=True, eq=False)
class Start:
    """A layer as it stands before the first step.

    Args:
        layer: the model's own dotted name.
        function: ``"relu"``, ``"tanh"``, … where this is an activation called as a function on
            what the layer put out; ``""`` for the layer itself.
        module: its type's name.
        activation: a key of ``shiftwatch.activations.FLAT``, or ``""``.
        norm: ``"batch"``, ``"layer"``, … for a normalisation, else ``""``.
        parents: keys of what feeds it, ``"<input>"`` for the model's input.
        direct: whether it takes just what its first parent put out.
        weighty: whether it has weights of two or more dimensions: a linear map, a convolution.
        output: all values of all batches.
        spread: how much samples differ: root mean over positions of the variance between
            samples; NaN with one sample.
        gradient: Euclidean norm of the loss's gradient by the output; NaN where none came.
        gradient_bad: values of that gradient that are not finite.
        calls: how often it was called.
        gate: whether its output is multiplied with another value.
        training: whether it is in training mode.
        trainable: whether any parameter of it asks for a gradient.
        bias: whether it has a bias.
        dropout: its probability; 0 for all that is no dropout.
    """

    layer: str
    output: Values
    function: str = ""
    module: str = ""
    activation: str = ""
    norm: str = ""
    parents: tuple[str, ...] = ()
    direct: bool = False
    weighty: bool = False
    spread: float = np.nan
    gradient: float = np.nan
    gradient_bad: int = 0
    calls: int = 1
    gate: bool = False
    training: bool = True
    trainable: bool = True
    bias: bool = False
    dropout: float = 0.0

    @property
    def key(self) -> str:
        """Layer and function in one word, as ``parents`` say it."""
        return f"{self.layer}:{self.function}" if self.function else self.layer

    @property
    def rms(self) -> float:
        """Root mean square of the finite values of the output."""
        return self.output.rms

    @property
    def width(self) -> int:
        """Number of units."""
        return self.output.width

    @property
    def rows(self) -> float:
        """Values of a unit, over all calls."""
        return self.output.size / max(self.width, 1)

    @property
    def dead(self) -> float:
        """Share of units that were flat at every position, 0 to 1; NaN where none can be."""
        if self.activation not in _HARD or not self.width:
            return np.nan
        return float(np.mean(self.output.active == 0))

    @property
    def saturated(self) -> float:
        """Share of values in the flat part of the activation, 0 to 1; NaN without one."""
        count = self.output.count
        return self.output.flat / count if self.activation and count else np.nan


# Folding activations (GELU, SiLU) are left out: from their outputs a closed unit and one
# with small inputs look alike.
_HARD = frozenset({"relu", "relu6", "elu", "celu", "selu"})


@dataclass(frozen=True, eq=False)
class Given:
    """A tensor of the model's input.

    Args:
        part: which one, where there are several; or the layer that it enters.
        values: all of the first batch; of token numbers, too.
        spread: as of :class:`Start`.
        number: whether it holds real numbers, not indices.
        rank: its dimensions.
        constant: features, of a table [samples, features], that do not vary.
    """

    part: str
    values: Values
    spread: float
    number: bool
    rank: int
    constant: int = 0


@dataclass(frozen=True)
class Weight:
    """A parameter.

    Args:
        name: dotted name.
        layer: the module that holds it.
        shape: its shape.
        rms: root mean square.
        std: standard deviation.
        rows: number of units it makes, 0 for biases, gains and other vectors.
        distinct: how many of these rows differ from each other.
        trainable: whether it asks for a gradient.
        gradient: root mean square of its gradient; NaN where none came.
        gradient_distinct: how many rows of the gradient differ from each other.
        gradient_bad: values of the gradient that are not finite.
        wakes: small steps of the other parameters after which a gradient that was all zero
            arrives; 0 where it was there at once, -1 where it never came.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    rms: float
    std: float
    rows: int
    distinct: int
    trainable: bool
    gradient: float = np.nan
    gradient_distinct: int = 0
    gradient_bad: int = 0
    wakes: int = 0

    @property
    def fan_in(self) -> int:
        """Values that each unit sums over."""
        return int(np.prod(self.shape)) // self.rows if self.rows else 0


@dataclass(frozen=True)
class Loss:
    """A loss function that was called.

    Args:
        function: ``"cross_entropy"``, ``"binary_cross_entropy_with_logits"``, ``"mse_loss"``, …
        layer: whose output it judges.
        last: operation that made its input: ``"softmax"``, ``"sigmoid"``, … or ``""``.
        value: what it returned, where that is one number; else NaN.
        chance: what it is for a network that knows nothing, in nats; NaN where that is not known.
        excess: nats over it that the spread of the logits costs on average; NaN as well.
        classes: number of them; 0 where there are none.
        output: root mean square of its input.
        target: root mean square of its target, where that is a number; else NaN.
    """

    function: str
    layer: str
    last: str = ""
    value: float = np.nan
    chance: float = np.nan
    excess: float = np.nan
    classes: int = 0
    output: float = np.nan
    target: float = np.nan


class Scores(NamedTuple):
    """What went into a softmax inside the network: the layer, and the spread over its axis."""

    layer: str
    std: float
    size: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was measured.

    Args:
        model: its type's name.
        batches, samples: how many were looked at.
        starts: layers and functional activations in the order of their first call.
        ends: keys of what feeds the model's output.
        given: the model's input.
        entering: what enters the layers that it feeds, after functions on the way.
        weights: every parameter once.
        losses: loss functions that were called, in order.
        scores: softmaxes inside the network.
        loss: the loss, mean over the batches; NaN for a random projection of the output.
        criterion: what the loss is called; ``""`` for a random projection.
        uncalled: layers that were not called.
        training: whether the model is in training mode.
        backward: ``""``, or why no gradient could be taken.
    """

    model: str
    batches: int
    samples: int
    starts: tuple[Start, ...]
    ends: tuple[str, ...]
    given: tuple[Given, ...]
    entering: tuple[Given, ...]
    weights: tuple[Weight, ...]
    losses: tuple[Loss, ...] = ()
    scores: tuple[Scores, ...] = ()
    loss: float = np.nan
    criterion: str = ""
    uncalled: tuple[str, ...] = ()
    training: bool = True
    backward: str = ""
