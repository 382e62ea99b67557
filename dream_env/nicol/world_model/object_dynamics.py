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
"""Where position, held and present stand in the object state of a cube."""
_STEP = 0.1
"""Unit in which a cube's displacement in a control step is predicted, in those of an object state: one centimeter."""
CENTIMETER = 0.1
"""One centimeter in the units of an object state: from there on errors count linearly."""
BLUR = 0.01
"""Error of a component that makes it e times less likely to be the one that happened: that of four millimeters."""
_NEVER = -1e4
"""Logit of a component that cannot be."""
_ASTRAY = 0.02
"""Standard deviation of the last weights of all components but the first, before they are trained."""


class Mixture(NamedTuple):
    """What may come of a step: of each of E networks, K components for every cube, one of which will be.

    Attributes:
        hand: Where the hand will be, `(B, len(HAND))`; of that there is no doubt.
        cubes: Place and held of every cube in every component, `(E, B, colors, K, 4)`.
        logits: Of how likely the components are, `(E, B, colors, K)`.
        present: Whether the cubes are there, `(E, B, colors, 1)`.
    """

    hand: Tensor
    cubes: Tensor
    logits: Tensor
    present: Tensor

    def mean(self) -> Tensor:
        """Returns the mean of every network's components, as object states `(E, B, R)`."""
        return self._object_state((self.logits.softmax(-1).unsqueeze(-1) * self.cubes).sum(-2))

    def mode(self) -> Tensor:
        """Returns every network's likeliest component, as object states `(E, B, R)`."""
        return self._select(self.logits.argmax(-1))

    def posterior_mode(self, truth: Tensor, known: Tensor) -> Tensor:
        """Returns every network's component that most probably is the one that happened, as object states `(E, B, R)`.

        Arguments as in `log_joint`.
        """
        return self._select(self.log_joint(truth, known).argmax(-1))

    def log_joint(self, truth: Tensor, known: Tensor) -> Tensor:
        """Returns the logarithm of every component's weight times the likelihood that it gives to what happened.

        Args:
            truth: What happened, as object states `(B, R)`.
            known: Which of its numbers exist, `(B, R)` bool.

        Returns:
            The logarithms, `(E, B, colors, K)`.
        """
        there = cubes(truth)[:, :, None, :PRESENT].expand_as(self.cubes)
        error = F.smooth_l1_loss(self.cubes, there, beta=CENTIMETER, reduction="none")
        return self.logits.log_softmax(-1) - (error * cubes(known)[:, :, None, :PRESENT]).sum(-1) / BLUR

    def sample(self, noise: Tensor, temperature: Tensor) -> Tensor:
        """Draws one component of one network, as object states `(B, R)`.

        Args:
            noise: Uniform random numbers `(B,)` in [0, 1).
            temperature: What the logits are divided by, `(B,)` (Ha & Schmidhuber 2018, section 4): the lower, the more
                often it is the likeliest component.
        """
        scaled = noise * len(self.cubes)
        network, rows = scaled.long(), torch.arange(len(noise), device=noise.device)
        one = Mixture(self.hand, *(part[network, rows].unsqueeze(0) for part in self[1:]))
        chances = (one.logits / temperature.clamp_min(1e-6)[:, None, None]).softmax(-1).cumsum(-1)[..., :-1]
        return one._select((chances <= (scaled - network)[:, None, None]).sum(-1))[0]

    def disagreement(self) -> Tensor:
        """Returns the variance `(B,)` between the networks' means, averaged over the numbers of an object state."""
        means = self.mean()
        return (means - means.mean(0)).square().mean((0, 2))

    def _select(self, component: Tensor) -> Tensor:
        """Returns one component of every cube, by their numbers `(E, B, colors)`."""
        number = component[..., None, None].expand(*component.shape, 1, self.cubes.shape[-1])
        return self._object_state(self.cubes.gather(-2, number).squeeze(-2))

    def _object_state(self, chosen: Tensor) -> Tensor:
        """Joins hand and cubes `(E, B, colors, 4)` into object states `(E, B, R)`."""
        after = torch.cat([chosen, self.present], dim=-1).flatten(-2)
        return torch.cat([self.hand.expand(len(chosen), *self.hand.shape), after], dim=-1)


