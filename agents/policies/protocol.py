"""What a policy is: something that chooses actions for batches of observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from torch import Tensor, nn


@runtime_checkable
class Policy(Protocol):
    """Chooses actions for episodes that run side by side.

    Kinds that `dream_env.agents.policies.registry` keeps on disk have besides `kind`, a dataclass `config_class` and
    its instance `config`, and are `torch.nn.Module`s built from that.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it looks at."""

    def reset(self) -> None:
        """Forgets the episodes so far; called before the first `act` of new ones."""

    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Chooses the next actions.

        Args:
            observation: Arrays `(B, ...)` by name; B stays the same until the next `reset`. More than `inputs` may be
                there.
            deterministic: The most probable action; otherwise one that is drawn.

        Returns:
            Actions `(B, ...)` of the action space.
        """


@runtime_checkable
class Practicable(Protocol):
    """A policy, a `torch.nn.Module`, that `dream_env.agents.policies.practice` lets reinforcement learning improve.

    Observations are tensors `(B, ...)` by name, actions in the units of the action space. Called, it gives the mean of
    `distribution` alone.
    """

    def distribution(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns mean `(B, A)`, with gradients, and standard deviation `(A,)` of a Gaussian of the next action."""

    def critic(self, space: spaces.Dict) -> nn.Module:
        """Makes a network that says what observations of a space are worth, `(B,)`."""
