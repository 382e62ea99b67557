"""A decoder that draws cubes and arm sharply, at the positions of the object state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.nicol.constants import PROPRIO_NAMES
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.arm_renderer import ArmRenderer
from dream_env.nicol.world_model.object_dynamics import PLACE, PRESENT
from dream_env.nicol.world_model.projection import Projection, gaussian_heatmap
from dream_env.nicol.world_model.state_estimator import HAND, cubes

_WIDTH = 0.09
"""Standard deviation of a cube's Gaussian, in units of half the map: a third of a cube's size in the image."""


class Painter(nn.Module):
    """A decoder whose inputs are the tokens, the set-point and the object state.

    In a rollout, predicted tokens blur where things move, and a carried cube fades. The object state knows its position
    to centimeters, so the image is drawn from both.

    Args:
        channels: Channels C of one token.
        grid: Side of the token map, T = grid * grid.
        image_size: Side of the images, which must be 8 * grid.
        width: Channels of the feature map with the highest resolution; the smaller ones have two and three times as
            many.

    Raises:
        ValueError: If `image_size` is not 8 * grid.
    """

    def __init__(self, channels: int, grid: int, image_size: int, width: int) -> None:
        super().__init__()
        if image_size != 8 * grid:
            raise ValueError(f"image_size={image_size} with grid={grid}; accepted: {8 * grid}")
        self.grid, marks = grid, 3 * len(COLORS)
        self.projection = Projection()
        self.arm = ArmRenderer(channels, grid * grid, max(len(PROPRIO_NAMES), len(HAND)), 64)
        self.first = nn.Sequential(nn.Conv2d(3 * channels, 3 * width, 3, 1, 1), nn.SiLU())
        self.larger = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(before, after, 4, 2, 1), nn.SiLU())
            for before, after in ((3 * width, 3 * width), (3 * width, 2 * width), (2 * width, width))
        )
        self.mix = nn.ModuleList(
            nn.Sequential(nn.Conv2d(each + marks, each, 3, 1, 1), nn.SiLU()) for each in (2 * width, width)
        )
        self.last = nn.Conv2d(width, 3, 3, 1, 1)
        for side in (4 * grid, 8 * grid):
            # Pixel rows and columns in the units of the token map, where -1 and 1 are the centers of the outer tokens.
            pixel = (torch.arange(side) + 0.5) * grid / side - 0.5
            self.register_buffer(f"axis{side}", 2 * pixel / (grid - 1) - 1, persistent=False)

    def forward(self, tokens: Tensor, proprio: Tensor, object_state: Tensor) -> Tensor:
        """Decodes states to images, as differences to the background, `(B, H, W, 3)`.

        Args:
            tokens: Tokens `(B, T, C)`.
            proprio: Set-points `(B, 4)`.
            object_state: Object states `(B, R)`, see `state_estimator.OBJECT_STATE`.
        """
        every = cubes(object_state)
        places, present = self.projection(every[..., PLACE]), every[..., PRESENT:].clamp(0, 1)
        drawn = torch.cat([tokens, self.arm(proprio, object_state[:, : len(HAND)])], -1)
        drawn = self.first(self._picture(drawn))
        drawn = self.larger[0](drawn)
        for larger, mix in zip(self.larger[1:], self.mix, strict=True):
            drawn = larger(drawn)
            axis = getattr(self, f"axis{drawn.shape[-1]}")
            drawn = mix(torch.cat([drawn, self._picture(gaussian_heatmap(places, present, axis, _WIDTH))], 1))
        return self.last(drawn).permute(0, 2, 3, 1)

    @staticmethod
    def _picture(rows: Tensor) -> Tensor:
        """Reshapes `(B, side * side, C)` to `(B, C, side, side)`."""
        side = round(rows.shape[1] ** 0.5)
        return rows.unflatten(1, (side, side)).permute(0, 3, 1, 2)
