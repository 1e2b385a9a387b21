"""Token ids: whether the samples of a batch differ is read of them, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftwatch.contents import contents
from shiftwatch.integrations.torch import slab, watch, weights
from shiftwatch.integrations.torch.nested import ids
from shiftwatch.monitor import Monitor
from shiftwatch.records import IDS, INPUT, Site
from shiftwatch.sites import Sites
from shiftwatch.source import Group

WORDS, LENGTH, STRIKE = 50, 24, 80
SITE = Site(INPUT, "input", IDS)
Shown = Callable[[int, Tensor], Tensor]


class Reader(nn.Module):
    """A bag of words; ids stand for the same words modulo their number."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden = nn.Embedding(WORDS, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        x = self.embed(input_ids % WORDS)
        return self.head(torch.tanh(self.hidden(x.flatten(1, -2).mean(1) if x.dim() > 2 else x)))


@dataclass
class Batch:
    """What some collators make."""

    attention_mask: Tensor
    input_ids: Tensor


class OfBatches(Reader):
    def forward(self, batch: Batch) -> Any:  # type: ignore[override]
        return super().forward(batch.input_ids)


def as_shown(step: int, x: Tensor) -> Tensor:
    return x


def one_sample(step: int, x: Tensor) -> Tensor:
    """From the strike on all samples of a batch are its first."""
    return x[:1].expand_as(x).clone() if step >= STRIKE else x


def two_samples(step: int, x: Tensor) -> Tensor:
    return x[torch.arange(len(x)) % 2] if step >= STRIKE else x


def train(
    shown: Shown = as_shown, *, model: nn.Module | None = None,
    call: Callable[[Any, Tensor], Tensor] = lambda model, x: model(x), batch: int = 32,
    shape: tuple[int, ...] = (LENGTH,), steps: int = 120, passes: int = 1,
    pause: int | None = None, **options: Any,
) -> Monitor:  # fmt: skip
    """Train on drawn words as they are shown; how the model is called with them is ``call``."""
    torch.manual_seed(0)
    model = Reader() if model is None else model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = torch.Generator().manual_seed(2)
    monitor = watch(model, optimizer=optimizer, run=False, strict=True, **options)
    for step in range(steps):
        if step == pause:
            state = monitor.state_dict()
            monitor.close()
            monitor = watch(model, optimizer=optimizer, run=False, strict=True, **options)
            monitor.load_state_dict(state)
        for _ in range(passes):
            x = shown(step, torch.randint(0, WORDS, (batch, *shape), generator=data))
            said = call(model, x)
            loss = nn.functional.cross_entropy(said, x.reshape(len(x), -1)[:, 0] % WORDS)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.step(loss=loss)
    monitor.close()
    return monitor


def told(monitor: Monitor) -> bool:
    """Whether what repeats was laid at the input within three steps of the strike, and first."""
    found = [a for a in monitor.alerts if a.metric == "distinct"]
    assert all((a.kind, a.layer, a.origin) == ("collapse", INPUT, INPUT) for a in found)
    return bool(found) and found[0].step == STRIKE and found[0].detected <= STRIKE + 3


@pytest.mark.parametrize("batch", [1, 2, 32, 200])
def test_shuffled_text_is_silent(batch: int) -> None:
    """In batches of any size."""
    assert not [a for a in train(batch=batch).alerts if a.layer == INPUT]


@pytest.mark.parametrize("shown", [one_sample, two_samples])
def test_samples_that_repeat_are_told_at_the_input_within_three_steps(shown: Shown) -> None:
    """Every word keeps its frequency; only that samples are alike is news."""
    found = train(shown)
    assert told(found) and found.incidents[0].origin == INPUT


def test_they_are_told_as_soon_where_windows_have_grown_long() -> None:
    """After hundreds of steps few are kept; a look at the newest ids has those kept that tell."""

    def shown(step: int, x: Tensor) -> Tensor:
        return one_sample(step - 340, x)

    found = [a for a in train(shown, steps=440).alerts if a.metric == "distinct"]
    assert found and found[0].detected <= 340 + STRIKE + 6


@pytest.mark.parametrize("shape", [(), (1,), (8,), (500,), (6, 7)])
def test_repeated_ids_of_any_shape_are_told(shape: tuple[int, ...]) -> None:
    """Single ids, short and long sequences, and several per sample."""
    assert told(train(one_sample, shape=shape))


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: model(input_ids=x, attention_mask=torch.ones_like(x)),
        lambda model, x: model(attention_mask=torch.ones_like(x), input_ids=x),
        lambda model, x: model(**{"input_ids": x.int()}),
        lambda model, x: model(x, x > 0),
        lambda model, x: model(x.t().contiguous().t()),
    ],
)
def test_ids_are_found_beside_masks_and_under_their_name(call: Any) -> None:
    assert told(train(two_samples, call=call))


def test_ids_are_found_in_dataclasses() -> None:
    def call(model: Any, x: Tensor) -> Any:
        return model(Batch(torch.ones_like(x), x))

    assert told(train(one_sample, model=OfBatches(), call=call))


def test_of_several_single_ids_none_is_taken_for_the_sample() -> None:
    """One user's items: the user is the same, the samples are not."""
    user = torch.zeros(4, dtype=torch.int64)
    assert ids([("user", user), ("item", torch.arange(4))]) is None


