"""Estimates the object state from the tokens: positions of the hand and of the cube of each color, and what is held."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.language import COLORS

HAND = ("x", "y", "z", "closing")
CUBE = ("x", "y", "z", "held", "present")
OBJECT_STATE = (*(f"hand.{name}" for name in HAND), *(f"{color}.{name}" for color in COLORS for name in CUBE))
"""Names of the R entries of an object state."""
CENTER = (0.5, -0.2, 0.95, 0.5, *(0.5, -0.2, 0.85, 0.0, 0.0) * len(COLORS))
SCALE = (0.1, 0.1, 0.1, 0.5, *(0.1, 0.1, 0.1, 1.0, 1.0) * len(COLORS))
"""Center and scale of the entries. An entry is (value - CENTER) / SCALE, where positions are in m, and closing, held
and present are from 0 to 1."""


def cubes(object_state: Tensor) -> Tensor:
    """Returns the entries of object states `(..., R)` for the cube of each color, `(..., colors, len(CUBE))`."""
    return object_state[..., len(HAND) :].unflatten(-1, (len(COLORS), len(CUBE)))


class StateEstimator(nn.Module):
    """Estimates positions to a few millimetres, with spatial attention for each color.

    Each color has attention maps over the tokens (spatial softmax: Levine et al. 2016, section 4.3), from which it gets
    the attended positions and features. The hand is estimated from the whole map. A cube in the hand is mostly occluded
    but close to the hand, so the estimate of the hand is an input for every color. The set-point is not an input, so
    the estimator also works for images without a known set-point, such as goals.

    Args:
        channels: Channels C of one token.
        grid: Side of the token map, T = grid * grid.
        width: Channels of the features.
        hidden: Width of the hidden layers.
        maps: Number of attention maps of each color. With only one, some training seeds never find some color.
    """

    def __init__(self, channels: int, grid: int = 8, width: int = 24, hidden: int = 64, maps: int = 2) -> None:
        super().__init__()
        self.grid, self.maps = grid, maps
        self.features = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.SiLU())
        self.attention = nn.Linear(width, len(COLORS) * maps)
        inputs = maps * (width + 2) + len(HAND)
        self.cube = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, len(COLORS) * len(CUBE)))
        self.hand = nn.Sequential(nn.Linear(grid * grid * channels, hidden), nn.SiLU(), nn.Linear(hidden, len(HAND)))
        axis = torch.linspace(-1, 1, grid)
        self.position: Tensor
        self.register_buffer("position", torch.cartesian_prod(axis, axis), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens `(B, T, C)` to object states `(B, R)`."""
        features, weights = self._attend(tokens)
        attended = torch.cat([torch.bmm(weights, features), weights @ self.position], dim=-1)
        attended = attended.unflatten(1, (len(COLORS), self.maps)).flatten(2)
        hand = self.hand(tokens.flatten(1))
        # Every color has its own output layer on shared hidden units: take the blocks on the diagonal.
        blocks = self.cube(torch.cat([attended, hand.unsqueeze(1).expand(-1, len(COLORS), -1)], dim=-1))
        cubes = torch.diagonal(blocks.unflatten(-1, (len(COLORS), len(CUBE))), dim1=1, dim2=2).transpose(1, 2)
        return torch.cat([hand, cubes.flatten(1)], dim=1)

    def attended_places(self, tokens: Tensor) -> Tensor:
        """Returns the attended rows and columns of each color in tokens `(B, T, C)`.

        Returns:
            Rows and columns from -1 to 1, `(B, colors, maps, 2)`.
        """
        return (self._attend(tokens)[1] @ self.position).unflatten(1, (len(COLORS), self.maps))

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns features `(B, T, F)` and attention weights over the tokens, `(B, colors * maps, T)`."""
        picture = tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        features = self.features(picture).permute(0, 2, 3, 1).flatten(1, 2)
        return features, torch.softmax(self.attention(features).transpose(1, 2), dim=-1)


class TargetSelector(nn.Module):
    """Selects the object state of the cube whose color an instruction names, with a learned soft selection."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Linear(INSTRUCTION_DIM, len(COLORS))

    def forward(self, object_state: Tensor, instruction: Tensor) -> Tensor:
        """Maps object states `(B, R)` and instructions `(B, I)` to the target cube's entries, `(B, len(CUBE))`."""
        named = torch.softmax(self.color(instruction), dim=-1)
        return torch.bmm(named.unsqueeze(1), cubes(object_state)).squeeze(1)
