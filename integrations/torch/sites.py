"""Sites: what is sampled of which layer, and the columns that the monitor gave out for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.graph import Graph
from shiftwatch.integrations.torch.slab import RAW, RAW_IDS, Shop, Tap, refuse
from shiftwatch.integrations.torch.weights import Weights
from shiftwatch.monitor import Monitor
from shiftwatch.records import IDS, INPUT, Layer, Site

_RANK = {"input": 0, "output": 1, "gradient": 2, "weight": 3, "update": 4}


class Sites:
    """All sites of a model.

    Args:
        monitor: columns come from it.
        shop: where samples go.
        kinds: the tensors that are watched.
        layers: the watched modules, by their names.
        graph: who feeds whom.

    Attributes:
        taps: one for each site that hooks have seen.
        fresh: those of them that have no column yet.
        told: the layers as the monitor knows them.
        columns: how many were given out.
    """

    def __init__(
        self,
        monitor: Monitor,
        shop: Shop,
        kinds: Collection[str],
        layers: Mapping[str, nn.Module],
        graph: Graph,
    ) -> None:
        self._monitor, self._shop, self._kinds = monitor, shop, kinds
        self._layers, self._graph = layers, graph
        self.taps: list[Tap] = []
        self.fresh: list[Tap] = []
        self.told: dict[str, Layer] = {}
        self.columns = 0

    def open(self, site: Site, axis: int | str, activation: str, like: Tensor) -> Tap:
        """A tap for a site that is seen for the first time, with a tensor such as ``like``.

        Raises:
            Unseeable: where such tensors cannot be sampled.
        """
        refuse(like, RAW_IDS if site.part == IDS else RAW)
        tap = Tap(self._shop, site, axis, activation)
        self.taps.append(tap)
        self.fresh.append(tap)
        return tap

    def register(self, weights: Weights | None) -> None:
        """Have columns given out to new sites, in the order of execution.

        Args:
            weights: the parameters; ``None`` where they are not watched.
        """
        place = {name: i for i, name in enumerate(self._graph.order)}
        place[INPUT] = -1
        fresh: list[tuple[Site, Any]] = [(tap.site, tap) for tap in self.fresh]
        self.fresh = []
        if weights is not None:
            fresh += [
                (site, (weights.update_columns if moved else weights.weight_columns, i))
                for i, site, moved in weights.sites()
            ]
            for i, reason in weights.dark.items():
                if reason:  # else it was said when the layer went
                    self._monitor.dark(weights.listed[i].name, reason)
        fresh.sort(key=lambda f: (place.get(f[0].layer, len(place)), _RANK[f[0].tensor]))
        for site, owner in fresh:
            if site.tensor not in self._kinds:
                continue
            layer = self.told.get(site.layer) or self._layer(site.layer)
            self.told[site.layer] = layer
            column = self._monitor.register(site, layer)
            self.columns = max(self.columns, column + 1)
            if isinstance(owner, Tap):
                owner.enrol(column)
            else:
                columns, i = owner
                columns[i] = column

    def renew(self, names: Iterable[str]) -> None:
        """Tell of layers anew: by now others feed them, or what they hold trains or does not."""
        for name in names:
            self.told[name] = self._layer(name)
        for tap in self.taps:
            if tap.column >= 0:
                self._monitor.register(tap.site, self.told[tap.site.layer])

    def close(self) -> None:
        """Let go of model and samples."""
        self._layers, self._graph, self._shop = {}, Graph(), Shop()
        self.taps, self.fresh = [], []

    def _layer(self, name: str) -> Layer:
        module = self._layers.get(name)
        parents = self._graph.parents.get(name, ())
        if name == INPUT:
            return Layer(INPUT)
        if module is None:  # a container's own parameter
            return Layer(name, module="Parameter", parameters=True, parents=parents)
        return Layer(
            name,
            module=type(module).__name__,
            activation=modules.activation(module),
            parameters=any(p.requires_grad for p in module.parameters()),
            parents=parents,
            norm=modules.norm(module),
            shape=modules.shape(module),
        )
