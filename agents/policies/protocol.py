"""Protocols of policies, which choose actions for batches of observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from torch import Tensor, nn


@runtime_checkable
class Policy(Protocol):
    """A policy that acts in a batch of parallel episodes.

    Policies that `dream_env.agents.policies.registry` saves and loads are `torch.nn.Module`s that are built from a
    config. They also have the attributes `kind` (name), `config_class` (dataclass) and `config` (its instance).
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""

    def reset(self) -> None:
        """Resets the internal state; called before the first `act` of new episodes."""

    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns the next actions.

        Args:
            observation: Arrays `(B, ...)` by name. It may have more parts than `inputs`. B must not change until the
                next `reset`.
            deterministic: Whether to return the most likely action instead of a sampled one.

        Returns:
            Actions `(B, ...)` in the action space.
        """


@runtime_checkable
class Practicable(Protocol):
    """A policy that reinforcement learning can improve, see `dream_env.agents.policies.practice`.

    It is a `torch.nn.Module` whose `forward` returns the mean of `distribution`. Observations are tensors `(B, ...)` by
    name; actions are in the units of the action space.
    """

    def distribution(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns mean `(B, A)`, with gradients, and standard deviation `(A,)` of a Gaussian over the next action."""

    def critic(self, space: spaces.Dict) -> nn.Module:
        """Creates a network that maps observations of a space to values `(B,)`."""
