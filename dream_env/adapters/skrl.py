"""Dreams for skrl, whose learners (PPO, SAC, TD3, ...) keep everything on one device: GPU practice from end to end."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from dream_env.tensors import TensorDreams

try:
    from skrl.envs.wrappers.torch import Wrapper
    from skrl.utils.spaces.torch import flatten_tensorized_space
except ImportError as error:
    raise ImportError('dream_env.adapters.skrl needs skrl: pip install -c constraints.txt -e ".[skrl]"') from error


class SkrlDreams(Wrapper):
    """`TensorDreams` as an environment of skrl (Serrano-Munoz et al. 2023), for its agents and trainers.

    Observations are one flat vector, as skrl stores them; `skrl.utils.spaces.torch.unflatten_tensorized_space` with
    `observation_space` gives a model their parts again. An episode's end is told as a termination: after a truncation
    skrl looks for the value of the next observation, which here is the next episode's first.

    Args:
        num_envs: Number of dreams B.
        **kwargs: As in `TensorDreams`.

    Raises:
        ValueError: If an argument is not among the accepted ones.
    """

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        self.dreams = TensorDreams(num_envs, **kwargs)
        super().__init__(self.dreams)
        self._begun = False

    @property
    def observation_space(self) -> spaces.Space:
        """Space of one dream's observation."""
        return self.dreams.single_observation_space

    @property
    def action_space(self) -> spaces.Space:
        """Space of one dream's action."""
        return self.dreams.single_action_space

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        """Starts every dream anew, the first time only: later on each of them does so itself when it ends."""
        if not self._begun:
            self._obs, _ = self.dreams.reset()
            self._begun = True
        return flatten_tensorized_space(self._obs), {}

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Predicts one control step of every dream under actions `(B, A)`.

        Returns:
            Observations `(B, D)`; rewards, ends, and False for each dream, `(B, 1)`; and infos, of which trainers note
            the share of dreams whose condition holds, `episode/is_success`.
        """
        self._obs, reward, terminated, truncated, info = self.dreams.step(actions)
        ended = terminated | truncated
        ends, info["episode"] = ended[:, None], {"is_success": info["is_success"].float().mean()}
        return flatten_tensorized_space(self._obs), reward[:, None], ends, torch.zeros_like(ends), info

    def state(self) -> None:
        """Returns no state beside the observation."""

    def render(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draws every dream, `(B, H, W, 3)` uint8, as its first camera sees it."""
        return self.dreams.model.decode(self.dreams.state)[self.dreams.engine.spec.pictures[0]]

    def close(self) -> None:
        """Releases nothing: the dreams go with their last reference."""
