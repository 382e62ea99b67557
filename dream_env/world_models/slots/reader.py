"""Pictures to slots: pixels of one colour are one thing, in every picture and under every camera the same slot.

A slot is where the visible pixels of its colour are, how many, and how far they spread. The colours come from the data
(`dream_env.agents.fit.slots.colours`); a slot may have several of them, and those of the background and of the robot
itself are nobody's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 6
"""Numbers of a slot under one camera: x, y (-1 to 1), size, spread along x and y (all in halves of a picture's side),
and 1 if it has been seen, else 0."""
X, Y, SIZE, SPREAD_X, SPREAD_Y, SEEN = range(FEATURES)
LEVELS = 32
"""Levels of red, green and blue that colours are told apart by."""
SHARPNESS = 25.0
"""How soft masks are: minus the squared distance of two colours times this is a log-probability."""
LIGHTNESS = 0.35
"""Weight of lightness beside hue: a thing's light and dark sides have the same hue."""
FEWEST = 3.0 / 4096
"""Share of a picture that has to show a slot before it counts as visible."""


def colour_features(pixels: Tensor) -> Tensor:
    """Describes colours `(..., 3)` of 0 to 255 by hue and lightness, `(..., 4)`; hue does not change with shading."""
    pixels = pixels.float()
    light = pixels.mean(-1, keepdim=True)
    return torch.cat([(pixels - light) / (light + 32), LIGHTNESS * light / 128], -1)


class SlotReader(nn.Module):
    """Finds K slots in pictures of C cameras.

    Args:
        slots: Number K of slots.
        colours: Number of colours, those of slots and others.
        picture_size: Side of the pictures.
    """

    colours: Tensor
    owner: Tensor
    table: Tensor
    basis: Tensor

    def __init__(self, slots: int, colours: int, picture_size: int) -> None:
        super().__init__()
        self.slots = slots
        self.register_buffer("colours", torch.zeros(colours, 4))
        self.register_buffer("owner", torch.full((colours,), slots, dtype=torch.int64))
        axis = (torch.arange(picture_size) + 0.5) / picture_size * 2 - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        basis = torch.stack([torch.ones_like(x), x, y, x * x, y * y], -1).flatten(0, 1)
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("table", torch.zeros(LEVELS**3, slots), persistent=False)
        self.register_load_state_dict_post_hook(_look_up)

    def masks(self, pictures: Tensor) -> Tensor:
        """Returns the share of each pixel that is each slot's, `(B, H * W, K)`, of pictures `(B, H, W, 3)` uint8."""
        level = (pictures.flatten(1, 2) >> 3).int()
        return F.embedding((level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2], self.table)

    def forward(self, pictures: Tensor) -> Tensor:
        """Reads pictures `(B, H, W, 3)` uint8 into slots `(B, K, FEATURES)`; those that cannot be seen are all 0."""
        pixels = pictures.shape[1] * pictures.shape[2]
        moments = self.masks(pictures).transpose(1, 2) @ self.basis  # (B, K, 5)
        count = moments[..., :1]
        mean = moments[..., 1:] / count.clamp(min=1e-6)
        spread = (mean[..., 2:] - mean[..., :2] ** 2).clamp(min=1e-6).sqrt()
        seen = (count >= FEWEST * pixels).to(mean.dtype)
        size = 2 * (count / pixels).sqrt()
        return torch.cat([mean[..., :2], size, spread, torch.ones_like(seen)], -1) * seen

    @torch.no_grad()
    def look_up(self) -> None:
        """Makes the table of all colours anew, after `colours` or `owner` have changed."""
        level = (torch.arange(LEVELS, device=self.colours.device) * 8 + 4).float()
        near = colour_features(torch.cartesian_prod(level, level, level))
        near = (-SHARPNESS * torch.cdist(near, self.colours) ** 2).softmax(-1)
        whose = F.one_hot(self.owner, self.slots + 1)[:, : self.slots].to(near.dtype)
        self.table.copy_(near @ whose)


def _look_up(reader: nn.Module, _: object) -> None:
    reader.look_up()  # type: ignore[operator]