class ObjectDynamics(nn.Module):
    """Moves hand and cubes by where they are and where the set-point goes.

    The hand follows its set-point, some steps behind. One network serves every cube (interaction networks: Battaglia et
    al. 2016): it sees the hand before and after the step and the other cubes from where the cube is. What is predicted
    is predicted from, step after step, and never goes through a picture, where a cube behind the hand would be lost.

    A cube stays in the hand or slips out of it, by what no picture shows. So every network predicts some components and
    how likely each is, a mixture (mixture density networks: Bishop 1994; in a world model: Ha & Schmidhuber 2018). One
    guess would be neither; and as recorded policies see a cube slip and go back for it, it would learn to tell what
    has happened from how they go on, and believe in every grasp of one that does not.

    An ensemble of such networks, each fitted to its own part of the episodes: what comes of a contact is in doubt where
    they differ. Where the hand will be is not in doubt, and told by one.

    Args:
        width: Hidden width.
        ensemble: Number E of networks that move the cubes.
        components: Number K of components that each of them tells apart.
    """

    def __init__(self, width: int, ensemble: int = 1, components: int = 1) -> None:
        super().__init__()
        place, closing, others = 3 * 3, 4, (len(COLORS) - 1) * 4
        inputs = place + closing + len(CUBE) + others
        self.components = components
        self.hand_dynamics = Ensemble(1, 3 * 3 + 3, width, len(HAND))
        self.cube_dynamics = Ensemble(ensemble, inputs, width, width, components * (PRESENT + 1))
        with torch.no_grad():  # components that begin alike would stay so
            self.cube_dynamics.weights[-1].unflatten(-1, (components, -1))[..., 1:, :].normal_(0, _ASTRAY)
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
        self.register_buffer("number", torch.arange(components), persistent=False)
        self.unit: Tensor
        self.register_buffer("unit", torch.tensor([*[_STEP] * 3, 1.0]), persistent=False)

    def __len__(self) -> int:
        """Number of networks that move the cubes."""
        return len(self.cube_dynamics)

    def forward(self, object_state: Tensor, setpoint: Tensor, next_setpoint: Tensor) -> Mixture:
        """Predicts what may come of a step; cubes that are present stay so.

        Args:
            object_state: Where hand and cubes are, `(B, R)`, see `state_estimator.OBJECT_STATE`; or where they are to
                each network, `(E, B, R)`, and the hand to all of them.
            setpoint: Set-points `(B, 4)` before the step.
            next_setpoint: Set-points `(B, 4)` after it.
        """
        hand, cube = object_state[..., : len(HAND)], cubes(object_state)
        hand = hand[0] if hand.dim() > 2 else hand
        before, after = (each[..., :3] * self.slope + self.middle for each in (setpoint, next_setpoint))
        behind = hand[..., :3] + self.above - before
        closing = torch.stack([hand[..., 3], setpoint[..., 3], next_setpoint[..., 3]], dim=1)
        inputs = torch.cat([behind, before, after - before, closing], dim=1)
        next_hand = hand + _STEP * self.hand_dynamics(inputs)[0]

        place, present = cube[..., PLACE], cube[..., PRESENT:]
        points = [hand[..., :3] + self.above, next_hand[..., :3] + self.above, after]
        parts = [2 * (point.unsqueeze(1) - place) for point in points]  # a decimeter is far away
        grip = torch.cat([closing, next_hand[..., 3:]], dim=1).unsqueeze(1)
        parts += [grip.expand(*place.shape[:-1], -1), cube]
        for turn in range(1, len(COLORS)):
            other = cube.roll(turn, dims=-2)
            there = other[..., PRESENT:]
            parts += [(other[..., PLACE] - place).clamp(-2, 2) * there, there]
        told = self.cube_dynamics(torch.cat(parts, dim=-1).flatten(-3, -2)).unflatten(1, place.shape[-3:-1])
        told = told.unflatten(-1, (self.components, -1))
        next_cubes = cube[..., None, :PRESENT] + self.unit * told[..., :PRESENT]
        # Of a cube that is not held it is known what a hand does to it: it has the first component alone.
        loose = (cube[..., HELD:PRESENT] < 0.5) & (self.number > 0)
        logits = told[..., PRESENT].masked_fill(loose, _NEVER)
        return Mixture(next_hand, next_cubes, logits, present.expand(len(self), *present.shape[-3:]))


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
