"""Figures for papers: what they draw, checked on the artists, and that they can be kept."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from shiftwatch import plots
from shiftwatch.history import History, Window
from shiftwatch.plots.smooth import densities, smooth_quantiles
from shiftwatch.records import Layer, Site
from shiftwatch.run import Run
from shiftwatch.summaries import Summary, summarize
from shiftwatch.summaries.histogram import Histogram
from tests.simulated import HOSTILE, empty_run, simulated

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LAYER = "block1.norm"


@functools.cache
def _run() -> Run:
    return simulated()


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


EVERY: dict[str, Callable[..., Any]] = {
    "bands": lambda run, layer=LAYER, **o: plots.bands(run, layer, **o),
    "heatmap": lambda run, layer=LAYER, **o: plots.heatmap(run, "mean_shift", **o),
    "ridgeline": lambda run, layer=LAYER, **o: plots.ridgeline(run, layer, **o),
    "loss": lambda run, layer=LAYER, **o: plots.loss(run, **o),
    "tracks": lambda run, layer=LAYER, **o: plots.tracks({layer: run}, "kl", layer, **o),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_figure_has_the_width_of_a_column_and_names_its_axes(name: str) -> None:
    fig, ax = EVERY[name](_run())
    assert fig.get_size_inches()[0] == pytest.approx(plots.COLUMN)
    assert "step" in (ax.get_xlabel(), ax.get_ylabel())
    fig.draw_without_rendering()
    assert {text.get_fontsize() for text in ax.get_xticklabels()} == {7.0}


@pytest.mark.parametrize("name", EVERY)
def test_it_draws_into_axes_of_mine_and_leaves_my_style_alone(name: str) -> None:
    before = dict(matplotlib.rcParams)
    mine, axes = plt.subplots(1, 2)
    fig, ax = EVERY[name](_run(), ax=axes[1])
    assert fig is mine and ax is axes[1]
    assert not axes[0].lines and len(plt.get_fignums()) == 1
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("layer", [*HOSTILE[:4], "a$b_{$", "x" * 300])
def test_any_name_of_a_layer_can_be_drawn(name: str, layer: str, tmp_path: Path) -> None:
    run = simulated(windows=20, names=[layer, "b", "c"])
    fig, _ = EVERY[name](run, layer)
    assert plots.save(fig, tmp_path / "figure.svg").stat().st_size > 1000


@pytest.mark.parametrize("ending", ["pdf", "svg", "png"])
def test_text_of_a_saved_figure_stays_text(tmp_path: Path, ending: str) -> None:
    fig, _ = plots.bands(_run(), LAYER)
    data = plots.save(fig, tmp_path / f"figure.{ending}").read_bytes()
    if ending == "pdf":
        assert b"/CIDFontType2" in data and b"/Type3" not in data
    if ending == "svg":
        assert f"{LAYER}, output".encode() in data


def test_bands_hold_the_percentiles_of_the_run() -> None:
    """Beside the run's own quantiles, which know the bin alone."""
    _, ax = plots.bands(_run(), LAYER)
    x, y = ax.lines[0].get_data()
    site = next(s for s in _run().sites if s.layer == LAYER and s.tensor == "output")
    np.testing.assert_array_equal(x, _run().steps)
    coarse = _run().quantiles(site, 0.5)
    assert np.abs(y - coarse).max() <= 0.25 * max(1.0, np.abs(coarse).max())


def test_a_heat_map_shows_layers_in_order_and_incidents_where_they_began() -> None:
    _, ax = plots.heatmap(_run(), "mean_shift")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [n for n in _run().layers if n != "<input>"]
    (marks,) = ax.lines
    assert (600, names.index(LAYER)) in zip(*marks.get_data(), strict=True)
    mesh = ax.collections[0]
    assert mesh.norm.vmin == -mesh.norm.vmax, "signed: two colours about zero"
    _, other = plots.heatmap(_run(), "kl")
    assert other.collections[0].norm.vmin == 0


def test_a_heat_map_of_many_layers_names_some() -> None:
    run = simulated(layers=150, windows=5, evaluation=False, tensors=("output",))
    _, ax = plots.heatmap(run, "kl")
    assert len(ax.get_yticks()) <= 32
    assert ax.collections[0].get_array().shape == (150, 5)


