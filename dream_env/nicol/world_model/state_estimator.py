"""Estimating the object state from the tokens: where the hand and every color's cube are, and what is held."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.language import COLORS

HAND = ("x", "y", "z", "closing")
CUBE = ("x", "y", "z", "held", "present")
OBJECT_STATE = (*(f"hand.{name}" for name in HAND), *(f"{color}.{name}" for color in COLORS for name in CUBE))
"""Names of the R numbers of an object state."""
CENTER = (0.5, -0.2, 0.95, 0.5, *(0.5, -0.2, 0.85, 0.0, 0.0) * len(COLORS))
SCALE = (0.1, 0.1, 0.1, 0.5, *(0.1, 0.1, 0.1, 1.0, 1.0) * len(COLORS))
"""Middle and unit of the numbers (m; closing, held and present: 0 to 1): an entry is (number - CENTER) / SCALE."""


def cubes(object_state: Tensor) -> Tensor:
    """Returns what object states `(..., R)` say of the cube of every color, `(..., colors, len(CUBE))`."""
    return object_state[..., len(HAND) :].unflatten(-1, (len(COLORS), len(CUBE)))


class StateEstimator(nn.Module):
    """Estimates positions to a few millimetres: some attention maps per color, then what is seen where they look.

    Each color attends over the map (spatial softmax: Levine et al. 2016, section 4.3) and gets the attended places and
    features; the hand is read from the whole map. A cube in the hand is mostly hidden by it, but is where the hand is,
    so what was read of the hand is shown to every color as well. Only the tokens are looked at, not the set-point, so
    the same estimator serves pictures of which no set-point is known, such as goals.

    Args:
        channels: Channels C of one token.
        grid: Side of the token map, T = grid * grid.
        width: Channels of the features.
        hidden: Width of the hidden layers.
        maps: Attention maps of each color; with one, a color in some seeds is never found.
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
        seen, weights = self._attend(tokens)
        attended = torch.cat([torch.bmm(weights, seen), weights @ self.position], dim=-1)
        attended = attended.unflatten(1, (len(COLORS), self.maps)).flatten(2)
        hand = self.hand(tokens.flatten(1))
        # Every color has an output layer of its own on shared hidden units: the blocks on the diagonal.
        blocks = self.cube(torch.cat([attended, hand.unsqueeze(1).expand(-1, len(COLORS), -1)], dim=-1))
        cubes = torch.diagonal(blocks.unflatten(-1, (len(COLORS), len(CUBE))), dim1=1, dim2=2).transpose(1, 2)
        return torch.cat([hand, cubes.flatten(1)], dim=1)

    def attended_places(self, tokens: Tensor) -> Tensor:
        """Returns where each color looks in tokens `(B, T, C)`: rows and columns `(B, colors, maps, 2)`, -1 to 1."""
        return (self._attend(tokens)[1] @ self.position).unflatten(1, (len(COLORS), self.maps))

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features `(B, T, F)` and the attention over them `(B, colors * maps, T)`."""
        picture = tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        seen = self.features(picture).permute(0, 2, 3, 1).flatten(1, 2)
        return seen, torch.softmax(self.attention(seen).transpose(1, 2), dim=-1)


class TargetSelector(nn.Module):
    """What an object state says of the cube that an instruction names."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Linear(INSTRUCTION_DIM, len(COLORS))

    def forward(self, object_state: Tensor, instruction: Tensor) -> Tensor:
        """Picks from object states `(B, R)` under instructions `(B, I)`, `(B, len(CUBE))`."""
        named = torch.softmax(self.color(instruction), dim=-1)
        return torch.bmm(named.unsqueeze(1), cubes(object_state)).squeeze(1)
