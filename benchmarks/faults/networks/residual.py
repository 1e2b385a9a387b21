"""Convolutional networks with ways around their blocks."""

from __future__ import annotations

from torch import nn

from benchmarks.faults.networks.network import Make, Norm
from benchmarks.faults.networks.parts import Block, Mean, groups


def residual(
    width: int,
    blocks: int,
    norm: Norm = nn.BatchNorm2d,
    activation: Make = nn.ReLU,
    *,
    before: bool = True,
) -> nn.Sequential:
    """Blocks of convolutions with ways around them; norm and activation come before or after."""

    def conv() -> nn.Module:
        return nn.Conv2d(width, width, 3, padding=1)

    parts: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1)]
    for _ in range(blocks):
        if before:
            inner = nn.Sequential(norm(width), activation(), conv())
            parts.append(Block(inner))
        else:
            inner = nn.Sequential(conv(), norm(width), activation(), conv(), norm(width))
            parts.append(Block(inner, activation()))
    return nn.Sequential(*parts, Mean(2, 3), nn.Linear(width, 10))


def inverted(width: int, blocks: int) -> nn.Sequential:
    """Wide blocks between narrow ends, with convolutions over each channel (Sandler et al. 2018)."""
    stem = (nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
    parts: list[nn.Module] = [*stem]
    wide = 3 * width
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.Conv2d(width, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, width, 1), nn.BatchNorm2d(width),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, Mean(2, 3), nn.Linear(width, 10))


def convnext(width: int, blocks: int) -> nn.Sequential:
    """Patches, and blocks with a norm and an activation each (Liu et al. 2022)."""
    parts: list[nn.Module] = [nn.Conv2d(1, width, 2, 2), groups(1)(width)]
    for _ in range(blocks):
        inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), groups(1)(width),
            nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1),
        )  # fmt: skip
        parts.append(Block(inner))
    return nn.Sequential(*parts, Mean(2, 3), nn.LayerNorm(width), nn.Linear(width, 10))
