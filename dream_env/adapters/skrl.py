"""Batched dreams for skrl, whose agents (PPO, SAC, TD3, ...) train entirely on one device such as a GPU."""

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
    """Wraps `TensorDreams` as an environment of skrl (Serrano-Munoz et al. 2023), for its agents and trainers.

    Observations are flat vectors, as skrl stores them. In a model,
    `skrl.utils.spaces.torch.unflatten_tensorized_space` with `observation_space` restores their parts. Every end of an
    episode is reported as a termination: at a truncation skrl would bootstrap from the next observation, which here
    already belongs to the next episode.

    Args:
        num_envs: Number of dreams B.
        **kwargs: As in `TensorDreams`.

    Raises:
        ValueError: If an argument is not accepted.
    """

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        self.dreams = TensorDreams(num_envs, **kwargs)
        super().__init__(self.dreams)
        self._begun = False

    @property
    def observation_space(self) -> spaces.Space:
        """Observation space of one dream."""
        return self.dreams.single_observation_space

    @property
    def action_space(self) -> spaces.Space:
        """Action space of one dream."""
        return self.dreams.single_action_space

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        """Resets all dreams on the first call; later calls return the current observations, as ended dreams reset."""
        if not self._begun:
            self._obs, _ = self.dreams.reset()
            self._begun = True
        return flatten_tensorized_space(self._obs), {}

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Predicts one control step of every dream.

        Args:
            actions: Actions, `(B, A)`.

        Returns:
            Observations `(B, D)`; rewards, terminated (True at every end of an episode) and truncated (always False),
            `(B, 1)` each; and infos. Trainers log `episode/is_success`, the share of dreams with `is_success`, if the
            world model predicts success.
        """
        self._obs, reward, terminated, truncated, info = self.dreams.step(actions)
        ended = terminated | truncated
        ends, info["episode"] = ended[:, None], {}
        if "is_success" in info:
            info["episode"]["is_success"] = info["is_success"].float().mean()
        return flatten_tensorized_space(self._obs), reward[:, None], ends, torch.zeros_like(ends), info

    def state(self) -> None:
        """Returns None: there is no state besides the observation."""

    def render(self, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the decoded images of the first camera of every dream, `(B, H, W, 3)` uint8."""
        spec = self.dreams.engine.spec
        if not spec.pictures:
            raise ValueError(f"render: {spec.name} was recorded without pictures; accepted: a world with some")
        return self.dreams.model.decode(self.dreams.state)[spec.pictures[0]]

    def close(self) -> None:
        """Does nothing: the dreams are freed with their last reference."""
