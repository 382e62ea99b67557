"""Renders states as images for viewing: the background, the robot according to its state, and every slot.

A slot is drawn as a rectangle of its color over the pixels that it is predicted to cover, so moving objects leave no
trace and do not fade. Nothing is learned from these images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.world_models.slots.reader import SIZE, SPREAD_X, SPREAD_Y, X, Y

EDGE = 1.9
"""Half the side of a rectangle, in standard deviations of its pixels: 3 ** 0.5 for a uniform square, plus some blur."""


class Painter(nn.Module):
    """Renders the images of C cameras.

    Args:
        slots: Number K of slots.
        cameras: Number C of cameras.
        own: Size P of the robot state.
        picture_size: Side S of the images in pixels.
    """

    background: Tensor
    shown: Tensor
    axis: Tensor

    def __init__(self, slots: int, cameras: int, own: int, picture_size: int) -> None:
        super().__init__()
        self.cameras, self.side = cameras, picture_size
        self.register_buffer("background", torch.full((cameras, picture_size, picture_size, 3), 0.5))
        self.register_buffer("shown", torch.zeros(slots, 3))
        axis = (torch.arange(picture_size) + 0.5) / picture_size * 2 - 1
        self.register_buffer("axis", axis, persistent=False)
        small = picture_size // 16
        self.robot = None
        if own:
            self.robot = nn.Sequential(
                nn.Linear(own, 128),
                nn.SiLU(),
                nn.Linear(128, 32 * small * small),
                nn.Unflatten(1, (32, small, small)),
                nn.SiLU(),
                nn.ConvTranspose2d(32, 32, 4, 2, 1),
                nn.SiLU(),
                nn.ConvTranspose2d(32, 24, 4, 2, 1),
                nn.SiLU(),
                nn.ConvTranspose2d(24, 16, 4, 2, 1),
                nn.SiLU(),
                nn.ConvTranspose2d(16, 4 * cameras, 4, 2, 1),
            )

    def scene(self, own: Tensor) -> Tensor:
        """Renders background and robot for robot states `(B, P)`, `(B, C, S, S, 3)` in [0, 1]."""
        background = self.background.expand(len(own), -1, -1, -1, -1)
        if self.robot is None:
            return background
        layers = self.robot(own).unflatten(1, (self.cameras, 4)).permute(0, 1, 3, 4, 2)
        opaque = layers[..., 3:].sigmoid()
        return background * (1 - opaque) + layers[..., :3].sigmoid() * opaque

    def patches(self, slots: Tensor) -> Tensor:
        """Returns the share of each pixel that slots `(B, K, C, FEATURES)` cover, `(B, K, C, S, S)` in [0, 1]."""
        x, y, size, wide, high = (slots[..., i, None] for i in (X, Y, SIZE, SPREAD_X, SPREAD_Y))
        sharp = self.side / 2
        across = ((EDGE * wide - (self.axis - x).abs()) * sharp).add(0.5).clamp(0, 1)
        down = ((EDGE * high - (self.axis - y).abs()) * sharp).add(0.5).clamp(0, 1)
        there = ((size * sharp - 1.0) / 1.0).clamp(0, 1)[..., None]  # slots fade out between 4 and 1 visible pixels
        return down[..., :, None] * across[..., None, :] * there

    def forward(self, slots: Tensor, own: Tensor) -> Tensor:
        """Renders slots `(B, K, C, FEATURES)` in front of robot and background, `(B, C, S, S, 3)` in [0, 1]."""
        picture, cover = self.scene(own), self.patches(slots)
        for k in range(slots.shape[1]):
            opaque = cover[:, k, ..., None]
            picture = picture * (1 - opaque) + self.shown[k] * opaque
        return picture
