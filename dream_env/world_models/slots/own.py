"""The robot in the image: estimates the robot state from images, and the image position of the hand from the state.

The first is needed for goals that consist of images only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OwnReader(nn.Module):
    """Estimates the standardized robot state from the images of all cameras.

    Args:
        cameras: Number C of cameras.
        own: Size P of the robot state.
        picture_size: Side of the images in pixels.
    """

    def __init__(self, cameras: int, own: int, picture_size: int) -> None:
        super().__init__()
        side = picture_size // 16
        self.net = nn.Sequential(
            nn.Conv2d(3 * cameras, 16, 5, 2, 2),
            nn.SiLU(),
            nn.Conv2d(16, 24, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(24, 32, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(32 * side * side, 128),
            nn.SiLU(),
            nn.Linear(128, own),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps differences of images to the background `(B, C, H, W, 3)`, float, to robot states `(B, P)`."""
        return self.net(pictures.permute(0, 1, 4, 2, 3).flatten(1, 2))


class Place(nn.Module):
    """Maps the robot state to the image position at which objects move, i.e. that of the hand, by a quadratic function.

    Args:
        own: Size P of the robot state.
        cameras: Number C of cameras.
    """

    weight: Tensor
    row: Tensor
    column: Tensor

    def __init__(self, own: int, cameras: int) -> None:
        super().__init__()
        row, column = torch.triu_indices(own, own) if own else torch.zeros(2, 0, dtype=torch.int64)
        self.register_buffer("row", row, persistent=False)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("weight", torch.zeros(1 + own + len(row), 2 * cameras))

    def features(self, own: Tensor) -> Tensor:
        """Returns the features `(..., n)` of standardized states `(..., P)`: 1, the elements, and their products."""
        products = own[..., self.row] * own[..., self.column]
        return torch.cat([own.new_ones(*own.shape[:-1], 1), own, products], -1)

    def forward(self, own: Tensor) -> Tensor:
        """Maps states `(..., P)` to x, y in each camera, `(..., 2 * C)`; -1 to 1 is inside the image."""
        return self.features(own) @ self.weight
