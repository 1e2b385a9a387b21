"""What a replay says of the numbers that it found."""

from __future__ import annotations

import json

import numpy as np

from shiftwatch.records import INPUT
from shiftwatch.replaying import Replayed, usual


def replayed(
    layers: str, own: list[float], inherited: list[float], usually: list[float]
) -> Replayed:
    names = tuple(layers.split())
    return Replayed(9, 8, 1, names, np.array(own), np.array(inherited), np.array(usually))


def test_the_origin_is_the_layer_farthest_beyond_its_own_usual_change() -> None:
    """Not the one that moved most: a head that always moves much did so again."""
    found = replayed("fc1 fc2 head", [0.01, 0.4, 0.6], [0, 0.1, 3], [0.01, 0.01, 0.5])
    assert found.origin == "fc2"
    assert "fc2 itself moved" in found.verdict and "80% is its own" in found.verdict


def test_no_layer_is_named_where_none_moved_by_itself() -> None:
    """A function between layers changed: all that follow inherit it."""
    found = replayed("fc1 fc2", [0.01, 0.02], [0, 5], [0.01, 0.02])
    assert found.origin == "" and "between layers" in found.verdict


def test_the_input_comes_before_what_it_brought_about() -> None:
    found = replayed(f"{INPUT} fc1", [2, 3], [0, 2], [0.2, 0.01])
    assert found.origin == INPUT
    assert replayed(f"{INPUT} fc1", [0.3, 3], [0, 2], [0.2, 0.01]).origin == "fc1"


def test_an_input_of_which_nothing_is_known_is_not_judged() -> None:
    """Its samples always differ: without a usual distance none is large."""
    assert replayed(f"{INPUT} fc1", [0.3, 3], [0, 2], [np.nan, np.nan]).origin == "fc1"


def test_fewer_steps_than_usual_hide_no_layer() -> None:
    """Three steps after a reference all moved a fifth of what they do in sixteen, and one did not."""
    usually = [0.3, 0.2, 0.2, 0.2]
    found = replayed("a b c d", [0.06, 0.04, 0.2, 0.04], [0, 0, 0, 0], usually)
    assert found.origin == "c"
    assert replayed("a b c d", [0.06, 0.04, 0.04, 0.04], [0, 0, 0, 0], usually).origin == ""


def test_layers_that_hardly_move_are_not_named_where_fewer_steps_have_passed() -> None:
    """Found in healthy networks with BatchNorm: its layers move by a hundredth, all others by a fifth."""
    usually = [0.3, 0.01, 0.2, 0.01, 0.2]
    assert replayed("a n b m c", [0.06, 0.005, 0.04, 0.004, 0.04], [0] * 5, usually).origin == ""


def test_what_is_not_finite_is_all_its_own_and_first_in_order() -> None:
    found = replayed("a b c", [0, np.inf, np.inf], [0, 0, np.inf], [0, 0, 0])
    assert found.origin == "b"
    np.testing.assert_array_equal(found.share, [np.nan, 1, 1])


def test_nothing_at_all_has_no_origin() -> None:
    assert replayed("", [], [], []).origin == ""


def test_a_replay_in_plain_containers_goes_through_json() -> None:
    plain = replayed("fc1 fc2", [0.5, 0.25], [0.5, 0.75], [0, 0]).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["origin"] == "fc1" and plain["layers"][1]["share"] == 0.25


def test_the_table_has_a_row_per_layer_and_ends_with_the_verdict() -> None:
    found = replayed("fc1 fc2", [0.5, 0.25], [0.5, 0.75], [0, 0])
    lines = str(found).splitlines()
    assert lines[-1] == found.verdict and [w.split()[0] for w in lines[2:4]] == ["fc1", "fc2"]


def test_what_is_usual_is_the_median_over_references() -> None:
    np.testing.assert_array_equal(
        usual([{"a": 1.0}, {"a": 9.0, "b": 2.0}, {"a": 3.0}], ("a", "b", "c")), [3, 2, np.nan]
    )
