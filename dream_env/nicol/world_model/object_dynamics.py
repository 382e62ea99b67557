"""The object dynamics: predicts hand and cube positions as numbers, which is easier than predicting their image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.nicol import constants
from dream_env.nicol.language import COLORS
from dream_env.nicol.world_model.state_estimator import CENTER, CUBE, HAND, SCALE, cubes

PLACE, HELD, PRESENT = slice(0, 3), 3, 4
"""Indices of position, held and present in the object state of a cube."""
_STEP = 0.1
"""Unit of predicted displacements per control step, in the units of an object state: one centimeter."""
CENTIMETER = 0.1
"""One centimeter in the units of an object state; larger errors count linearly."""
BLUR = 0.01
"""Scale of a component's error in its likelihood: an error of this size, which corresponds to about four millimeters,
makes the component e times less likely."""
_NEVER = -1e4
"""Logit of an impossible component."""
_ASTRAY = 0.02
"""Standard deviation of the initial last-layer weights of all components except the first."""


class Mixture(NamedTuple):
    """Predicted distribution of the next object states: a mixture of K components for each network and cube.

    There are E networks, B states and one cube slot per color.

    Attributes:
        hand: Next hand state, `(B, len(HAND))`; it is deterministic.
        cubes: Position and held flag of every cube in every component, `(E, B, colors, K, 4)`.
        logits: Logits of the components, `(E, B, colors, K)`.
        present: Whether a cube of each color is on the table, `(E, B, colors, 1)`.
    """

    hand: Tensor
    cubes: Tensor
    logits: Tensor
    present: Tensor

    def mean(self) -> Tensor:
        """Returns the mean of every network's mixture, as object states `(E, B, R)`."""
        return self._object_state((self.logits.softmax(-1).unsqueeze(-1) * self.cubes).sum(-2))

    def mode(self) -> Tensor:
        """Returns every network's most likely component, as object states `(E, B, R)`."""
        return self._select(self.logits.argmax(-1))

    def posterior_mode(self, truth: Tensor, known: Tensor) -> Tensor:
        """Returns every network's most likely component given the true next state, as object states `(E, B, R)`.

        See `log_joint` for the arguments.
        """
        return self._select(self.log_joint(truth, known).argmax(-1))

    def log_joint(self, truth: Tensor, known: Tensor) -> Tensor:
        """Returns the log-weight of every component plus its log-likelihood of the true next state.

        Args:
            truth: True next object states, `(B, R)`.
            known: Which of their entries are defined, `(B, R)` bool.

        Returns:
            The log joint probabilities, up to a constant, `(E, B, colors, K)`.
        """
        there = cubes(truth)[:, :, None, :PRESENT].expand_as(self.cubes)
        error = F.smooth_l1_loss(self.cubes, there, beta=CENTIMETER, reduction="none")
        return self.logits.log_softmax(-1) - (error * cubes(known)[:, :, None, :PRESENT]).sum(-1) / BLUR

    def sample(self, noise: Tensor, temperature: Tensor) -> Tensor:
        """Draws one component of one network, as object states `(B, R)`.

        Args:
            noise: Uniform random numbers `(B,)` in [0, 1).
            temperature: Divisor of the logits, `(B,)` (Ha & Schmidhuber 2018, section 4). The lower it is, the more
                often the most likely component is drawn.
        """
        scaled = noise * len(self.cubes)
        network, rows = scaled.long(), torch.arange(len(noise), device=noise.device)
        drawn = Mixture(self.hand, *(part[network, rows].unsqueeze(0) for part in self[1:]))
        chances = (drawn.logits / temperature.clamp_min(1e-6)[:, None, None]).softmax(-1).cumsum(-1)[..., :-1]
        return drawn._select((chances <= (scaled - network)[:, None, None]).sum(-1))[0]

    def disagreement(self) -> Tensor:
        """Returns the variance `(B,)` between the networks' means, averaged over the entries of an object state."""
        means = self.mean()
        return (means - means.mean(0)).square().mean((0, 2))

    def _select(self, component: Tensor) -> Tensor:
        """Returns the components with indices `(E, B, colors)`, one per cube, as object states `(E, B, R)`."""
        number = component[..., None, None].expand(*component.shape, 1, self.cubes.shape[-1])
        return self._object_state(self.cubes.gather(-2, number).squeeze(-2))

    def _object_state(self, chosen: Tensor) -> Tensor:
        """Joins hand and cubes `(E, B, colors, 4)` into object states `(E, B, R)`."""
        after = torch.cat([chosen, self.present], dim=-1).flatten(-2)
        return torch.cat([self.hand.expand(len(chosen), *self.hand.shape), after], dim=-1)


