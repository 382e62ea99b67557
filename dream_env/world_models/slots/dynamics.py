"""Slot dynamics: an ensemble of networks, shared by all slots, with messages between slots.

The input for a slot is its own features, the image position of the robot's hand, the robot state and action, and
messages from the other slots (interaction networks, Battaglia et al. 2016). The output is a set of alternative
outcomes, see `outcomes`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dream_env.world_models.ensemble import EnsembleMLP
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.outcomes import Outcomes
from dream_env.world_models.slots.reader import FEATURES, SEEN

MOVING = FEATURES - 1
"""Slot features per camera that change in a step: all but the flag `SEEN`."""
SHARPEST, WIDEST = 1.5, 6.0
"""Smallest and largest spread of an outcome, in pixels. Changes that are closer together count as one outcome;
otherwise the mixture would also split what the network cannot predict yet, and rollouts would jitter."""


class SlotDynamics(nn.Module):
    """Predicts slots and the robot state one step ahead.

    Args:
        config: Numbers of slots K, of ensemble members E and of their outcomes J; sizes of the networks and of the
            memory M of a slot.
        cameras: Number C of cameras.
        own: Size P of the robot state; 0 for none.
        action: Size A of an action.
    """

    def __init__(self, config: SlotConfig, cameras: int, own: int, action: int) -> None:
        super().__init__()
        slots, members, memory, message = config.slots, config.members, config.memory, config.message
        hidden, outcomes = [config.width] * config.depth, config.outcomes
        self.cameras, self.memory, self.outcomes = cameras, memory, outcomes
        numbers = FEATURES * cameras
        inputs = numbers + memory + slots + 4 * cameras + 2 * own + action
        self.speak, self.listen = (EnsembleMLP(members, [numbers + slots, message]) for _ in range(2))
        outputs = MOVING * cameras + memory + (2 if outcomes > 1 else 0)
        self.net = EnsembleMLP(members, [inputs + message, *hidden, outcomes * outputs])
        self.own_net = EnsembleMLP(members, [own + action, *hidden, own]) if own else None
        self.register_buffer("identity", torch.eye(slots), persistent=False)
        self.identity: Tensor

    def forward(
        self, slots: Tensor, memory: Tensor, own: Tensor, action: Tensor, hand: Tensor, place: nn.Module
    ) -> tuple[Outcomes, Tensor]:
        """Predicts the next slots and robot state, separately for each ensemble member.

        Args:
            slots: `(E, B, K, C * FEATURES)`.
            memory: `(E, B, K, M)`.
            own: Standardized robot state, `(E, B, P)`.
            action: `(E, B, A)`, of about unit size.
            hand: Image position of the robot's hand, `(E, B, C * 2)`.
            place: Module that maps a robot state to the image position of the hand.

        Returns:
            The alternative outcomes for each slot, with changes of C * MOVING features, and the next robot state
            `(E, B, P)`.
        """
        after = own if self.own_net is None else own + self.own_net(torch.cat([own, action], -1))
        shift = place(after.detach()) - hand
        members, batch, count = slots.shape[:3]
        name = self.identity.expand(members, batch, count, count)
        features = torch.cat([slots, name], -1)
        sent, received = (
            part(features.flatten(1, 2)).view(members, batch, count, -1) for part in (self.speak, self.listen)
        )
        seen = slots[..., SEEN::FEATURES].amax(-1)  # (E, B, K)
        senders = seen.unsqueeze(2) * (1 - self.identity)  # (E, B, K, K): 1 if slot i receives a message from slot j
        messages = (F.silu(received.unsqueeze(3) + sent.unsqueeze(2)) * senders.unsqueeze(-1)).sum(3)
        center = slots.unflatten(-1, (self.cameras, FEATURES))[..., :2].flatten(-2)
        robot = torch.cat([own, after.detach(), action, shift], -1).unsqueeze(2).expand(-1, -1, count, -1)
        inputs = torch.cat([features, memory, hand.unsqueeze(2) - center, robot, messages], -1)
        out = self.net(inputs.flatten(1, 2)).view(members, batch, count, self.outcomes, -1)
        change, kept = out[..., : MOVING * self.cameras], out[..., MOVING * self.cameras :]
        kept, more = kept.split([self.memory, kept.shape[-1] - self.memory], -1)
        if self.outcomes == 1:
            logit, spread = torch.zeros_like(change[..., 0]), torch.ones_like(change[..., 0])
        else:
            logit, spread = more[..., 0], more[..., 1].exp().clamp(SHARPEST, WIDEST)
        return Outcomes(change, logit, spread, kept.tanh()), after
