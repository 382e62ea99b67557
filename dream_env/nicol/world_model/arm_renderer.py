"""Draws the arm on the token map from its set-point and hand state."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_FREQUENCIES = (math.pi, 2 * math.pi, 4 * math.pi)
"""Angular frequencies of the sines and cosines that `ArmRenderer` adds to its inputs."""


class ArmRenderer(nn.Module):
    """Draws the arm before and after a step, as two token maps, from the few numbers that determine its pose.

    The predictor then does not have to move an image of the arm from token to token, which would blur it, and only
    has to predict the cubes.

    Args:
        channels: Channels C of one token.
        tokens: Number T of tokens.
        numbers: Number n of inputs per time step: the set-point, and the hand state, which lags some steps behind.
        width: Hidden width.
    """

    def __init__(self, channels: int, tokens: int, numbers: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.draw = nn.Sequential(
            nn.Linear(2 * numbers * (1 + 2 * len(_FREQUENCIES)), width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, tokens * 2 * channels),
        )
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.tensor(_FREQUENCIES), persistent=False)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Maps the arm's numbers before and after a step, `(B, n)` each, to two token maps, `(B, T, 2 C)`."""
        numbers = torch.cat([before, after], dim=1)
        # Networks are slow to learn high-frequency functions of few inputs (Tancik et al. 2020, Fourier features).
        phases = (numbers.unsqueeze(1) * self.frequencies.unsqueeze(1)).flatten(1)
        drawn = self.draw(torch.cat([numbers, phases.sin(), phases.cos()], dim=1))
        return drawn.unflatten(1, (-1, 2 * self.channels))
