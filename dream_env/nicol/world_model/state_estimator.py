"""Reading the situation off the tokens: where the hand and every color's cube are, and what is held."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.language import COLORS
from dream_env.world_models.batching import MAPS, in_company

HAND = ("x", "y", "z", "closing")
CUBE = ("x", "y", "z", "held", "present")
READINGS = (*(f"hand.{name}" for name in HAND), *(f"{color}.{name}" for color in COLORS for name in CUBE))
"""What the reader tells, in this order."""
CENTER = (0.5, -0.2, 0.95, 0.5, *(0.5, -0.2, 0.85, 0.0, 0.0) * len(COLORS))
SCALE = (0.1, 0.1, 0.1, 0.5, *(0.1, 0.1, 0.1, 1.0, 1.0) * len(COLORS))
"""Middle and unit of its numbers (m; closing, held and present: 0 to 1): a reading is (number - CENTER) / SCALE."""


def cubes(readings: Tensor) -> Tensor:
    """Returns what readings `(..., R)` say of the cube of every color, `(..., colors, len(CUBE))`."""
    return readings[..., len(HAND) :].unflatten(-1, (len(COLORS), len(CUBE)))


class StateEstimator(nn.Module):
    """Reads positions to a few millimetres: some attention maps per color, then what is seen where they look.

    Each color attends over the map (spatial softmax: Levine et al. 2016, section 4.3) and gets the attended places and
    features; the hand is read from the whole map. A cube in the hand is mostly hidden by it, but is where the hand is,
    so what was read of the hand is shown to every color as well. Only the tokens are looked at, not the set-point, so
    the same reader serves pictures of which no set-point is known, such as goals.

    Args:
        channels: Channels C of one token.
        grid: Side of the token map, T = grid * grid.
        width: Channels of the features; by default at least as many as a token has, to pass on all of one vector.
        hidden: Width of the hidden layers.
        looks: Attention maps of each color; with one, a color in some seeds is never found.
    """

    def __init__(self, channels: int, grid: int, width: int | None = None, hidden: int = 64, looks: int = 2) -> None:
        super().__init__()
        width = width or max(24, channels)
        self.grid, self.looks = grid, looks
        self.features = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.SiLU())
        self.look = nn.Linear(width, len(COLORS) * looks)
        inputs = looks * (width + 2) + len(HAND)
        self.cube = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, len(COLORS) * len(CUBE)))
        self.hand = nn.Sequential(nn.Linear(grid * grid * channels, hidden), nn.SiLU(), nn.Linear(hidden, len(HAND)))
        axis = torch.linspace(-1, 1, grid)
        self.position: Tensor
        self.register_buffer("position", torch.cartesian_prod(axis, axis), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Reads tokens `(B, T, C)` into `(B, len(READINGS))`."""
        seen, weights = self._look(tokens)
        attended = torch.cat([torch.bmm(weights, seen), self._places(weights)], dim=-1)
        attended = attended.unflatten(1, (len(COLORS), self.looks)).flatten(2)
        hand = in_company(self.hand, tokens.flatten(1))
        # Every color has an output layer of its own on shared hidden units: the blocks on the diagonal.
        seen = torch.cat([attended, hand.unsqueeze(1).expand(-1, len(COLORS), -1)], dim=-1)
        blocks = in_company(self.cube, seen.flatten(0, 1)).view(len(tokens), len(COLORS), len(COLORS), len(CUBE))
        cubes = torch.diagonal(blocks, dim1=1, dim2=2).transpose(1, 2)
        return torch.cat([hand, cubes.flatten(1)], dim=1)

    def looks_at(self, tokens: Tensor) -> Tensor:
        """Returns where each color looks in tokens `(B, T, C)`: rows and columns `(B, colors, looks, 2)`, -1 to 1."""
        return self._places(self._look(tokens)[1]).unflatten(1, (len(COLORS), self.looks))

    def _places(self, weights: Tensor) -> Tensor:
        """Gives the mean places `(B, n, 2)` of attention maps `(B, n, T)`."""
        return in_company(lambda maps: maps @ self.position, weights.flatten(0, 1)).unflatten(0, weights.shape[:2])

    def _look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features `(B, T, F)` and the attention over them `(B, colors * looks, T)`."""
        picture = tokens.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        seen = in_company(self.features, picture, company=MAPS).permute(0, 2, 3, 1).flatten(1, 2)
        return seen, torch.softmax(self.look(seen).transpose(1, 2), dim=-1)


class TargetSelector(nn.Module):
    """What was read of the cube that an instruction names."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Linear(INSTRUCTION_DIM, len(COLORS))

    def forward(self, readings: Tensor, instruction: Tensor) -> Tensor:
        """Picks from readings `(B, len(READINGS))` under instructions `(B, I)`, `(B, len(CUBE))`."""
        named = torch.softmax(in_company(self.color, instruction), dim=-1)
        return torch.bmm(named.unsqueeze(1), cubes(readings)).squeeze(1)
