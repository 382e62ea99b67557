"""Names environment, seed and step where a real environment fails, so that the user can find and repeat it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class EnvError(ValueError):
    """An environment failed, or returned numbers that are not finite."""


class Guarded(gym.Wrapper[Any, Any, Any, Any]):
    """Raises `EnvError` with the name, the seed and the step where an environment raises an error or returns NaN.

    Args:
        env: Any environment.
        name: Its name in messages.
    """

    def __init__(self, env: gym.Env, name: str) -> None:
        super().__init__(env)
        self.name, self.steps = name, 0
        self.seed: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment."""
        self.seed, self.steps = seed, 0
        with self._named():
            obs, info = self.env.reset(seed=seed, options=options)
            self._check(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Steps the environment."""
        self.steps += 1
        with self._named():
            obs, reward, terminated, truncated, info = self.env.step(action)
            self._check(obs)
            if not np.isfinite(float(reward)):
                raise EnvError(f"reward={reward}; accepted: a finite number")
        return obs, reward, terminated, truncated, info

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except gym.error.ResetNeeded:
            raise
        except Exception as error:
            said = str(error) if isinstance(error, EnvError) else f"{type(error).__name__}: {error}"
            raise EnvError(f"env={self.name!r}, seed={self.seed}, step={self.steps}: {said}") from error

    def _check(self, obs: Any) -> None:
        space: Any = self.observation_space
        for name, part in (obs if isinstance(obs, Mapping) else {"observation": obs}).items():
            own = space[name] if isinstance(space, spaces.Dict) else space
            if not isinstance(own, spaces.Box) or own.dtype.kind != "f":
                continue
            # Infinity within finite bounds is clipped to them when it is recorded or encoded.
            if not np.isfinite(np.clip(np.asarray(part, own.dtype), own.low, own.high)).all():
                raise EnvError(f"{name} holds NaN or infinity; accepted: finite numbers")
