"""What the hand does to the cubes, in numbers: to move a few positions is easier than to move their picture."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.nicol import constants
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.state_estimator import CENTER, CUBE, HAND, SCALE, cubes

PLACE, HELD, PRESENT = slice(0, 3), 3, 4
"""Where position, held and present stand in the readings of a cube."""
_STEP = 0.1
"""Unit in which a cube's displacement in a control step is predicted, in those of a reading: one centimeter."""
CENTIMETER = 0.1
"""One centimeter in the units of a reading: from there on errors count linearly."""
BLUR = 0.01
"""Error of a future that makes it e times less likely to be the one that happened: that of four millimeters."""
_NEVER = -1e4
"""Logit of a future that cannot be."""
_ASTRAY = 0.02
"""Standard deviation of the last weights of all futures but the first, before they are trained."""
_BUMP = 0.25
"""Width of the Gaussian that marks a cube's place on the map, in units of half the map; a token is as wide."""


class Mixture(NamedTuple):
    """What may come of a step: to each of E networks, K futures of every cube, of which one will be.

    Attributes:
        hand: Where the hand will be, `(B, len(HAND))`; of that there is no doubt.
        cubes: Place and held of every cube in every future, `(E, B, colors, K, 4)`.
        logits: How likely the futures are, `(E, B, colors, K)`.
        present: Whether the cubes are there, `(E, B, colors, 1)`.
    """

    hand: Tensor
    cubes: Tensor
    logits: Tensor
    present: Tensor

    def mean(self) -> Tensor:
        """Returns what every network expects, the mean of its futures, as readings `(E, B, R)`."""
        return self._readings((self.logits.softmax(-1).unsqueeze(-1) * self.cubes).sum(-2))

    def likeliest(self) -> Tensor:
        """Returns every network's likeliest future, as readings `(E, B, R)`."""
        return self._choose(self.logits.argmax(-1))

    def nearest(self, truth: Tensor, known: Tensor) -> Tensor:
        """Returns every network's future that most probably is the one that happened, as readings `(E, B, R)`.

        Arguments as in `scores`.
        """
        return self._choose(self.scores(truth, known).argmax(-1))

    def scores(self, truth: Tensor, known: Tensor) -> Tensor:
        """Returns how well futures explain what happened: the logarithm of their share in the mixture there.

        Args:
            truth: What happened, as readings `(B, R)`.
            known: Which of these exist, `(B, R)` bool.

        Returns:
            The scores, `(E, B, colors, K)`.
        """
        there = cubes(truth)[:, :, None, :PRESENT].expand_as(self.cubes)
        error = F.smooth_l1_loss(self.cubes, there, beta=CENTIMETER, reduction="none")
        return self.logits.log_softmax(-1) - (error * cubes(known)[:, :, None, :PRESENT]).sum(-1) / BLUR

    def expected(self) -> Tensor:
        """Returns the mean of what the networks hold for the likeliest, as readings `(B, R)`."""
        return self.likeliest().mean(0)

    def retraced(self, truth: Tensor, known: Tensor) -> Tensor:
        """Returns the mean of the networks' futures that are nearest to what happened, as readings `(B, R)`.

        Arguments as in `scores`.
        """
        return self.nearest(truth, known).mean(0)

    def drawn(self, noise: Tensor, temperature: Tensor) -> Tensor:
        """Returns one future of one network, as readings `(B, R)`.

        Args:
            noise: Random numbers `(B,)` in [0, 1).
            temperature: What the logits are divided by, `(B,)` (Ha & Schmidhuber 2018, section 4): the lower, the more
                often it is the likeliest future.
        """
        spread = noise * len(self.cubes)
        network, rows = spread.long(), torch.arange(len(noise), device=noise.device)
        one = Mixture(self.hand, *(part[network, rows].unsqueeze(0) for part in self[1:]))
        chances = (one.logits / temperature.clamp_min(1e-6)[:, None, None]).softmax(-1).cumsum(-1)[..., :-1]
        return one._choose((chances <= (spread - network)[:, None, None]).sum(-1))[0]

    def _choose(self, future: Tensor) -> Tensor:
        """Returns one future of every cube, by their numbers `(E, B, colors)`."""
        number = future[..., None, None].expand(*future.shape, 1, self.cubes.shape[-1])
        return self._readings(self.cubes.gather(-2, number).squeeze(-2))

    def _readings(self, chosen: Tensor) -> Tensor:
        """Joins hand and cubes `(E, B, colors, 4)` into readings `(E, B, R)`."""
        after = torch.cat([chosen, self.present], dim=-1).flatten(-2)
        return torch.cat([self.hand.expand(len(chosen), *self.hand.shape), after], dim=-1)


