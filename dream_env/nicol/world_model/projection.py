"""From places in the room to places on the token map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTH = 0.25
"""Standard deviation of the Gaussians of `gaussian_heatmap`, in units of half the map; a token is as wide."""


class Projection(nn.Module):
    """A small perspective camera: where a place in the room appears on the token map.

    The set-point before and after a step is known exactly, so the predictor need not find the hand to know which tokens
    will change; cubes are where the object state says. The projection starts from a least-squares fit (`fit`) and is
    trained with the predictor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(3, 3)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, places: Tensor) -> Tensor:
        """Projects places `(..., 3 or more)`, of which the first three count, to row and column `(..., 2)`.

        Both are -1 to 1 over the map.
        """
        projected = self.projection(places[..., :3])
        return projected[..., :2] / (1 + 0.5 * torch.tanh(projected[..., 2:]))

    @torch.no_grad()
    def fit(self, places: Tensor, centers: Tensor) -> None:
        """Sets the affine part by least squares from places `(N, 3 or more)` to rows and columns `(N, 2)`."""
        inputs = torch.cat([places[:, :3], torch.ones_like(places[:, :1])], dim=1)
        # In double precision, so that what is left after rounding can be repeated; LAPACK's last bits cannot. And by
        # singular values: where all places are at one height the default driver is wrong, not always in the same way.
        solution = torch.linalg.lstsq(inputs.double(), centers.double(), driver="gelsd").solution.float()
        self.projection.weight[:2] = solution[:3].T
        self.projection.bias[:2] = solution[3]


def gaussian_heatmap(places: Tensor, present: Tensor, axis: Tensor, width: float = _WIDTH) -> Tensor:
    """Draws places on the token map, finer than a token.

    Args:
        places: Rows and columns `(B, n, 2)`, -1 to 1 over the map.
        present: How strongly each is drawn, `(B, n, 1)`.
        axis: Where the map's rows and columns are, `(side,)`.
        width: Standard deviation of the Gaussians, in units of half the map.

    Returns:
        Of each place a Gaussian, and the same times the distance in rows and in columns, `(B, T, n * 3)`.
    """
    offset = (axis - places[..., None]) / width
    near = torch.exp(offset.square() / -2)
    (row, column), (along, across) = near.unbind(2), offset.unbind(2)
    bump = row.unsqueeze(-1) * (column * present).unsqueeze(-2)
    parts = [bump, along.unsqueeze(-1) * bump, across.unsqueeze(-2) * bump]
    return torch.stack(parts, dim=2).flatten(3).flatten(1, 2).transpose(1, 2)
