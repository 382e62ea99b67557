"""How slots move: one network for all of them, which hears of the others and of the robot, in an ensemble.

Each slot is told where it is, where the robot's hand shows in the picture, what the robot's state and action are, and
what the other slots say (interaction networks, Battaglia et al. 2016); it says what may come of it, see `outcomes`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.world_models.slots.outcomes import Outcomes
from dream_env.world_models.slots.reader import FEATURES, SEEN

MOVING = FEATURES - 1
"""Numbers of a slot under one camera that change: all but whether it was seen."""
SHARPEST, WIDEST = 1.5, 6.0
"""Least and largest spread of an outcome, in pixels: what lies nearer together is one, or all would be split that a
network cannot foresee yet, and dreams would jitter."""


class Layers(nn.Module):
    """A fully connected network for each member of an ensemble, in one pass.

    Args:
        members: Number E of networks.
        sizes: Lengths of input, hidden layers and output.
    """

    def __init__(self, members: int, sizes: list[int]) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for given, made in zip(sizes[:-1], sizes[1:], strict=True):
            self.weights.append(nn.Parameter(torch.empty(members, given, made).uniform_(-1, 1) * given**-0.5))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, made)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps `(E, N, inputs)`, one part for each member, to `(E, N, outputs)`."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inputs = torch.baddbmm(bias, F.silu(inputs) if layer else inputs, weight)
        return inputs


class SlotDynamics(nn.Module):
    """Predicts slots and the robot's own state one step ahead.

    Args:
        slots: Slots K.
        cameras: Cameras C.
        own: Numbers P of the robot's own state; 0 for none.
        action: Numbers A of an action.
        members: Networks E of the ensemble.
        width: Width of hidden layers.
        depth: Hidden layers.
        memory: Numbers M that a slot remembers.
        message: Numbers of a message.
        outcomes: Outcomes J that each member tells apart.
    """

    def __init__(
        self,
        slots: int,
        cameras: int,
        own: int,
        action: int,
        members: int,
        width: int,
        depth: int,
        memory: int,
        message: int,
        outcomes: int = 1,
    ) -> None:
        super().__init__()
        self.slots, self.cameras, self.members, self.memory = slots, cameras, members, memory
        self.outcomes = outcomes
        numbers = FEATURES * cameras
        seen = numbers + memory + slots + 4 * cameras + 2 * own + action
        self.speak, self.listen = (Layers(members, [numbers + slots, message]) for _ in range(2))
        told = MOVING * cameras + memory + (2 if outcomes > 1 else 0)
        self.net = Layers(members, [seen + message, *[width] * depth, outcomes * told])
        self.own_net = Layers(members, [own + action, *[width] * depth, own]) if own else None
        self.register_buffer("identity", torch.eye(slots), persistent=False)
        self.identity: Tensor

    def forward(
        self, slots: Tensor, memory: Tensor, own: Tensor, action: Tensor, hand: Tensor, place: nn.Module
    ) -> tuple[Outcomes, Tensor]:
        """Returns what may come of slots, whose moving numbers are C * MOVING, and the own state `(E, B, P)` after it.

        Args:
            slots: `(E, B, K, C * FEATURES)`, one part for each member.
            memory: `(E, B, K, M)`.
            own: The robot's state, standardized, `(E, B, P)`.
            action: `(E, B, A)`, of about unit size.
            hand: Where the robot's hand shows, `(E, B, C * 2)`.
            place: Tells that of its next state.
        """
        after = own if self.own_net is None else own + self.own_net(torch.cat([own, action], -1))
        shift = place(after.detach()) - hand
        members, batch, count = slots.shape[:3]
        name = self.identity.expand(members, batch, count, count)
        self_told = torch.cat([slots, name], -1)
        spoken, heeded = (
            part(self_told.flatten(1, 2)).view(members, batch, count, -1) for part in (self.speak, self.listen)
        )
        there = slots[..., SEEN::FEATURES].amax(-1)  # (E, B, K)
        apart = there.unsqueeze(2) * (1 - self.identity)  # (E, B, K, K): who is heard by whom
        heard = (F.silu(heeded.unsqueeze(3) + spoken.unsqueeze(2)) * apart.unsqueeze(-1)).sum(3)
        centre = slots.unflatten(-1, (self.cameras, FEATURES))[..., :2].flatten(-2)
        robot = torch.cat([own, after.detach(), action, shift], -1).unsqueeze(2).expand(-1, -1, count, -1)
        told = torch.cat([self_told, memory, hand.unsqueeze(2) - centre, robot, heard], -1)
        out = self.net(told.flatten(1, 2)).view(members, batch, count, self.outcomes, -1)
        change, kept = out[..., : MOVING * self.cameras], out[..., MOVING * self.cameras :]
        kept, more = kept.split([self.memory, kept.shape[-1] - self.memory], -1)
        if self.outcomes == 1:
            logit, spread = torch.zeros_like(change[..., 0]), torch.ones_like(change[..., 0])
        else:
            logit, spread = more[..., 0], more[..., 1].exp().clamp(SHARPEST, WIDEST)
        return Outcomes(change, logit, spread, kept.tanh()), after