def test_the_loss_is_drawn_with_numbered_incidents_and_learning_rates() -> None:
    _, ax = plots.loss(_run())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[0].startswith(f"1  {LAYER}: mean shift") and texts[-1] == "learning rate set"
    assert [note.get_text() for note in ax.texts] == ["1", "2"]
    _, calm = plots.loss(simulated(windows=20, fault=False))
    assert not calm.texts


def test_tracks_of_two_runs_differ_in_colour_and_dashes() -> None:
    runs = {"with fault": _run(), "healthy": simulated(windows=100, fault=False)}
    _, ax = plots.tracks(runs, "mean_shift", LAYER, over="share")
    a, b = ax.lines[-2:]
    assert a.get_color() != b.get_color() and a.get_linestyle() != b.get_linestyle()
    assert a.get_xdata()[-1] == b.get_xdata()[-1] == 1


@pytest.mark.parametrize("label", ["_baseline", "", "$_$", "a\nb"])
def test_every_run_is_in_the_legend_whatever_it_is_called(label: str) -> None:
    _, ax = plots.tracks({label: _run()}, "kl", LAYER)
    assert len(ax.get_legend().get_texts()) == 1


@pytest.mark.parametrize("windows", [8, 1200])
def test_infinity_has_the_strongest_colour_of_a_heat_map(windows: int) -> None:
    """Every other window, so that among many every column holds one."""
    history = History()
    history.add_site(Site("fc1"), Layer("fc1"))
    for step in range(windows):
        kl = np.array([np.inf if step % 2 else 1.0])
        history.add_window(Window(step, step, Summary.empty((1,)), {"kl": kl}, np.zeros(0), 0.0))
    figure, ax = plots.heatmap(history.view(), "kl")
    (mesh,) = ax.collections
    figure.canvas.draw()
    strongest = mesh.get_cmap()(1.0)
    assert mesh.get_clim() == (0.0, 1.0)
    assert tuple(mesh.to_rgba(mesh.get_array()).reshape(-1, 4)[-1]) == strongest


def test_densities_keep_the_mass_and_are_those_of_a_normal() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, 200_000)
    counts = summarize(values).histogram.counts[None]
    grid = np.linspace(-2, 8, 101)
    found = densities(Histogram(counts), grid)[0]
    assert (found * np.diff(grid)).sum() == pytest.approx(1.0, abs=1e-3)
    middle = (grid[1:] + grid[:-1]) / 2
    truth = np.exp(-0.5 * (middle - 3) ** 2) / np.sqrt(2 * np.pi)
    assert np.abs(found - truth).max() < 0.06
    (q,) = smooth_quantiles(Histogram(counts), np.array([0.05, 0.5, 0.95]))
    np.testing.assert_allclose(q, 3 + np.array([-1.645, 0, 1.645]), rtol=1 / 16)


def test_zeros_are_one_spike_of_their_own_mass() -> None:
    values = np.concatenate([np.zeros(600), np.random.default_rng(0).uniform(1, 2, 400)])
    found = densities(Histogram(summarize(values).histogram.counts[None]), np.linspace(-1, 3, 41))
    mass = found[0] * 0.1
    assert np.isclose(mass[9] + mass[10], 0.6, atol=1e-6)
    assert np.isclose(mass.sum(), 1.0, atol=1e-6)


def test_what_cannot_be_drawn_is_told_with_the_cure() -> None:
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        plots.bands(_run(), "nowhere")
    with pytest.raises(ValueError, match=r"monitor\.step\(loss="):
        plots.loss(simulated(windows=5, loss=False))
    with pytest.raises(ValueError, match="Choose another metric="):
        plots.heatmap(_run(), "dead_fraction", tensor="weight")
    with pytest.raises(ValueError, match='"step" or "share"'):
        plots.tracks({"a": _run()}, "kl", LAYER, over="epoch")
    with pytest.raises(ValueError, match="needs a run"):
        plots.tracks({}, "kl", LAYER)
    with pytest.raises(ValueError, match="no metric"):
        plots.heatmap(empty_run(), "kl")
    with pytest.raises(ValueError, match="slices"):
        plots.ridgeline(_run(), LAYER, slices=0)


def test_without_matplotlib_the_error_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from shiftwatch import Monitor, plots\n"
        "import numpy as np\n"
        "monitor = Monitor(run=False)\n"
        "for _ in range(20):\n"
        "    monitor.observe('fc', np.ones((4, 4))); monitor.step(loss=1.0)\n"
        "plots.loss(monitor.history)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.returncode != 0
    assert "pip install 'shiftwatch[plots]'" in told.stderr
