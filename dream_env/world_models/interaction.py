"""What the hand does to the cubes, in numbers: to move a few positions is easier than to move their picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env import contract
from dream_env.language import COLORS
from dream_env.world_models.reader import CENTER, CUBE, HAND, SCALE

PLACE, HELD, PRESENT = slice(0, 3), 3, 4
"""Where position, held and present stand in the readings of a cube."""
_STEP = 0.1
"""Unit in which a cube's displacement in a control step is predicted, in those of a reading: one centimeter."""
_BUMP = 0.25
"""Width of the Gaussian that marks a cube's place on the map, in units of half the map; a token is as wide."""


def cubes(readings: Tensor) -> Tensor:
    """Returns what readings `(..., R)` say of the cube of every color, `(..., colors, len(CUBE))`."""
    return readings[..., len(HAND) :].unflatten(-1, (len(COLORS), len(CUBE)))


class Interaction(nn.Module):
    """Moves hand and cubes by where they are and where the set-point goes.

    The hand follows its set-point, some steps behind. One network serves every cube (interaction networks: Battaglia et
    al. 2016): it sees the hand before and after the step and the other cubes from where the cube is. What is predicted
    is predicted from, step after step, and never goes through a picture, where a cube behind the hand would be lost.

    Args:
        width: Hidden width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        place, closing, others = 3 * 3, 4, (len(COLORS) - 1) * 4
        self.reach = _network(3 * 3 + 3, width, len(HAND), layers=2)
        self.move = _network(place + closing + len(CUBE) + others, width, 4, layers=3)
        low, high = torch.from_numpy(contract.SETPOINT_LOW), torch.from_numpy(contract.SETPOINT_HIGH)
        center, scale = torch.tensor(CENTER), torch.tensor(SCALE)
        cube = slice(len(HAND), len(HAND) + 3)
        # All places in the units of a cube's: the set-point's from [-1, 1], the hand's from its own middle.
        self.slope: Tensor
        self.middle: Tensor
        self.above: Tensor
        self.register_buffer("slope", ((high - low)[:3] / 2) / scale[cube], persistent=False)
        self.register_buffer("middle", ((high + low)[:3] / 2 - center[cube]) / scale[cube], persistent=False)
        self.register_buffer("above", (center[:3] - center[cube]) / scale[cube], persistent=False)

    def forward(self, situation: Tensor, proprio: Tensor, moved: Tensor) -> Tensor:
        """Predicts the situation after a step.

        Args:
            situation: Where hand and cubes are, `(B, R)`, see `dream_env.world_models.reader.READINGS`.
            proprio: Set-points `(B, 4)` before the step.
            moved: Set-points `(B, 4)` after it.

        Returns:
            The same `(B, R)` after it; cubes that are present stay so.
        """
        hand, cube = situation[:, : len(HAND)], cubes(situation)
        before, after = (setpoint[:, :3] * self.slope + self.middle for setpoint in (proprio, moved))
        behind = hand[:, :3] + self.above - before
        closing = torch.stack([hand[:, 3], proprio[:, 3], moved[:, 3]], dim=1)
        reached = hand + _STEP * self.reach(torch.cat([behind, before, after - before, closing], dim=1))

        place, present = cube[..., PLACE], cube[..., PRESENT:]
        points = [hand[:, :3] + self.above, reached[:, :3] + self.above, after]
        parts = [2 * (point[:, None] - place) for point in points]  # a decimeter is far away
        parts += [torch.cat([closing, reached[:, 3:]], dim=1)[:, None].expand(-1, len(COLORS), -1), cube]
        for turn in range(1, len(COLORS)):
            other = cube.roll(turn, dims=1)
            there = other[..., PRESENT:]
            parts += [(other[..., PLACE] - place).clamp(-2, 2) * there, there]
        change = self.move(torch.cat(parts, dim=-1))
        pushed = [place + _STEP * change[..., :3], cube[..., HELD:PRESENT] + change[..., 3:], present]
        return torch.cat([reached, torch.cat(pushed, dim=-1).flatten(1)], dim=1)


def _network(inputs: int, width: int, outputs: int, layers: int) -> nn.Sequential:
    """Builds a network that predicts no change until it is trained."""
    parts: list[nn.Module] = []
    for size in [inputs, *[width] * (layers - 1)]:
        parts += [nn.Linear(size, width), nn.SiLU()]
    output = nn.Linear(width, outputs)
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    return nn.Sequential(*parts, output)


def mark(places: Tensor, present: Tensor, axis: Tensor) -> Tensor:
    """Marks places on the token map, finer than a token.

    Args:
        places: Rows and columns `(B, n, 2)`, -1 to 1 over the map.
        present: How strongly each is marked, `(B, n, 1)`.
        axis: Where its rows and columns are, `(side,)`.

    Returns:
        Of each place a Gaussian, and the same times the distance in rows and in columns, `(B, T, n * 3)`.
    """
    offset = (axis - places[..., None]) / _BUMP
    near = torch.exp(offset.square() / -2)
    row, column = near.unsqueeze(-1)[:, :, 0], (near * present[..., None])[:, :, 1, None]
    along, across = offset[:, :, 0, :, None], offset[:, :, 1, None]
    bump = row * column
    return torch.stack([bump, along * bump, across * bump], dim=2).flatten(3).flatten(1, 2).transpose(1, 2)
