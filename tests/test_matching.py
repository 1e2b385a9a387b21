"""Which layer of one run is which of another."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from shiftwatch.comparison.matching import Pair, kind, match
from shiftwatch.records import Layer


def _net(*layers: tuple[str, str, tuple[int, ...]]) -> Mapping[str, Layer]:
    return {name: Layer(name, module, shape=shape) for name, module, shape in layers}


def _mlp(prefix: str, widths: tuple[int, ...], norm: bool = False) -> Mapping[str, Layer]:
    """Dense layers with ReLUs, numbered as in a Sequential."""
    layers: list[tuple[str, tuple[int, ...]]] = []
    for i in range(len(widths) - 1):
        layers.append(("Linear", (widths[i + 1], widths[i])))
        if i < len(widths) - 2:
            layers += [("BatchNorm1d", (widths[i + 1],))] * norm + [("ReLU", ())]
    return _net(*((f"{prefix}{i}", module, shape) for i, (module, shape) in enumerate(layers)))


def _pairs(a: Mapping[str, Layer], b: Mapping[str, Layer]) -> dict[str, str]:
    return {p.b: p.a for p in match(a, b).pairs}


def test_layers_of_one_name_are_one_layer_whatever_else_changed() -> None:
    """Another width or another activation stands in the same place."""
    a = _net(("fc1", "Linear", (8, 4)), ("act", "ReLU", ()))
    b = _net(("fc1", "Linear", (16, 4)), ("act", "GELU", ()))
    assert match(a, b).pairs == (Pair("fc1", "fc1"), Pair("act", "act"))


def test_renamed_layers_are_matched_in_order_by_kind_and_shape() -> None:
    """All names are others, and so is the module they lie in."""
    a, b = _mlp("body.", (64, 32, 32, 10)), _mlp("model.trunk.", (64, 32, 32, 10))
    found = match(a, b)
    assert [(p.a[5:], p.b[12:]) for p in found.pairs] == [(str(i), str(i)) for i in range(5)]
    assert {p.by for p in found.pairs} == {"structure"}
    assert found.only_a == found.only_b == ()


def test_a_layer_inserted_into_numbers_shifts_no_pair() -> None:
    """With BatchNorm between, ``2`` is no more the second dense layer; the norms are alone."""
    a, b = _mlp("net.", (64, 32, 16, 10)), _mlp("net.", (64, 32, 16, 10), norm=True)
    assert _pairs(a, b) == {
        "net.0": "net.0", "net.2": "net.1", "net.3": "net.2", "net.5": "net.3", "net.6": "net.4",
    }  # fmt: skip
    assert match(a, b).only_b == ("net.1", "net.4")
    assert match(b, a).only_a == ("net.1", "net.4")


def test_the_layer_that_was_taken_out_is_known_by_its_shape() -> None:
    """Of three dense layers the one of another shape is gone."""
    a, b = _mlp("", (64, 48, 32, 10)), _mlp("", (64, 48, 10))
    assert _pairs(a, b)["0"] == "0"
    assert len(match(a, b).only_a) == 2 and match(a, b).only_b == ()


def test_other_names_hold_the_matches_between_them() -> None:
    """What lies before a named layer is not matched to what lies after it."""
    a = _net(("first", "Linear", (8, 8)), ("norm", "LayerNorm", (8,)))
    b = _net(("norm", "LayerNorm", (8,)), ("last", "Linear", (8, 8)))
    found = match(a, b)
    assert _pairs(a, b) == {"norm": "norm"}
    assert (found.only_a, found.only_b) == (("first",), ("last",))


def test_layers_of_unknown_or_other_kind_are_not_guessed() -> None:
    """Order alone is no evidence."""
    a = {"x": Layer("x"), "c": Layer("c", "Conv2d", shape=(3, 3))}
    b = {"y": Layer("y"), "d": Layer("d", "Linear", shape=(3, 3))}
    assert match(a, b).pairs == ()


def test_the_word_at_the_end_of_a_name_decides_between_equals() -> None:
    """Of two layers of one kind and shape the namesake is taken."""
    a = _net(("attn.q", "Linear", (8, 8)), ("attn.k", "Linear", (8, 8)))
    b = _net(
        ("mixer.k", "Linear", (8, 8)),
    )
    assert _pairs(a, b) == {"mixer.k": "attn.k"}


def test_a_synchronised_norm_is_the_norm_it_replaced() -> None:
    """A kind is what a layer does."""
    assert kind(Layer("n", "SyncBatchNorm", norm="batch")) == kind(
        Layer("n", "BatchNorm2d", norm="batch")
    )


_LAYERS = st.lists(
    st.tuples(st.sampled_from("abcdef0123"), st.sampled_from(["Linear", "ReLU", ""]),
              st.sampled_from([(), (2, 2), (3, 3)])),
    max_size=8, unique_by=lambda layer: layer[0],
)  # fmt: skip


@given(_LAYERS, _LAYERS)
def test_every_layer_has_one_counterpart_or_none(
    one: list[tuple[str, str, tuple[int, ...]]], other: list[tuple[str, str, tuple[int, ...]]]
) -> None:
    """Nothing is matched twice, nothing is lost, and structure matches do not cross."""
    a, b = _net(*one), _net(*other)
    found = match(a, b)
    assert sorted([*(p.a for p in found.pairs), *found.only_a]) == sorted(a)
    assert sorted([*(p.b for p in found.pairs), *found.only_b]) == sorted(b)
    place = {name: i for i, name in enumerate(a)}
    order = [place[p.a] for p in found.pairs if p.by == "structure"]
    assert order == sorted(order)


@given(_LAYERS)
def test_a_network_is_matched_to_itself_by_name(
    layers: list[tuple[str, str, tuple[int, ...]]],
) -> None:
    """Whatever it is called."""
    net = _net(*layers)
    assert match(net, net).pairs == tuple(Pair(name, name) for name in net)
