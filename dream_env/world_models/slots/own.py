"""The robot in its picture: its state from a picture, for goals that come without, and where its hand shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OwnReader(nn.Module):
    """Reads the robot's own state, standardized, from the pictures of all cameras.

    Args:
        cameras: Cameras C.
        own: Numbers P of the state.
        picture_size: Side of the pictures.
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
        """Maps pictures `(B, C, H, W, 3)`, floats around 0, to states `(B, P)`."""
        return self.net(pictures.permute(0, 1, 4, 2, 3).flatten(1, 2))


class Place(nn.Module):
    """Where in the pictures things move when the robot has a state: a quadratic function of it.

    Args:
        own: Numbers P of the state.
        cameras: Cameras C.
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
        """Returns 1, the numbers of standardized states `(..., P)` and their products, `(..., n)`."""
        products = own[..., self.row] * own[..., self.column]
        return torch.cat([own.new_ones(*own.shape[:-1], 1), own, products], -1)

    def forward(self, own: Tensor) -> Tensor:
        """Maps states `(..., P)` to x, y under each camera, `(..., 2 * C)`, of -1 to 1 within the picture."""
        return self.features(own) @ self.weight
