"""Conversion of images between the world's size and that of the networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(pictures: Tensor, side: int) -> Tensor:
    """Resizes images `(B, H, W, 3)` uint8 to `(B, side, side, 3)` uint8."""
    if pictures.shape[1:3] == (side, side):
        return pictures
    return _uint8(_interpolated(pictures.float(), (side, side)))


def displayed(drawn: Tensor, size: tuple[int, ...]) -> Tensor:
    """Converts images `(B, H, W, 3)`, float in about 0 to 1, to uint8 of another height and width."""
    if tuple(drawn.shape[1:3]) != tuple(size):
        drawn = _interpolated(drawn, size)
    return _uint8(255 * drawn)


def _interpolated(pictures: Tensor, size: tuple[int, ...]) -> Tensor:
    found = F.interpolate(pictures.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
    return found.permute(0, 2, 3, 1)


def _uint8(pictures: Tensor) -> Tensor:
    return pictures.round().clamp(0, 255).to(torch.uint8)
