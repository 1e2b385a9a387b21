"""Numbers as bytes: quantised on a scale that keeps both the quiet and the loud readable.

Values go through ``asinh(value / unit)`` before they are cut into levels: linear near zero,
logarithmic far out, both signs. One explosion then costs the hours before it no detail.
"""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass, field

import numpy as np

#: u8 levels are 0 … 252 with the middle at 126; the codes above mark what is no number.
LEVELS_8, NEGATIVE_8, POSITIVE_8, MISSING_8 = 252, 253, 254, 255
#: u16 tracks use 0 … 4095, which the page cannot tell from more.
LEVELS_16, MISSING_16 = 4095, 65535


@dataclass
class Blobs:
    """Bytes of one kind laid end to end, and handed out as gzip in base64."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, array: np.ndarray) -> int:
        """Append, and say at which byte it starts."""
        data = np.ascontiguousarray(array).tobytes()
        start, self.size = self.size, self.size + len(data)
        self.parts.append(data)
        return start

    def text(self) -> str:
        """The whole as base64 of gzip; the same bytes for the same numbers."""
        return base64.b64encode(gzip.compress(b"".join(self.parts), 6, mtime=0)).decode()


@dataclass(frozen=True)
class Scaled:
    """Codes and how to read them: ``unit * sinh(low + (high - low) * code / levels)``.

    Args:
        codes: uint8 or uint16, the shape of the values.
        low, high: ends of the scale, after asinh; of several scales one each.
        unit: size up to which the scale is about linear.
    """

    codes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unit: float


def scaled_8(values: np.ndarray, unit: float, *, from_zero: bool = True) -> Scaled:
    """Rows, each in 253 levels of its own; infinities and NaN have codes of their own.

    Args:
        values: float64[..., columns].
        unit: size up to which the scale is about linear.
        from_zero: zero is exact, at the start or in the middle of the scale; otherwise the
            scale starts at the smallest value, finer where a row stays far from zero.

    Example:
        >>> scaled_8(np.array([0.0, 1.0, np.nan, np.inf]), 1.0).codes.tolist()
        [0, 252, 255, 254]
    """
    bent, low, high = _bent(values, unit, axis=-1)
    signed = low < 0
    high = np.where(signed, np.maximum(high, -low), high)
    low = np.where(signed, -high, 0.0 if from_zero else low)  # zero in the middle
    span = np.where(high > low, high - low, 1.0)
    codes = np.clip(np.rint((bent - low[..., None]) / span[..., None] * LEVELS_8), 0, LEVELS_8)
    codes[np.isnan(values)] = MISSING_8
    codes[values == np.inf] = POSITIVE_8
    codes[values == -np.inf] = NEGATIVE_8
    return Scaled(codes.astype(np.uint8), low, high, unit)


def scaled_16(values: np.ndarray, unit: float) -> Scaled:
    """Tracks of one site on one scale, in 4,096 levels; anything not finite is missing."""
    bent, low, high = _bent(values, unit, axis=None)
    codes = np.rint((bent - low) / (high - low or 1.0) * LEVELS_16)
    codes[~np.isfinite(values)] = MISSING_16
    return Scaled(codes.astype(np.uint16), low, high, unit)


def _bent(
    values: np.ndarray, unit: float, axis: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values after asinh, 0 where not finite; the smallest and the largest, 0 without any."""
    finite = np.isfinite(values)
    with np.errstate(over="ignore"):
        bent = np.arcsinh(np.where(finite, values, 0.0) / unit)
    low = np.where(finite, bent, np.inf).min(axis, initial=np.inf)
    high = np.where(finite, bent, -np.inf).max(axis, initial=-np.inf)
    some = low <= high
    return bent, np.where(some, low, 0.0), np.where(some, high, 0.0)


def shuffled(codes: np.ndarray) -> np.ndarray:
    """uint16[rows, n] as differences along the row, low bytes first, then high: packs better.

    Example:
        >>> shuffled(np.array([[1, 2, 300]], np.uint16)).tolist()
        [1, 1, 42, 0, 0, 1]
    """
    delta = np.diff(codes, axis=1, prepend=np.zeros((codes.shape[0], 1), np.uint16))
    return np.concatenate([(delta & 255).ravel(), (delta >> 8).ravel()]).astype(np.uint8)


def typical(values: np.ndarray, default: float = 1.0) -> float:
    """Median size of what is finite and not zero; ``default`` where there is none.

    Example:
        >>> typical(np.array([0.0, -2.0, np.nan]))
        2.0
    """
    known = np.abs(values[np.isfinite(values) & (values != 0)])
    size = float(np.median(known)) if known.size else default
    return size if 1e-300 < size < 1e300 else default
