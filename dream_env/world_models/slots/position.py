"""Predicts object positions in meters from slots; learned from a few labelled episodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dream_env.world_models.ensemble import EnsembleMLP

WIDTH = 64
"""Width of the two hidden layers."""


class Position(nn.Module):
    """Predicts the position of an object from its slot in all cameras and the robot state.

    Height and distance are hard to estimate from the image alone; for an object in the hand, the robot state determines
    them better. The same networks are used for all slots, so labels of one object also help for the others.

    Args:
        slot: Size n of a slot over all cameras.
        own: Size P of the robot state.
        numbers: Dimension D of a position.
        nets: Number N of networks, whose outputs are averaged.
    """

    middle: Tensor
    spread: Tensor

    def __init__(self, slot: int, own: int, numbers: int, nets: int) -> None:
        super().__init__()
        self.nets = nets
        self.net = EnsembleMLP(nets, [slot + own, WIDTH, WIDTH, numbers])
        self.register_buffer("middle", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))

    def forward(self, slots: Tensor, own: Tensor) -> Tensor:
        """Maps slots `(B, K, n)` and standardized robot states `(B, P)` to standardized positions `(B, K, D)`."""
        given = torch.cat([slots, own.unsqueeze(1).expand(-1, slots.shape[1], -1)], -1)
        return self.every(given.flatten(0, 1)).mean(0).unflatten(0, slots.shape[:2])

    def every(self, given: Tensor) -> Tensor:
        """Returns the prediction of each network, `(N, B, D)`, for slots with robot states, `(B, n + P)`."""
        return self.net(given.expand(self.nets, *given.shape))

    def meters(self, position: Tensor) -> Tensor:
        """Converts standardized positions `(..., D)` to meters."""
        return position * self.spread + self.middle
