"""Replays: what a layer did itself, and what it inherited; exact, and without a trace."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shiftwatch.integrations.torch import replay as replaying
from shiftwatch.integrations.torch import watch
from shiftwatch.monitor import Monitor
from shiftwatch.records import INPUT


class Net(nn.Module):
    """BatchNorm, dropout, spectral normalisation, an in-place activation and random numbers of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(20, 32, bias=False), nn.BatchNorm1d(32)
        self.act, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.2)
        self.fc2 = nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32))
        self.head = nn.Linear(32, 4, bias=False)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.drop(self.act(self.norm(self.fc1(x))))
        if random.random() < 0.5:
            x = x + float(np.random.random())  # noqa: NPY002
        return torch.as_tensor(self.head(self.fc2(x)))


def train(
    model: nn.Module, steps: int = 40, lr: float = 0.05, watching: bool = True,
    meddle: Callable[[int, Tensor], Tensor] = lambda step, x: x, **options: Any,
) -> tuple[Monitor, list[Tensor]]:  # fmt: skip
    """The monitor, open, and all that training left: weights, buffers, gradients, random numbers."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    options = {"run": False, "strict": True, "replay": 3, **options}
    monitor = watch(model, optimizer=optimizer, **options) if watching else Monitor(run=False)
    for step in range(steps):
        x = meddle(step, torch.randn(40, 20))
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watching:
            monitor.step(loss=loss)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    rest = [torch.rand(3), torch.tensor([random.random(), np.random.random()])]  # noqa: NPY002
    return monitor, [*model.state_dict().values(), *gradients, *rest]


def fresh(kind: Callable[[], nn.Module] = Net) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 32, bias=False), nn.ReLU(), nn.Linear(32, 32, bias=False), nn.ReLU(),
        nn.Linear(32, 4, bias=False),
    )  # fmt: skip


def strike(model: nn.Module, layer: str, at: int) -> Callable[[int, Tensor], Tensor]:
    """Weights times 5 before the forward of one step."""

    def meddle(step: int, x: Tensor) -> Tensor:
        if step == at:
            with torch.no_grad():
                model.get_parameter(layer).mul_(5)
        return x

    return meddle


@pytest.mark.parametrize("at", [1000, 30])
def test_training_is_the_same_to_the_last_bit_with_replays(at: int) -> None:
    """With references kept, and with an incident that is replayed."""
    model = fresh()
    _, expected = train(model, watching=False, meddle=strike(model, "head.weight", at))
    model = fresh()
    monitor, got = train(model, meddle=strike(model, "head.weight", at))
    monitor.replay()
    assert bool(monitor.incidents) == (at == 30)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert model.calls == 40


def test_buffers_and_modes_are_the_same_objects_after_a_replay() -> None:
    model = fresh()
    monitor, _ = train(model)
    before = [(b, b._version, b.clone()) for b in model.buffers()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    state = torch.get_rng_state()
    monitor.replay()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in model.modules())
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    for (buffer, version, value), now in zip(before, model.buffers(), strict=True):
        assert now is buffer and now._version == version and torch.equal(now, value)


def test_the_monitor_is_not_fed_by_its_replays() -> None:
    histories = []
    for number in (None, 3):
        monitor, _ = train(fresh(), replay=number, rules=())
        monitor.close()
        histories.append(monitor.history)
    plain, replayed = histories
    assert len(plain) == len(replayed) > 0
    for window in range(len(plain)):
        a, b = plain.summary(window), replayed.summary(window)
        np.testing.assert_array_equal(a.histogram.counts, b.histogram.counts)


def test_nothing_is_its_own_where_nothing_changed() -> None:
    """Not with dropout, a BatchNorm, spectral normalisation and what is done in place: all exactly 0."""
    monitor, _ = train(fresh(), lr=0.0, rules=())
    found = monitor.replay()
    assert found.left_out == ()
    own = dict(zip(found.layers, found.own.tolist(), strict=True))
    still = [layer for layer in own if layer not in (INPUT, "fc2")]
    assert still == ["fc1", "norm", "act", "drop", "head"]
    assert all(own[layer] == 0 for layer in still)
    assert own["fc2"] < 1e-3  # whose normalisation goes on by itself, pass by pass
    assert found.origin == ""


def test_the_split_is_exact() -> None:
    """A layer that puts out twice as much moved by 1, all of it its own; what follows inherits 1."""
    model = fresh(chain)
    monitor, _ = train(model, lr=0.0, rules=())
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(2)
    found = monitor.replay()
    table = {row["layer"]: (row["own"], row["inherited"]) for row in found.to_dict()["layers"]}
    assert table["0"] == table["1"] == (0, 0)
    assert table["2"] == (1, 0)
    assert table["3"] == table["4"] == (0, 1)
    assert found.origin == "2"


def test_both_brackets_add_up_to_the_change() -> None:
    """A layer with four times its weights moved by 3, and by 4 more as what enters it doubled: 8 less 1."""
    model = fresh(chain)
    monitor, _ = train(model, lr=0.0, rules=())
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(2)
        model.get_parameter("2.weight").mul_(4)
    found = monitor.replay()
    at = found.layers.index("2")
    got = found.own[at], found.inherited[at], found.share[at]
    assert got == pytest.approx((3, 4, 3 / 7), rel=1e-6)


def test_an_incident_is_replayed_by_itself_and_known_after_the_end() -> None:
    model = fresh(chain)
    monitor, _ = train(model, steps=80, meddle=strike(model, "2.weight", 60))
    monitor.close()
    (incident,) = monitor.incidents
    found = monitor.replay(incident)
    assert found.origin == "2" and found.incident == incident.number
    assert found.reference <= 60 < found.step <= incident.detected + 2
    assert monitor.replay(monitor.alerts[0]) is found
    assert any(e.kind == "replay" and "2 itself moved" in e.detail for e in monitor.history.events)


def test_references_from_before_an_open_incident_are_kept() -> None:
    """Twenty steps later the layer is still named."""
    model = fresh(chain)
    monitor, _ = train(model, steps=80, meddle=strike(model, "2.weight", 60))
    assert [i.cleared for i in monitor.incidents] == [None]
    found = monitor.replay()
    assert found.step == 80 and found.reference <= 60 and found.origin == "2"


def test_an_input_that_moved_is_the_origin() -> None:
    monitor, _ = train(fresh(chain), steps=70, meddle=lambda step, x: x * (1 + 4 * (step >= 60)))
    assert monitor.replay(monitor.incidents[0]).origin == INPUT


def test_another_operation_is_the_layers_own() -> None:
    model = fresh(chain)
    monitor, _ = train(model)
    model.get_submodule("1").forward = lambda x: torch.sigmoid(x)  # type: ignore[method-assign]
    assert monitor.replay().origin == "1"


def test_a_function_between_layers_is_no_layers_own() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.scale = nn.Linear(20, 8), nn.Linear(8, 4), 1.0

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.b(self.scale * self.a(x)))

    model = fresh(Between)
    monitor, _ = train(model, lr=0.0)
    model.scale = 5.0  # type: ignore[assignment]
    found = monitor.replay()
    assert found.origin == "" and found.inherited[-1] > 1 and found.own[-1] == 0


class Parts(nn.Module):
    """Layers that take several tensors, and one that is given an object."""

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(16))

        def forward(self, x: Tensor, cache: set[int]) -> Tensor:
            cache.add(len(cache))
            return x * self.weight

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 16, batch_first=True)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True, dropout=0.1)
        self.cached = Parts.Cached()

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 5, 4)
        zeros = torch.zeros(1, len(x), 16)
        x, _ = self.rnn(x, (zeros, zeros))
        mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
        x, _ = self.attend(x, x, x, attn_mask=mask, need_weights=False)
        return torch.as_tensor(self.cached(x, set()))


def test_layers_of_several_tensors_are_replayed_and_others_left_out_by_name() -> None:
    model = fresh(Parts)
    monitor, _ = train(model, lr=0.0, rules=())
    with torch.no_grad():
        model.get_parameter("attend.out_proj.weight").mul_(2)
    found = monitor.replay()
    assert found.layers[-2:] == ("rnn", "attend")
    assert (found.own[-2], found.own[-1], found.inherited[-1]) == (0, 1, 0)
    ((layer, reason),) = found.left_out
    assert layer == "cached" and "set, which may change" in reason
    assert "cached" in str(found)


def test_a_layer_that_is_called_twice_is_replayed_in_both_places() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 20, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.fc(F.relu(self.fc(x))))

    model = fresh(Twice)
    monitor, _ = train(model, lr=0.0, rules=())
    with torch.no_grad():
        model.get_parameter("fc.weight").mul_(2)
    found = monitor.replay()
    assert found.own[-1] == 1 and found.inherited[-1] > 0


def test_what_there_is_no_room_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """First fewer samples are kept, then fewer layers."""
    monkeypatch.setattr(replaying, "ROOM", 8_000)
    monitor, _ = train(fresh(chain), lr=0.0, rules=())
    rows = monitor._source._replayer._ring[0].given.args[0].shape[0]  # type: ignore[attr-defined]
    assert 2 <= rows < 32 and monitor.replay().left_out == ()
    monkeypatch.setattr(replaying, "ROOM", 500)
    monitor, _ = train(fresh(chain), lr=0.0, rules=())
    found = monitor.replay()
    assert found.layers == ("0",)
    assert [layer for layer, _ in found.left_out] == ["1", "2", "3", "4"]


def test_a_reference_takes_a_bounded_number_of_bytes() -> None:
    monitor, _ = train(fresh(chain), steps=200)
    ring = monitor._source._replayer._ring  # type: ignore[attr-defined]
    assert len(ring) == 3
    held = {
        t.data_ptr(): t.nbytes
        for r in ring
        for c in r.calls.values()
        for k in c
        for t in (*k.args, *k.outputs)
    }
    assert sum(held.values()) <= 3 * 4 * 32 * (20 + 32 + 32 + 32 + 32 + 4)


def test_without_references_nothing_is_added() -> None:
    model, other = fresh(chain), fresh(chain)
    monitor, _ = train(model, replay=None)
    train(other, replay=2)
    assert len(other._forward_pre_hooks) == len(model._forward_pre_hooks) + 1
    assert monitor._source._guests == ()  # type: ignore[attr-defined]
    with pytest.raises(LookupError, match=r"watch\(replay=4\)"):
        monitor.replay()
    with pytest.raises(LookupError, match="keeps none"):
        Monitor(run=False).replay()


def test_a_replay_that_cannot_be_says_why() -> None:
    model = fresh(chain)
    monitor, _ = train(model, steps=0)
    with pytest.raises(LookupError, match="none was kept yet"):
        monitor.replay()
    monitor, _ = train(model)
    model.eval()
    with pytest.raises(LookupError, match="training mode"):
        monitor.replay()
    model.train()
    monitor.close()
    with pytest.raises(LookupError, match="let go"):
        monitor.replay()


def test_a_fault_from_the_start_has_no_reference_before_it() -> None:
    model = fresh(chain)
    with torch.no_grad():
        model.get_parameter("2.weight").zero_()
    monitor, _ = train(model)
    assert monitor.incidents and monitor.incidents[0].step == 0
    with pytest.raises(LookupError, match="from before step 0"):
        monitor.replay(monitor.incidents[0])


@pytest.mark.parametrize("number", [-1, 2.5, True, "4"])
def test_the_number_of_references_is_checked(number: Any) -> None:
    with pytest.raises(ValueError, match="how many references"):
        watch(nn.Linear(2, 2), run=False, replay=number)


def test_a_compiled_model_is_replayed_as_plain_python() -> None:
    model = fresh(chain)
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(
        compiled, optimizer=optimizer, run=False, strict=True, rules=(), replay=2
    ) as monitor:
        for _ in range(20):
            loss = compiled(torch.randn(40, 20)).square().mean()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss)
        with torch.no_grad():
            model.get_parameter("2.weight").mul_(2)
        found = monitor.replay()
    at = found.layers.index("2")
    assert found.origin == "2" and found.own[at] == 1 and found.inherited[at] == 0


def test_a_dictionary_of_named_inputs_is_kept_too() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(10, 8), nn.Linear(8, 2)

        def forward(self, ids: Tensor, weight: float = 1.0) -> dict[str, Tensor]:
            return {"logits": self.head(self.table(ids).mean(1)) * weight}

    model = fresh(Named)
    with watch(model, run=False, strict=True, replay=2) as monitor:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(12):
            out = model(ids=torch.randint(10, (16, 6)), weight=0.5)
            out["logits"].square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.step()
        found = monitor.replay()
    assert found.layers == ("table", "head")  # symbols have no level
    assert (found.own > 0).all()


def test_a_pass_that_fails_is_said_once_and_ends_replays_only() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 4)

        def forward(self, x: Tensor) -> Tensor:
            assert len(x) == 40, "whole batches only"
            return torch.as_tensor(self.fc(x))

    monitor, _ = train(fresh(Once), strict=False)
    assert monitor.steps == 40 and len(monitor.history) > 2
    (dark,) = [e for e in monitor.history.events if e.kind == "dark"]
    assert "replay" in dark.detail and "whole batches only" in dark.detail
    with pytest.raises(LookupError, match="whole batches only"):
        monitor.replay()
