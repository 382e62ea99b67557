"""Extracts slots from images: all pixels of an object's color form one slot, the same in every image and camera.

A slot describes the position, number and spread of the visible pixels of its color. The colors are found in the data
(`dream_env.agents.fit.slots.colors`). A slot may have several colors; the colors of the background and of the robot
belong to no slot.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 6
"""Features of a slot in one camera: x, y (-1 to 1), size, spread along x and y (all in units of half the image side),
and 1 if it has been seen, else 0."""
X, Y, SIZE, SPREAD_X, SPREAD_Y, SEEN = range(FEATURES)
LEVELS = 32
"""Quantization levels of red, green and blue in the color lookup table."""
SHARPNESS = 25.0
"""Sharpness of the soft masks: factor on the negative squared color distances, which are the logits."""
LIGHTNESS = 0.35
"""Weight of lightness relative to hue; small, because the light and dark sides of an object have the same hue."""
FEWEST = 3.0 / 4096
"""Smallest share of an image's pixels with which a slot counts as visible."""


def color_features(pixels: Tensor) -> Tensor:
    """Maps colors `(..., 3)` in 0 to 255 to hue and lightness, `(..., 4)`; hue is invariant to shading."""
    pixels = pixels.float()
    light = pixels.mean(-1, keepdim=True)
    return torch.cat([(pixels - light) / (light + 32), LIGHTNESS * light / 128], -1)


class SlotReader(nn.Module):
    """Extracts K slots from images.

    Args:
        slots: Number K of slots.
        colors: Number of colors, including those that belong to no slot.
        picture_size: Side of the images in pixels.
    """

    colors: Tensor
    owner: Tensor
    table: Tensor
    basis: Tensor

    def __init__(self, slots: int, colors: int, picture_size: int) -> None:
        super().__init__()
        self.slots = slots
        self.register_buffer("colors", torch.zeros(colors, 4))
        self.register_buffer("owner", torch.full((colors,), slots, dtype=torch.int64))
        axis = (torch.arange(picture_size) + 0.5) / picture_size * 2 - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        basis = torch.stack([torch.ones_like(x), x, y, x * x, y * y], -1).flatten(0, 1)
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("table", torch.zeros(LEVELS**3, slots), persistent=False)
        self.register_load_state_dict_post_hook(_look_up)

    def masks(self, pictures: Tensor) -> Tensor:
        """Returns the soft assignment of pixels to slots, `(B, H * W, K)`, for images `(B, H, W, 3)` uint8."""
        level = (pictures.flatten(1, 2) >> 3).int()
        return F.embedding((level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2], self.table)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps images `(B, H, W, 3)` uint8 to slots `(B, K, FEATURES)`; slots that are not visible are all 0."""
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
        """Rebuilds the color lookup table; call it after `colors` or `owner` have changed."""
        level = (torch.arange(LEVELS, device=self.colors.device) * 8 + 4).float()
        near = color_features(torch.cartesian_prod(level, level, level))
        near = (-SHARPNESS * torch.cdist(near, self.colors) ** 2).softmax(-1)
        whose = F.one_hot(self.owner, self.slots + 1)[:, : self.slots].to(near.dtype)
        self.table.copy_(near @ whose)


def _look_up(reader: nn.Module, _: object) -> None:
    reader.look_up()  # type: ignore[operator]