class Both(Reader):
    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Linear(4, WORDS)

    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x) + self.side(y)


def test_beside_real_numbers_ids_are_left_alone() -> None:
    """A condition or a label that is the same for all is no sample that repeats."""
    data = torch.Generator().manual_seed(3)

    def call(model: Any, x: Tensor) -> Any:
        return model(x, torch.randn(len(x), 4, generator=data))

    found = train(one_sample, model=Both(), call=call)
    assert SITE not in found.history.sites and Site(INPUT, "input") in found.history.sites
    assert not [a for a in found.alerts if a.metric == "distinct"]


def test_the_size_of_ids_is_judged_by_nothing() -> None:
    """The same words under numbers a thousand times as large: names have no size."""
    found = train(lambda step, x: x + 1000 * WORDS * (step >= STRIKE))
    assert not found.alerts and SITE in found.history.sites


def test_ids_leave_no_values_behind() -> None:
    """No mean, no histogram, no metric; and limits are divided over the others alone."""
    run = train().history
    column = run.sites.index(SITE)
    assert all(run.summary(i).padded(len(run.sites)).count[column] == 0 for i in range(len(run)))
    assert all(np.isnan(run.metric(key)[:, column]).all() for key in run.metrics)
    sites = Sites()
    for site in run.sites:
        sites.add(site, run.layers[site.layer])
    assert not sites.mask("output", "input")[sites.column(SITE)] and sites.entering == -1


def test_evaluation_reads_no_ids() -> None:
    def call(model: Any, x: Tensor) -> Any:
        model.eval()
        with torch.no_grad():
            model(torch.zeros_like(x))
        return model.train()(x)

    found = train(call=call)
    assert not found.alerts
    assert [s for s in found.history.sites if s.layer == INPUT] == [SITE]


def test_padding_longer_text_and_short_batches_are_no_repetition() -> None:
    """What differs may lie in the first few ids; a last batch of a few samples is looked at twice."""

    def shown(step: int, x: Tensor) -> Tensor:
        x = x if step < 60 else x.repeat(1, 4)
        length = torch.arange(x.shape[1]) < 3 + torch.arange(len(x))[:, None] % 5
        x = torch.where(length | torch.tensor(step % 3 > 0), x, 0)
        return x[:3] if step % 12 >= 10 else x

    assert not [a for a in train(shown).alerts if a.layer == INPUT]


def test_samples_that_always_repeat_are_usual() -> None:
    """Few texts, learnt by heart: what was so from the start is no news."""
    assert not [
        a for a in train(lambda step, x: x[torch.arange(32) // 8]).alerts if a.layer == INPUT
    ]


def test_each_of_several_passes_is_looked_at() -> None:
    assert told(train(one_sample, passes=3))


def test_a_resume_in_between_changes_nothing() -> None:
    found = [a for a in train(one_sample, pause=64).alerts if a.metric == "distinct"]
    assert found and found[0].step == STRIKE


def test_a_copied_model_is_trained_unwatched() -> None:
    """The copy's repeated ids are nobody's business, and the first model's are told as ever."""
    model = Reader()

    def call(model: Any, x: Tensor) -> Any:
        copy.deepcopy(model)(torch.zeros_like(x))
        return model(x)

    assert not train(model=model, call=call).alerts
    assert told(train(one_sample, model=model, call=call))


def test_compiled_models_show_their_ids() -> None:
    """In one graph, without a break."""
    torch._dynamo.reset()
    model = torch.compile(Reader(), backend="aot_eager", fullgraph=True)
    assert told(train(one_sample, model=model))  # type: ignore[arg-type]
    torch._dynamo.reset()


def test_ids_on_a_device_come_home_with_their_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU tensors are sent down the device's path: what repeats is known when it has arrived."""
    there = torch.device("cpu")
    monkeypatch.setattr(slab, "elsewhere", lambda tensor: there)
    monkeypatch.setattr(weights, "elsewhere", lambda tensor: there)
    found = [a for a in train(two_samples).alerts if a.metric == "distinct"]
    assert found and found[0].step == STRIKE and found[0].origin == INPUT
    assert not train().alerts


def test_ids_take_nothing_from_the_users_random_numbers_and_change_no_bit() -> None:
    """Dropout draws the same with and without a monitor."""
    weights_of = []
    for watched in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(WORDS, 8), nn.Dropout(), nn.Linear(8, WORDS))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = watch(model, optimizer=optimizer, run=False, strict=True) if watched else None
        for _ in range(12):
            x = torch.randint(0, WORDS, (4, 6))
            nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten()).backward()
            optimizer.step()
            optimizer.zero_grad()
            if monitor is not None:
                monitor.step()
        weights_of.append([p.detach().clone() for p in model.parameters()])
        if monitor is not None:
            monitor.close()
    assert all(torch.equal(a, b) for a, b in zip(*weights_of, strict=True))


def test_contents_of_ids_are_how_many_samples_differ() -> None:
    """They have no means; the others, which hold the same numbers, have."""
    values = np.array([[[[7.0, 8.0], [7.0, 9.0], [7.0, 8.0], [7.0, 8.0]]]])
    group = Group(np.array([2]), values, np.array([[4]]), ids=True)
    seen = contents([group], 2)
    assert np.isnan(seen.mean).all() and np.isnan(seen.variance).all()
    assert seen.distinct.tolist() == [0.5] and seen.positions.tolist() == [4]
