"""CarRacing that draws only the pictures that are seen: `gymnasium.make("MODULE:CarRacingSkip-v3", frame_skip=4)`.

Drawing takes nine tenths of an environment's step, and a wrapper that repeats actions throws most pictures away. What
is seen and paid is what `CarRacing-v3` shows and pays when each action is repeated.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.envs.box2d.car_racing import CarRacing

FRAMES = 1000
"""Frames of an episode of `CarRacing-v3`."""
SKIP = 4
"""Frames of a step by default."""


class SkippingCarRacing(CarRacing):
    """See the module.

    Args:
        frame_skip: Frames for which an action is repeated; rewards are added up.
        **options: Of `CarRacing`.

    Raises:
        ValueError: If `frame_skip` is not positive.
    """

    def __init__(self, frame_skip: int = SKIP, **options: Any) -> None:
        if frame_skip < 1:
            raise ValueError(f"frame_skip={frame_skip}; accepted: at least 1")
        super().__init__(**options)
        self.frame_skip, self._seen = frame_skip, True

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Repeats the action, and draws the last frame."""
        if action is None:  # `reset` does so
            return super().step(action)  # type: ignore[arg-type]
        total, ended, count = 0.0, False, 0
        while count < self.frame_skip and not ended:
            count += 1
            self._seen = count == self.frame_skip
            obs, reward, terminated, truncated, info = super().step(action)
            total, ended = total + float(reward), terminated or truncated
        if not self._seen:
            self._seen = True
            obs = self.state = self._render("state_pixels")
        return obs, total, terminated, truncated, info

    def _render(self, mode: str) -> Any:
        return super()._render(mode) if self._seen or mode != "state_pixels" else None


gym.register("CarRacingSkip-v3", entry_point=SkippingCarRacing, max_episode_steps=FRAMES // SKIP)
