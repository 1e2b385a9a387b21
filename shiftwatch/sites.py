"""The table of sites: what is watched, column by column, and how the layers hang together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from math import prod

import numpy as np

from shiftwatch.activations import ONE_SIDED, TWO_SIDED
from shiftwatch.records import IDS, INPUT, Layer, Site

#: Layers whose weights are drawn at random. Norms, gates and scales may well begin constant.
DRAWN = ("Linear", "Conv", "LSTM", "GRU", "RNN", "Bilinear", "Dense", "MultiheadAttention")


class Sites:
    """Sites in the order registered; a column once given out keeps its meaning.

    Layers are kept in execution order. The masks are bool[sites] and are computed anew
    only when a site or a layer has changed.

    Example:
        >>> sites = Sites()
        >>> sites.add(Site("fc1"), Layer("fc1", parameters=True, parents=("<input>",)))
        0
        >>> sites.add(Site("act"), Layer("act", activation="relu", parents=("fc1",)))
        1
        >>> sites.mask("output", train=True).tolist(), sites.one_sided.tolist()
        ([True, True], [False, True])
        >>> sites.cause("act"), sorted(sites.fed_by("fc1")), sorted(sites.fed_by("act"))
        ('fc1', ['act', 'fc1'], ['act'])
    """

    def __init__(self) -> None:
        self.all: list[Site] = []
        self.layers: dict[str, Layer] = {}
        self.guessed: dict[Site, str] = {}
        self._columns: dict[Site, int] = {}
        self._masks: dict[tuple[tuple[str, ...], bool | None], np.ndarray] = {}
        self._chosen: dict[tuple[tuple[str, ...], bool | None], np.ndarray] = {}
        self._fed: dict[str, frozenset[str]] = {}  # of the sources asked for last

    def __len__(self) -> int:
        return len(self.all)

    def add(self, site: Site, layer: Layer) -> int:
        """Column of the site; a known site keeps its column, its layer is updated."""
        if self.layers.get(layer.name) != layer:
            self.layers[layer.name] = layer
            self.renew()
        if site not in self._columns:
            self._columns[site] = len(self.all)
            self.all.append(site)
            self.renew()
        return self._columns[site]

    def following(self, name: str, tensor: str, activation: str) -> Layer:
        """What can be known of a layer from an array: it follows the one that was added before it."""
        known = self.layers.get(name)
        if known is not None:
            if activation and tensor == "output":
                return Layer(name, known.module, activation, known.parameters, known.parents)
            return known
        parents = () if name == INPUT else tuple(list(self.layers)[-1:])
        own = activation if tensor == "output" else ""
        has_weights = name != INPUT and not own
        return Layer(name, activation=own, parameters=has_weights, parents=parents)

    def column(self, site: Site) -> int | None:
        """Column of a site, or ``None``."""
        return self._columns.get(site)

    def mask(self, *tensors: str, train: bool | None = None) -> np.ndarray:
        """Sites of the given tensors (all if none is given), of one mode or both; read-only.

        Ids have no values, and are no input to those who ask for these.
        """
        key = (tensors, train)
        if key not in self._masks:
            chosen = np.isin(self._tensors, tensors) if tensors else np.ones(len(self), bool)
            if train is not None:
                chosen &= self._train == train
            chosen.flags.writeable = False
            self._masks[key] = chosen
        return self._masks[key]

    def columns(self, *tensors: str, train: bool | None = None) -> np.ndarray:
        """The same as ascending columns: int64[n]. A new site only ever adds to the end."""
        key = (tensors, train)
        if key not in self._chosen:
            self._chosen[key] = np.flatnonzero(self.mask(*tensors, train=train))
        return self._chosen[key]

    @cached_property
    def order(self) -> np.ndarray:
        """Place of each site's layer in the execution: int64[sites]; the input is -1."""
        place = {name: i for i, name in enumerate(self.layers)}
        return np.array([-1 if s.layer == INPUT else place[s.layer] for s in self.all], np.int64)

    @cached_property
    def one_sided(self) -> np.ndarray:
        """Sites whose units can die."""
        return np.array([self.activation(s) in ONE_SIDED for s in self.all], bool)

    @cached_property
    def two_sided(self) -> np.ndarray:
        """Sites whose units can saturate."""
        return np.array([self.activation(s) in TWO_SIDED for s in self.all], bool)

    @cached_property
    def bounded(self) -> np.ndarray:
        """Sites with an activation, whose units may be silent."""
        return np.array([bool(self.activation(s)) for s in self.all], bool)

    @cached_property
    def weightless(self) -> np.ndarray:
        """Sites of layers without parameters of their own."""
        return np.array([not self.layers[s.layer].parameters for s in self.all], bool)

    @cached_property
    def main(self) -> np.ndarray:
        """Sites that are no bias, no slope and no single factors before a norm: of weights and updates
        those that carry a layer.

        Any of these may well be near zero, where a relative size says little.
        """
        factors = self._factors

        def carries(site: Site) -> bool:
            slope = site.layer in self.layers and self.layers[site.layer].module == "PReLU"
            weight = not site.part or site.part.startswith("weight")
            return weight and not slope and site.layer not in factors

        return np.array([carries(site) for site in self.all], bool)

    @cached_property
    def _factors(self) -> frozenset[str]:
        """Layers of one weight per unit that feed norms alone: these undo whatever size it has."""
        feeds: dict[str, list[bool]] = {}
        for layer in self.layers.values():
            for parent in layer.parents:
                feeds.setdefault(parent, []).append(bool(layer.norm))
        single = {
            n for n, layer in self.layers.items() if layer.shape and prod(layer.shape[1:]) == 1
        }
        return frozenset(n for n in single if all(feeds.get(n, [False])))

    @cached_property
    def learning(self) -> np.ndarray:
        """Columns of the updates, in training, that carry a layer: int64[any], ascending."""
        return np.flatnonzero(self.mask("update", train=True) & self.main)

    @cached_property
    def returning(self) -> np.ndarray:
        """Columns of the gradients, in training, that come back to layers with parameters: int64[any].

        Those of their outputs, in execution order.
        """
        columns = [
            c
            for c in self.columns("gradient", train=True).tolist()
            if not self.all[c].part and not self.weightless[c]
        ]
        return np.array(sorted(columns, key=lambda c: self.order[c]), np.int64)

    @cached_property
    def passing(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns of what enters each site's layer in training, the first of several, and of the
        gradient of what leaves it: int64[sites] each; -1 where it is not seen.
        """
        inputs = {self.all[c].layer: c for c in self.columns("input", train=True)[::-1].tolist()}
        back = {self.all[c].layer: c for c in self.columns("gradient", train=True)[::-1].tolist()}

        def enters(name: str) -> int:
            fed = (self.gives[p] for p in self.parents(name) if p in self.gives)
            return inputs.get(name, next(fed, -1))

        names = [site.layer for site in self.all]
        return (
            np.array([enters(name) for name in names], np.int64),
            np.array([back.get(name, -1) for name in names], np.int64),
        )

    @cached_property
    def entering(self) -> int:
        """Column of the model's input in training, the first where it has several; -1 for none."""
        columns = self.columns("input", train=True).tolist()
        return next((c for c in columns if self.all[c].layer == INPUT), -1)

    @cached_property
    def telling(self) -> int:
        """Column whose contents tell of the data: of the ids, else ``entering``; -1 for none."""
        return self._columns.get(Site(INPUT, "input", IDS), self.entering)

    @cached_property
    def heads(self) -> np.ndarray:
        """Sites of layers that feed no other layer: there saturation is the goal."""
        fed = {parent for layer in self.layers.values() for parent in layer.parents}
        return np.array([s.tensor == "output" and s.layer not in fed for s in self.all], bool)

    @cached_property
    def after_activation(self) -> np.ndarray:
        """Input sites that a watched activation feeds: its own output is judged instead."""
        return np.array(
            [
                s.tensor == "input"
                and any(
                    self.layers[p].activation for p in self.parents(s.layer) if p in self.layers
                )
                for s in self.all
            ],
            bool,
        )

    @cached_property
    def unguessed(self) -> np.ndarray:
        """Input sites whose activation, if any, is not known: not the model's own input."""
        return (
            np.array(
                [
                    s.tensor == "input" and s.layer != INPUT and s not in self.guessed
                    for s in self.all
                ],
                bool,
            )
            & ~self.after_activation
        )

    @cached_property
    def weight_of(self) -> np.ndarray:
        """Column of the weight that an update site belongs to: int64[sites]; -1 elsewhere."""
        return np.array(
            [
                self._columns.get(Site(s.layer, "weight", s.part, s.mode), -1)
                if s.tensor == "update"
                else -1
                for s in self.all
            ],
            np.int64,
        )

    @cached_property
    def gives(self) -> dict[str, int]:
        """Layer to the column of what it gives in training: its output, first of several; the model's input."""
        return {
            self.all[c].layer: c
            for c in self.columns("output", "input", train=True)[::-1].tolist()
            if self.all[c].tensor == "output" or self.all[c].layer == INPUT
        }

    @cached_property
    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """Where several layers feed one: columns of the input in training, and of what feeds it.

        int64[pairs] each, one pair for each of them.
        """
        pairs = [
            (c, self.gives[parent])
            for c in self.columns("input", train=True).tolist()
            if self.all[c].layer != INPUT and len(self.parents(self.all[c].layer)) > 1
            for parent in self.parents(self.all[c].layer)
            if parent in self.gives
        ]
        into, out_of = np.array(pairs, np.int64).reshape(-1, 2).T
        return into, out_of

    @cached_property
    def dropouts(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the outputs of dropouts in training, and of what alone feeds them, or -1."""
        found = [
            c
            for c in self.columns("output", train=True).tolist()
            if "Dropout" in self.layers[self.all[c].layer].module
        ]
        fed = [self.parents(self.all[c].layer) for c in found]
        before = [self.gives.get(p[0], -1) if len(p) == 1 else -1 for p in fed]
        return np.array(found, np.int64), np.array(before, np.int64)

    def activation(self, site: Site) -> str:
        """Activation of the site's values; ``""`` for sites that are no activation's output."""
        if site.tensor == "input":
            return self.guessed.get(site, "")
        if site.tensor != "output" or site.part:
            return ""
        return self.layers[site.layer].activation

    def guess(self, column: int, activation: str) -> None:
        """Note what an input's values show: an activation without a module made them."""
        self.guessed[self.all[column]] = activation
        self.renew()

    def parents(self, layer: str) -> tuple[str, ...]:
        """Layers that feed this one; for an unknown layer none."""
        known = self.layers.get(layer)
        return known.parents if known else ()

    def fed_by(self, source: str) -> frozenset[str]:
        """Layers whose output depends on what another, or the model's input, puts out; itself too.

        A layer whose parents are not known is taken to depend on all that ran before it.
        """
        if source not in self._fed:
            names = list(self.layers)
            later = names[names.index(source) + 1 :] if source in self.layers else []
            ahead = [source, *(n for n in later if n != INPUT and not self.layers[n].parents)]
            found = set(names) if source == INPUT else set[str]()
            children: dict[str, list[str]] = {}
            for name, layer in self.layers.items():
                for parent in layer.parents:
                    children.setdefault(parent, []).append(name)
            while ahead:
                name = ahead.pop()
                if name not in found:
                    found.add(name)
                    ahead += children.get(name, ())
            self._fed = {**dict(list(self._fed.items())[-3:]), source: frozenset(found)}
        return self._fed[source]

    @property
    def whole(self) -> bool:
        """Whether all layers whose weights are drawn at random train, and none is frozen."""
        layers = self.layers.values()
        return all(layer.parameters for layer in layers if layer.module.startswith(DRAWN))

    def sole(self, layer: str) -> bool:
        """Whether nothing leads around a layer to those behind it, of which some have parameters."""
        behind = self.fed_by(layer) - {layer}
        if not any(self.layers[name].parameters for name in behind):
            return False
        around = {INPUT}
        for _ in self.layers:
            more = {
                name
                for name, known in self.layers.items()
                if name != layer and (not known.parents or not around.isdisjoint(known.parents))
            }
            if more <= around:
                break
            around |= more
        return around.isdisjoint(behind)

    def cause(self, layer: str) -> str:
        """The layer whose parameters shape this one's output.

        Itself where it has parameters; for an activation, dropout or pooling the nearest
        layer upstream that has, if there is just one way up; else itself.
        """
        name = layer
        for _ in range(len(self.layers)):
            known = self.layers.get(name)
            if known is None or known.parameters or len(known.parents) != 1:
                break
            name = known.parents[0]
        known = self.layers.get(name)
        return name if known is not None and known.parameters else layer

    @cached_property
    def _tensors(self) -> np.ndarray:
        told = [IDS if s.layer == INPUT and s.part == IDS else s.tensor for s in self.all]
        return np.array(told, dtype=object).astype(str)

    @cached_property
    def _train(self) -> np.ndarray:
        return np.array([s.mode == "train" for s in self.all], bool)

    def renew(self) -> None:
        """Compute the masks anew when they are asked for."""
        self._masks.clear()
        self._chosen.clear()
        self._fed.clear()
        for name, attribute in vars(type(self)).items():
            if isinstance(attribute, cached_property):
                self.__dict__.pop(name, None)

    def in_order(self, layers: Iterable[str]) -> tuple[str, ...]:
        """The given layers in execution order, each once, the input first."""
        wanted = set(layers)
        first = (INPUT,) if INPUT in wanted else ()
        return first + tuple(name for name in self.layers if name in wanted and name != INPUT)
