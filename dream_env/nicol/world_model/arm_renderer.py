"""Drawing on the token map what is known without it: where a place appears, and the arm at its set-points."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WAVES = (math.pi, 2 * math.pi, 4 * math.pi)
"""Angular frequencies of the sines and cosines of its numbers that `ArmRenderer` sees."""


class Camera(nn.Module):
    """A small perspective camera: where a place in the room appears on the token map.

    The set-point before and after a step is known exactly, so the network need not find the hand to know which tokens
    will change; of cubes it is what was read. The projection starts from a least-squares fit (`fit`) and is trained
    with the predictor.
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


class ArmRenderer(nn.Module):
    """Draws the arm before and after a step, as two token maps, from the few numbers that say where it is.

    So the trunk need not move a picture of it from token to token, which blurs; it is left with the cubes.

    Args:
        channels: Channels C of one token.
        tokens: Number T of tokens.
        numbers: Length of what tells where the arm is before or after: the set-point, and where the hand is if that is
            known, as it is some steps behind.
        width: Hidden width.
    """

    def __init__(self, channels: int, tokens: int, numbers: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.draw = nn.Sequential(
            nn.Linear(2 * numbers * (1 + 2 * len(_WAVES)), width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, tokens * 2 * channels),
        )
        self.waves: Tensor
        self.register_buffer("waves", torch.tensor(_WAVES), persistent=False)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Draws the arm from its numbers `(B, n)` before and after a step, `(B, T, 2 C)`."""
        numbers = torch.cat([before, after], dim=1)
        # Smooth networks are slow to learn how fast a picture changes (Tancik et al. 2020, Fourier features).
        phases = (numbers.unsqueeze(1) * self.waves.unsqueeze(1)).flatten(1)
        drawn = self.draw(torch.cat([numbers, phases.sin(), phases.cos()], dim=1))
        return drawn.unflatten(1, (-1, 2 * self.channels))
