"""Drawing the arm on the token map: what is known without looking at it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_FREQUENCIES = (math.pi, 2 * math.pi, 4 * math.pi)
"""Angular frequencies of the sines and cosines of its numbers that `ArmRenderer` sees."""


class ArmRenderer(nn.Module):
    """Draws the arm before and after a step, as two token maps, from the few numbers that say where it is.

    So the predictor need not move a picture of it from token to token, which blurs; it is left with the cubes.

    Args:
        channels: Channels C of one token.
        tokens: Number T of tokens.
        numbers: Length n of what tells where the arm is before or after: the set-point, and where the hand is, which is
            some steps behind.
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
        """Draws the arm from its numbers `(B, n)` before and after a step, `(B, T, 2 C)`."""
        numbers = torch.cat([before, after], dim=1)
        # Smooth networks are slow to learn how fast a picture changes (Tancik et al. 2020, Fourier features).
        phases = (numbers.unsqueeze(1) * self.frequencies.unsqueeze(1)).flatten(1)
        drawn = self.draw(torch.cat([numbers, phases.sin(), phases.cos()], dim=1))
        return drawn.unflatten(1, (-1, 2 * self.channels))
