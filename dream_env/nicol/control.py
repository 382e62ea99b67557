"""Position control: a wrapper for NICOL's dream and physics environments whose actions are absolute set-points."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from dream_env.checks import check_action
from dream_env.nicol.constants import to_delta


class PositionControl(gym.Wrapper[Any, np.ndarray, Any, np.ndarray], gym.utils.RecordConstructorArgs):
    """Takes the desired set-point as the action, `(4,)` or `(8,)` in [-1, 1], and moves towards it by at most one step.

    Args:
        env: NICOL's dream or physics environment. Its observations must contain `proprio`, the set-point; in the
            goal-env form, `observation` must begin with it.

    Raises:
        ValueError: If the observations do not contain the set-point.
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        names = env.observation_space.spaces if isinstance(env.observation_space, gym.spaces.Dict) else {}
        self._name = next((name for name in ("proprio", "observation") if name in names), "")
        if not self._name:
            raise ValueError(f"env {env} shows {[*names] or env.observation_space}; accepted: an env with 'proprio'")
        self._proprio: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._proprio = self._set_point(obs)
        return obs, info

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Moves the set-point towards the one given by the action.

        Raises:
            ValueError: If the shape of the action is not that of the set-point, or the action is not finite.
            ResetNeeded: If called before the first reset.
        """
        goal = check_action(action, self.action_space)
        if self._proprio is None:
            raise gym.error.ResetNeeded("step() before reset(); call reset() first")
        obs, reward, terminated, truncated, info = self.env.step(to_delta("position", self._proprio, goal))
        self._proprio = self._set_point(obs)
        return obs, reward, terminated, truncated, info

    def _set_point(self, obs: Any) -> np.ndarray:
        assert self.action_space.shape is not None
        return np.array(obs[self._name][: self.action_space.shape[0]])
