"""Projects world positions to positions on the token map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTH = 0.25
"""Default standard deviation of the Gaussians of `gaussian_heatmap`, in units of half the map: about one token."""


class Projection(nn.Module):
    """A learned perspective projection from world positions to positions on the token map.

    The set-points before and after a step are known exactly, so the predictor does not have to find the hand to know
    which tokens change; the positions of the cubes come from the object state. The projection is initialized by a
    least-squares fit (`fit`) and trained with the predictor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(3, 3)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, places: Tensor) -> Tensor:
        """Projects positions to row and column, which range from -1 to 1 on the map.

        Args:
            places: Positions `(..., 3 or more)`; only the first three numbers are used.

        Returns:
            Rows and columns, `(..., 2)`.
        """
        projected = self.projection(places[..., :3])
        return projected[..., :2] / (1 + 0.5 * torch.tanh(projected[..., 2:]))

    @torch.no_grad()
    def fit(self, places: Tensor, centers: Tensor) -> None:
        """Fits the affine part by least squares from positions `(N, 3 or more)` to rows and columns `(N, 2)`."""
        inputs = torch.cat([places[:, :3], torch.ones_like(places[:, :1])], dim=1)
        # Double precision makes the rounded result reproducible, as LAPACK's last bits are not. The SVD driver is
        # needed because the default driver gives wrong, varying results if all positions have the same height.
        solution = torch.linalg.lstsq(inputs.double(), centers.double(), driver="gelsd").solution.float()
        self.projection.weight[:2] = solution[:3].T
        self.projection.bias[:2] = solution[3]


def gaussian_heatmap(places: Tensor, present: Tensor, axis: Tensor, width: float = _WIDTH) -> Tensor:
    """Draws positions on a map with sub-token resolution.

    Args:
        places: Rows and columns of n positions, `(B, n, 2)`, from -1 to 1 on the map.
        present: Factor of each Gaussian, `(B, n, 1)`.
        axis: Coordinates of the map's rows and columns, `(side,)`.
        width: Standard deviation of the Gaussians, in units of half the map.

    Returns:
        For each position a Gaussian, and the Gaussian times its row and column offsets in units of `width`,
        `(B, T, n * 3)`.
    """
    offset = (axis - places[..., None]) / width
    near = torch.exp(offset.square() / -2)
    (row, column), (along, across) = near.unbind(2), offset.unbind(2)
    bump = row.unsqueeze(-1) * (column * present).unsqueeze(-2)
    parts = [bump, along.unsqueeze(-1) * bump, across.unsqueeze(-2) * bump]
    return torch.stack(parts, dim=2).flatten(3).flatten(1, 2).transpose(1, 2)