class ObjectDynamics(nn.Module):
    """Moves hand and cubes by where they are and where the set-point goes.

    The hand follows its set-point, some steps behind. One network serves every cube (interaction networks: Battaglia et
    al. 2016): it sees the hand before and after the step and the other cubes from where the cube is. What is predicted
    is predicted from, step after step, and never goes through a picture, where a cube behind the hand would be lost.

    A cube stays in the hand or slips out of it, by what no picture shows. So every network tells apart some futures and
    how likely each is, a mixture (mixture density networks: Bishop 1994; in a world model: Ha & Schmidhuber 2018). One
    guess would be neither; and as recorded policies see a cube slip and go back for it, it would learn to tell what
    has happened from how they go on, and believe in every grasp of one that does not.

    An ensemble of such networks, each fitted to its own part of the episodes: what comes of a contact is in doubt where
    they differ. Where the hand will be is not in doubt, and told by one.

    Args:
        width: Hidden width.
        ensemble: Number E of networks that move the cubes.
        futures: Number K of futures that each of them tells apart.
    """

    def __init__(self, width: int, ensemble: int = 1, futures: int = 1) -> None:
        super().__init__()
        place, closing, others = 3 * 3, 4, (len(COLORS) - 1) * 4
        self.futures = futures
        self.reach = Ensemble(1, 3 * 3 + 3, width, len(HAND))
        self.move = Ensemble(ensemble, place + closing + len(CUBE) + others, width, width, futures * (PRESENT + 1))
        with torch.no_grad():  # futures that begin alike would stay so
            self.move.weights[-1].unflatten(-1, (futures, -1))[..., 1:, :].normal_(0, _ASTRAY)
        low, high = torch.from_numpy(constants.SETPOINT_LOW), torch.from_numpy(constants.SETPOINT_HIGH)
        center, scale = torch.tensor(CENTER), torch.tensor(SCALE)
        cube = slice(len(HAND), len(HAND) + 3)
        # All places in the units of a cube's: the set-point's from [-1, 1], the hand's from its own middle.
        self.slope: Tensor
        self.middle: Tensor
        self.above: Tensor
        self.register_buffer("slope", ((high - low)[:3] / 2) / scale[cube], persistent=False)
        self.register_buffer("middle", ((high + low)[:3] / 2 - center[cube]) / scale[cube], persistent=False)
        self.register_buffer("above", (center[:3] - center[cube]) / scale[cube], persistent=False)
        self.number: Tensor
        self.register_buffer("number", torch.arange(futures), persistent=False)
        self.unit: Tensor
        self.register_buffer("unit", torch.tensor([*[_STEP] * 3, 1.0]), persistent=False)

    def __len__(self) -> int:
        """Number of networks that move the cubes."""
        return len(self.move)

    def forward(self, situation: Tensor, proprio: Tensor, moved: Tensor) -> Mixture:
        """Predicts what may come of a step; cubes that are present stay so.

        Args:
            situation: Where hand and cubes are, `(B, R)`, see `dream_env.nicol.world_model.state_estimator.READINGS`; or where they
                are to each network, `(E, B, R)`, and the hand to all of them.
            proprio: Set-points `(B, 4)` before the step.
            moved: Set-points `(B, 4)` after it.
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
        told = self.move(torch.cat(parts, dim=-1).flatten(-3, -2)).unflatten(1, place.shape[-3:-1])
        told = told.unflatten(-1, (self.futures, -1))
        future = cube[..., None, :PRESENT] + self.unit * told[..., :PRESENT]
        # Of a cube that is not held it is known what a hand does to it: it has the first future alone.
        loose = (cube[..., HELD:PRESENT] < 0.5) & (self.number > 0)
        logits = told[..., PRESENT].masked_fill(loose, _NEVER)
        return Mixture(reached, future, logits, present.expand(len(self), *present.shape[-3:]))


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
