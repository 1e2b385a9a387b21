"""A run as one picture: layers down, time across, a metric as colour.

A PNG is a header and compressed rows, which the standard library writes; so a picture
needs neither a plotting nor an imaging package, and can go wherever HTML goes.
"""

from __future__ import annotations

import base64
import html
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from shiftwatch.reporters.rollups import columns

if TYPE_CHECKING:
    from shiftwatch.history import Run

# Dark to bright and monotone in lightness (five stops of Matplotlib's viridis, CC0).
STOPS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
MISSING = np.array([208, 208, 208])


def png(pixels: np.ndarray) -> bytes:
    """Image file of uint8[height, width, 3], red green blue, without loss.

    Example:
        >>> png(np.zeros((2, 3, 3), np.uint8))[:8]
        b'\\x89PNG\\r\\n\\x1a\\n'

    References:
        ISO/IEC 15948:2004, Portable Network Graphics.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with filter 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def colours(values: np.ndarray, top: float) -> np.ndarray:
    """Sizes of values from 0 to ``top`` as colours: uint8[..., 3]; grey for NaN.

    Example:
        >>> colours(np.array([0.0, -1.0, np.nan]), top=1.0).tolist()
        [[68, 1, 84], [253, 231, 37], [208, 208, 208]]
    """
    share = np.clip(np.nan_to_num(np.abs(values) / top), 0.0, 1.0) * (len(STOPS) - 1)
    rgb = np.stack([np.interp(share, range(len(STOPS)), STOPS[:, c]) for c in range(3)], axis=-1)
    return np.where(np.isnan(values)[..., None], MISSING, rgb.round()).astype(np.uint8)


def heatmap(run: Run, metric: str) -> str:
    """HTML page of a metric's size over layers and time; one file, nothing from outside.

    Args:
        run: a history; the outputs in training are shown, in its order of sites.
        metric: a key of ``run.metrics``.

    Returns:
        A page of about 1 byte per layer and window. Bright is large; the brightest is the
        99th percentile, so that one outlier does not darken the rest. Grey is not measured.

    Raises:
        ValueError: for a metric that this run did not keep.
    """
    chosen = columns(run.sites, ("output",))
    values = run.metric(metric)[:, chosen].T
    finite = np.abs(values[np.isfinite(values)])
    top = float(np.quantile(finite, 0.99)) if len(finite) else 0.0
    image = base64.b64encode(png(colours(values, top or 1.0))).decode() if values.size else ""
    sites = [run.sites[c] for c in chosen]
    labels = [f"{s.layer}[{s.part}]" if s.part else s.layer for s in sites]
    names = "".join(f"<div>{html.escape(label)}</div>" for label in labels)
    steps = f"{run.first[0]} to {run.steps[-1]}" if len(run.steps) else "none"
    return PAGE.format(
        metric=html.escape(metric), steps=steps, top=top, names=names, image=image,
        height=12 * len(chosen),
    )  # fmt: skip


PAGE = """<!doctype html>
<meta charset="utf-8">
<title>shiftwatch: {metric}</title>
<style>
body {{ font: 13px system-ui, sans-serif; margin: 8px; color: #222; background: #fff }}
main {{ display: flex; gap: 6px }}
main div {{ font-size: 10px; line-height: 12px; white-space: nowrap; text-align: right }}
img {{ flex: 1; min-width: 0; height: {height}px; image-rendering: pixelated }}
</style>
<p><b>{metric}</b> by layer, steps {steps} from left to right;
bright is large (brightest: {top:.3g} or more), grey is not measured.</p>
<main><section>{names}</section>
<img alt="{metric} by layer and step" src="data:image/png;base64,{image}"></main>
"""
