"""Conversion of actions and recorded values to about unit size, as networks take them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor


def action_size(space: spaces.Space) -> int:
    """Returns the length A of `unit_actions`: the number of choices of a `Discrete`, or of elements of a vector."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    assert space.shape is not None
    return space.shape[0]


def unit_actions(action: Tensor, space: spaces.Space, mean: Tensor, scale: Tensor) -> Tensor:
    """Returns actions as vectors of about unit size, `(..., A)`.

    Args:
        action: Actions of a world: vectors `(..., A)`, which are standardized, or the choices of a `Discrete`, `(...)`,
            which become one-hot vectors.
        space: Action space of the world.
        mean: Means of the elements of a vector, `(A,)`.
        scale: Scales of the elements, `(A,)`.
    """
    if isinstance(space, spaces.Discrete):
        return F.one_hot(action.long() - int(space.start), int(space.n)).float()
    return (action.float() - mean) / scale


def center_and_scale(space: spaces.Box, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the middle and half the width of a space's bounds, or `mean` and `scale` of elements without bounds."""
    bounded = torch.from_numpy(space.bounded_below & space.bounded_above)
    low, high = torch.from_numpy(space.low).float(), torch.from_numpy(space.high).float()
    return torch.where(bounded, (low + high) / 2, mean), torch.where(bounded, (high - low) / 2, scale)


def safe_std(values: Tensor) -> Tensor:
    """Returns the standard deviations of the columns of `(N, n)`; 1 for constant columns, so it can be divided by."""
    deviation = values.std(0) if len(values) > 1 else torch.zeros(values.shape[1:])
    return torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
