"""The probe: fixed inputs, shown while the weights learn, without a trace."""

from __future__ import annotations

import logging
import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import shiftwatch
from shiftwatch.integrations.torch import Probe, watch
from shiftwatch.integrations.torch.untouched import untouched
from shiftwatch.monitor import Monitor
from shiftwatch.records import Site


class Net(nn.Module):
    """BatchNorm, dropout, spectral normalisation, random numbers of all kinds, and a count of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(20, 32, bias=False), nn.BatchNorm1d(32)
        self.drop = nn.Dropout(0.2)
        self.fc2 = nn.utils.parametrizations.spectral_norm(nn.Linear(32, 4))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.drop(torch.relu(self.norm(self.fc1(x))))
        if random.random() < 0.5:
            x = x + float(np.random.random())  # noqa: NPY002
        return torch.as_tensor(self.fc2(x))


def train(
    model: nn.Module, steps: int = 40, lr: float = 0.1, watching: bool = True, **options: Any
) -> tuple[Monitor | None, list[Tensor]]:
    """The monitor, and all that training left: weights, buffers, gradients, random numbers."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    options = {"run": False, "strict": True, **options}
    monitor = watch(model, optimizer=optimizer, **options) if watching else None
    losses = []
    with monitor or nullcontext():
        for _ in range(steps):
            loss = model(torch.randn(32, 20)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if monitor is not None:
                monitor.step(loss=loss)
    left = [
        *model.state_dict().values(),
        *(p.grad for p in model.parameters() if p.grad is not None),
    ]
    rest = [torch.rand(3), torch.tensor([random.random(), np.random.random()])]  # noqa: NPY002
    return monitor, [*left, *losses, *rest]


def fresh(kind: type[nn.Module] = Net) -> nn.Module:
    torch.manual_seed(0)
    return kind()


BATCH = torch.randn(64, 20, generator=torch.Generator().manual_seed(7))


def test_training_is_the_same_to_the_last_bit_with_a_probe() -> None:
    _, expected = train(fresh(), watching=False)
    model = fresh()
    monitor, got = train(model, probe=Probe(BATCH, every=3))
    assert monitor is not None and [p.step for p in monitor.probes] == list(range(0, 41, 3))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert model.calls == 40


def test_the_monitor_is_not_fed_by_its_own_probe() -> None:
    """Two monitors see the same samples whether one of them probes or not."""
    histories = []
    for probe in (None, Probe(BATCH, every=3)):
        model = fresh()
        other = watch(model, run=False, strict=True, rules=())
        monitor, _ = train(model, probe=probe, rules=())
        other.close()
        assert monitor is not None
        histories.append(monitor.history)
    plain, probing = histories
    assert len(plain) == len(probing) > 0
    for window in range(len(plain)):
        a, b = plain.summary(window), probing.summary(window)
        np.testing.assert_array_equal(a.histogram.counts, b.histogram.counts)


def test_buffers_are_the_same_objects_and_versions() -> None:
    model = fresh()
    before = [(b, b._version, b.clone()) for b in model.buffers()]
    with untouched(model), torch.no_grad():
        model(BATCH)
    for (buffer, version, value), now in zip(before, model.buffers(), strict=True):
        assert now is buffer and now._version == version and torch.equal(now, value)


class Noting(nn.Module):
    """Keeps what it met in a list and in a dict, whose order it changes, and throws its own dice."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.last = [0.0], {"first": 1, "second": 2}
        self.dice = torch.Generator().manual_seed(3)

    def forward(self, x: Any) -> Any:
        self.seen.append(float(x.sum()))
        self.last["first"] = self.last.pop("first") + 1
        return x + torch.rand((), generator=self.dice)


def test_what_a_pass_writes_into_attributes_is_put_back() -> None:
    model = Noting()
    seen, last, dice = model.seen, model.last, model.dice.get_state()
    with untouched(model):
        model(BATCH)
        assert len(seen) == 2 and list(last) == ["second", "first"]
    assert model.seen is seen and seen == [0.0]
    assert model.last is last and list(last.items()) == [("first", 1), ("second", 2)]
    assert torch.equal(model.dice.get_state(), dice)


def test_an_exception_in_a_pass_leaves_no_trace_either() -> None:
    model = fresh()
    state = torch.get_rng_state()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), untouched(model):
        model(BATCH)
        raise KeyboardInterrupt
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.calls == 0


def test_where_no_weight_moves_the_distances_are_exactly_zero() -> None:
    model = fresh()
    nn.utils.parametrize.remove_parametrizations(model.fc2, "weight")  # it iterates by itself
    monitor, _ = train(model, lr=0.0, probe=Probe(BATCH, every=8))
    assert monitor is not None
    for probe in monitor.probes[1:]:
        for distance in (probe.wasserstein, probe.kl, probe.wasserstein_step, probe.kl_step):
            assert (distance == 0).all()


def test_the_first_probe_is_of_the_untrained_model() -> None:
    """In fine-tuning, the pretrained one: percentiles of its own outputs, to the last digit."""
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh())
    with torch.no_grad():
        expected = model(BATCH).numpy().astype(np.float64)
    monitor, _ = train(model, steps=20, probe=BATCH)
    assert monitor is not None
    first = monitor.probes[0]
    assert first.step == 0 and first.sites == (Site("0"), Site("1"))
    got = [first.p15[1], first.p50[1], first.p85[1]]
    np.testing.assert_allclose(got, np.percentile(expected, [15, 50, 85]), rtol=1e-6)
    np.testing.assert_allclose(
        [first.mean[1], first.std[1]], [expected.mean(), expected.std()], rtol=1e-6
    )


def test_distances_agree_with_their_formulas() -> None:
    """A layer whose weight is doubled by hand after the first probe."""
    model = nn.Sequential(nn.Linear(20, 32, bias=False))
    with torch.no_grad():
        x = model(BATCH).numpy().astype(np.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(
        model, optimizer=optimizer, run=False, rules=(), probe=Probe(BATCH, every=4)
    ) as monitor:
        for step in range(8):
            model(torch.randn(8, 20)).sum().backward()
            optimizer.step()
            if step == 5:
                with torch.no_grad():
                    model[0].weight.mul_(2.0)
            monitor.step()
    last = monitor.probes[-1]
    assert last.step == 8
    mean, variance = x.mean(0), x.var(0)
    kl = (
        (4 * variance + mean**2) / variance + (variance + mean**2) / (4 * variance)
    ).mean() / 2 - 1
    assert last.wasserstein[0] == pytest.approx(np.abs(x).mean() / x.std(), rel=1e-4)
    assert last.kl[0] == pytest.approx(kl, rel=1e-4)
    assert last.kl_step[0] == last.kl[0]


def test_a_run_on_disk_shows_its_probes(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    monitor, _ = train(fresh(), run=tmp_path / "run", probe=Probe(BATCH, every=16))
    assert monitor is not None
    table = shiftwatch.open(tmp_path / "run").to_pandas()
    rows = table[(table.metric == "probe_wasserstein") & (table.layer == "fc1")]
    place = monitor.probes[0].sites.index(Site("fc1"))
    assert rows.value.tolist() == [p.wasserstein[place] for p in monitor.probes]
    assert {"probe_kl", "probe_p15", "probe_std", "probe_kl_step"} <= set(table.metric)


def test_while_the_model_evaluates_the_probe_waits() -> None:
    model = fresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(
        model, optimizer=optimizer, run=False, probe=Probe(BATCH, every=4), strict=True
    ) as monitor:
        for step in range(12):
            model.train()
            model(torch.randn(32, 20)).square().mean().backward()
            optimizer.step()
            model.train(step not in (3, 4))
            monitor.step()
    assert [p.step for p in monitor.probes] == [0, 6, 8, 12]


def test_a_batch_that_does_not_fit_is_said_once_and_training_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, expected = train(fresh(), watching=False)
    with caplog.at_level(logging.WARNING, "shiftwatch"):
        monitor, got = train(fresh(), strict=False, probe=Probe(torch.randn(4, 3), every=2))
    assert monitor is not None and monitor.probes == []
    assert [r for r in caplog.messages if "probe is not watched" in r] == caplog.messages
    assert len(caplog.messages) == 1
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    with pytest.raises(RuntimeError, match="shapes"):
        train(fresh(), strict=True, probe=torch.randn(4, 3))


@pytest.mark.parametrize("probe", [np.ones((4, 20)), [], "batch"])
def test_a_probe_without_a_tensor_is_refused(probe: Any) -> None:
    with pytest.raises(TypeError, match="what the model is called with"):
        watch(fresh(), run=False, probe=probe)
    with pytest.raises(ValueError, match="every"):
        Probe(BATCH, every=0)


def test_the_batch_is_copied_when_it_is_given() -> None:
    batch = BATCH.clone()
    model = nn.Sequential(nn.Linear(20, 4))
    probe = Probe(batch, every=16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(model, optimizer=optimizer, run=False, probe=probe) as monitor:
        batch.fill_(100.0)
        for _ in range(16):
            model(torch.randn(8, 20)).sum().backward()
            optimizer.step()
            monitor.step()
    assert monitor.probes[0].p85[0] < 10


def test_a_compiled_model_is_probed_and_not_compiled_anew() -> None:
    compiled = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    def run(probe: Any) -> Any:
        torch._dynamo.reset()
        compiled.clear()
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
        monitor, left = train(torch.compile(inner, backend=backend), probe=probe)
        return monitor, left, len(compiled)

    _, expected, once = run(None)
    monitor, got, number = run(Probe(BATCH, every=5))
    assert number == once
    assert [p.step for p in monitor.probes] == list(range(0, 41, 5))
    assert len(monitor.probes[0].sites) == 4
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_arguments_by_name_and_nested_outputs_are_seen() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(20, 8, batch_first=True)

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return torch.as_tensor(self.rnn(x[:, None])[0] * scale)

    model = fresh(Recurrent)
    monitor, _ = train(model, steps=2, probe={"x": BATCH, "scale": 2.0})
    assert monitor is not None
    assert [s.key for s in monitor.probes[0].sites] == [
        "rnn:output",
        "rnn:output[1.0]",
        "rnn:output[1.1]",
    ]


def test_lightning_hands_the_probe_on() -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from shiftwatch.integrations.lightning import ShiftWatch

    class Fit(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4))

        def forward(self, x: Tensor) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Any:
            return self.net(batch).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = ShiftWatch(run=False, probe=BATCH)
    trainer = lightning.Trainer(
        max_steps=20, callbacks=[callback], logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.randn(640, 20), batch_size=32)
    trainer.fit(Fit(), data)
    assert [p.step for p in callback.monitor.probes] == [0, 16]
