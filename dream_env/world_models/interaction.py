"""What the hand does to the cubes, in numbers: to move a few positions is easier than to move their picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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

    An ensemble of such networks, each fitted to its own part of the episodes: what comes of a contact is in doubt where
    they differ. Where the hand will be is not in doubt, and told by one.

    Args:
        width: Hidden width.
        ensemble: Number E of networks that move the cubes.
    """

    def __init__(self, width: int, ensemble: int = 1) -> None:
        super().__init__()
        place, closing, others = 3 * 3, 4, (len(COLORS) - 1) * 4
        self.reach = Ensemble(1, 3 * 3 + 3, width, len(HAND))
        self.move = Ensemble(ensemble, place + closing + len(CUBE) + others, width, width, 4)
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

    def __len__(self) -> int:
        """Number of networks that move the cubes."""
        return len(self.move)

    def forward(self, situation: Tensor, proprio: Tensor, moved: Tensor) -> Tensor:
        """Predicts the situation after a step.

        Args:
            situation: Where hand and cubes are, `(B, R)`, see `dream_env.world_models.reader.READINGS`; or where they
                are to each network, `(E, B, R)`, and the hand to all of them.
            proprio: Set-points `(B, 4)` before the step.
            moved: Set-points `(B, 4)` after it.

        Returns:
            The same after it, to each network `(E, B, R)`; cubes that are present stay so.
        """
        hand, cube = situation[..., : len(HAND)], cubes(situation)
        hand = hand[0] if hand.dim() > 2 else hand
        before, after = (setpoint[..., :3] * self.slope + self.middle for setpoint in (proprio, moved))
        behind = hand[..., :3] + self.above - before
        closing = torch.stack([hand[..., 3], proprio[..., 3], moved[..., 3]], dim=1)
        reached = hand + _STEP * self.reach(torch.cat([behind, before, after - before, closing], dim=1))[0]

        place, present = cube[..., PLACE], cube[..., PRESENT:]
        points = [hand[..., :3] + self.above, reached[..., :3] + self.above, after]
        parts = [2 * (point.unsqueeze(1) - place) for point in points]  # a decimeter is far away
        grip = torch.cat([closing, reached[..., 3:]], dim=1).unsqueeze(1)
        parts += [grip.expand(*place.shape[:-1], -1), cube]
        for turn in range(1, len(COLORS)):
            other = cube.roll(turn, dims=-2)
            there = other[..., PRESENT:]
            parts += [(other[..., PLACE] - place).clamp(-2, 2) * there, there]
        change = self.move(torch.cat(parts, dim=-1).flatten(-3, -2)).unflatten(1, place.shape[-3:-1])
        pushed = place + _STEP * change[..., :3], cube[..., HELD:PRESENT] + change[..., 3:]
        after_all = torch.cat([*pushed, present.expand(len(self), *present.shape[-3:])], dim=-1).flatten(-2)
        return torch.cat([reached.expand(len(self), -1, -1), after_all], dim=-1)


class Ensemble(nn.Module):
    """Networks of one form, computed side by side; they predict no change until they are trained.

    Args:
        count: Number E of networks.
        *widths: Inputs, hidden layers, outputs.
    """

    def __init__(self, count: int, *widths: int) -> None:
        super().__init__()
        sizes = list(zip(widths, widths[1:], strict=False))
        self.weights = nn.ParameterList(torch.empty(count, *size) for size in sizes)
        self.biases = nn.ParameterList(torch.empty(count, 1, outputs) for _, outputs in sizes)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = weight.shape[1] ** -0.5  # as `nn.Linear` begins
            for each in (weight, bias):
                nn.init.uniform_(each, -bound, bound)
        nn.init.zeros_(self.weights[-1])
        nn.init.zeros_(self.biases[-1])

    def __len__(self) -> int:
        """Number of networks."""
        return len(self.weights[0])

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps inputs `(E, N, I)`, or `(N, I)` that are the same for all, to outputs `(E, N, O)`."""
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if inputs.dim() == 2:  # one product for all networks
                joint = torch.addmm(bias.flatten(), inputs, weight.transpose(0, 1).flatten(1))
                inputs = joint.unflatten(1, (len(self), -1)).transpose(0, 1)
            else:
                inputs = torch.baddbmm(bias, inputs, weight)
            inputs = inputs if i == last else F.silu(inputs)
        return inputs


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
    (row, column), (along, across) = near.unbind(2), offset.unbind(2)
    bump = row.unsqueeze(-1) * (column * present).unsqueeze(-2)
    parts = [bump, along.unsqueeze(-1) * bump, across.unsqueeze(-2) * bump]
    return torch.stack(parts, dim=2).flatten(3).flatten(1, 2).transpose(1, 2)
