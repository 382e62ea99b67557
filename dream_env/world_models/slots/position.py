"""Where things are in meters: learned from a few labelled episodes, and told of every slot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.world_models.slots.dynamics import Layers

WIDTH = 64
"""Width of the two hidden layers."""


class Position(nn.Module):
    """Tells where a thing is from its slot under all cameras and the robot's own state.

    A picture alone does not tell well how high or how far away a thing is; where the robot's hand is says more of what
    it holds. One network serves all slots, so that every label of a thing teaches it about the others.

    Args:
        slot: Numbers of a slot under all cameras.
        own: Numbers P of the robot's own state.
        numbers: Numbers D of a position.
        nets: Networks, of which the mean is taken.
    """

    middle: Tensor
    spread: Tensor

    def __init__(self, slot: int, own: int, numbers: int, nets: int) -> None:
        super().__init__()
        self.nets = nets
        self.net = Layers(nets, [slot + own, WIDTH, WIDTH, numbers])
        self.register_buffer("middle", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))

    def forward(self, slots: Tensor, own: Tensor) -> Tensor:
        """Maps slots `(B, K, n)` and standardized states `(B, P)` to standardized positions, `(B, K, D)`."""
        given = torch.cat([slots, own.unsqueeze(1).expand(-1, slots.shape[1], -1)], -1)
        return self.every(given.flatten(0, 1)).mean(0).unflatten(0, slots.shape[:2])

    def every(self, given: Tensor) -> Tensor:
        """Returns what each network tells, `(N, B, D)`, of slots with the robot's state, `(B, n + P)`."""
        return self.net(given.expand(self.nets, *given.shape))

    def meters(self, position: Tensor) -> Tensor:
        """Returns standardized positions `(..., D)` in meters."""
        return position * self.spread + self.middle