class ObjectDynamics(nn.Module):
    """Predicts hand and cubes from their positions and the motion of the set-point.

    The hand follows its set-point with a lag of some steps. The same network is applied to every cube (interaction
    networks: Battaglia et al. 2016): its inputs are the hand before and after the step and the other cubes, relative to
    the cube. In a rollout, predictions are inputs of the next step and are never rendered in between, so a cube that
    the hand occludes is not lost.

    Whether a cube stays in the hand or slips depends on details that no image shows. Therefore every network predicts a
    mixture of several outcomes with their probabilities (mixture density networks: Bishop 1994; in a world model: Ha &
    Schmidhuber 2018). A single prediction would be an average of the outcomes. It would also learn to infer the outcome
    from the actions that follow it, since the recorded policies see that a cube slipped and go back for it; for a
    policy that does not go back, it would then predict that every grasp succeeds.

    The cubes are predicted by an ensemble of such networks, each fitted to its own part of the episodes; their
    disagreement measures the uncertainty about the outcome of a contact. The hand is predicted by a single network,
    since its motion is certain.

    Args:
        width: Hidden width.
        ensemble: Number E of networks that predict the cubes.
        components: Number K of mixture components of each network.
    """

    def __init__(self, width: int, ensemble: int = 1, components: int = 1) -> None:
        super().__init__()
        place, closing, others = 3 * 3, 4, (len(COLORS) - 1) * 4
        inputs = place + closing + len(CUBE) + others
        self.components = components
        self.hand_dynamics = Ensemble(1, 3 * 3 + 3, width, len(HAND))
        self.cube_dynamics = Ensemble(ensemble, inputs, width, width, components * (PRESENT + 1))
        with torch.no_grad():  # components with equal initial weights would stay equal
            self.cube_dynamics.weights[-1].unflatten(-1, (components, -1))[..., 1:, :].normal_(0, _ASTRAY)
        low, high = torch.from_numpy(constants.SETPOINT_LOW), torch.from_numpy(constants.SETPOINT_HIGH)
        center, scale = torch.tensor(CENTER), torch.tensor(SCALE)
        cube = slice(len(HAND), len(HAND) + 3)
        # Convert all positions to the units of a cube's position: the set-point from [-1, 1], the hand by its offset.
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
        """Returns the number of networks that predict the cubes."""
        return len(self.cube_dynamics)

    def forward(self, object_state: Tensor, setpoint: Tensor, next_setpoint: Tensor) -> Mixture:
        """Predicts the distribution of the next object states; whether a cube is present does not change.

        Args:
            object_state: Object states `(B, R)`, see `state_estimator.OBJECT_STATE`; or different ones for each
                network, `(E, B, R)`, of which the hand is taken from the first.
            setpoint: Set-points before the step, `(B, 4)`.
            next_setpoint: Set-points after the step, `(B, 4)`.
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
        parts = [2 * (point.unsqueeze(1) - place) for point in points]  # scaled up, as even a decimeter is far away
        grip = torch.cat([closing, next_hand[..., 3:]], dim=1).unsqueeze(1)
        parts += [grip.expand(*place.shape[:-1], -1), cube]
        for turn in range(1, len(COLORS)):
            other = cube.roll(turn, dims=-2)
            there = other[..., PRESENT:]
            parts += [(other[..., PLACE] - place).clamp(-2, 2) * there, there]
        output = self.cube_dynamics(torch.cat(parts, dim=-1).flatten(-3, -2)).unflatten(1, place.shape[-3:-1])
        output = output.unflatten(-1, (self.components, -1))
        next_cubes = cube[..., None, :PRESENT] + self.unit * output[..., :PRESENT]
        # The motion of a cube that is not held is not random: only the first component is possible.
        loose = (cube[..., HELD:PRESENT] < 0.5) & (self.number > 0)
        logits = output[..., PRESENT].masked_fill(loose, _NEVER)
        return Mixture(next_hand, next_cubes, logits, present.expand(len(self), *present.shape[-3:]))


class Ensemble(nn.Module):
    """An ensemble of MLPs with the same layer sizes, computed in parallel.

    The last layer is initialized to zero, so untrained networks predict no change.

    Args:
        count: Number E of networks.
        *widths: Widths of inputs, hidden layers and outputs.
    """

    def __init__(self, count: int, *widths: int) -> None:
        super().__init__()
        sizes = list(zip(widths, widths[1:], strict=False))
        self.weights = nn.ParameterList(torch.empty(count, *size) for size in sizes)
        self.biases = nn.ParameterList(torch.empty(count, 1, outputs) for _, outputs in sizes)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = weight.shape[1] ** -0.5  # the initialization of `nn.Linear`
            for each in (weight, bias):
                nn.init.uniform_(each, -bound, bound)
        nn.init.zeros_(self.weights[-1])
        nn.init.zeros_(self.biases[-1])

    def __len__(self) -> int:
        """Returns the number of networks."""
        return len(self.weights[0])

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps inputs `(E, N, I)`, or `(N, I)` shared by all networks, to outputs `(E, N, O)`."""
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if inputs.dim() == 2:  # shared inputs: a single matrix product for all networks
                joint = torch.addmm(bias.flatten(), inputs, weight.transpose(0, 1).flatten(1))
                inputs = joint.unflatten(1, (len(self), -1)).transpose(0, 1)
            else:
                inputs = torch.baddbmm(bias, inputs, weight)
            inputs = inputs if i == last else F.silu(inputs)
        return inputs
