"""CarRacing that renders only the returned pictures: `gymnasium.make("MODULE:CarRacingSkip-v3", frame_skip=4)`.

Rendering takes nine tenths of an environment's step, and a wrapper that repeats actions discards most pictures.
Observations and rewards are the same as those of `CarRacing-v3` with repeated actions.
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
    """CarRacing that repeats each action and renders only the last frame, see the module.

    Args:
        frame_skip: Frames for which an action is repeated; rewards are summed.
        **options: Options of `CarRacing`.

    Raises:
        ValueError: If `frame_skip` is not positive.
    """

    def __init__(self, frame_skip: int = SKIP, **options: Any) -> None:
        if frame_skip < 1:
            raise ValueError(f"frame_skip={frame_skip}; accepted: at least 1")
        super().__init__(**options)
        self.frame_skip, self._seen = frame_skip, True

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Repeats the action, and renders the last frame."""
        if action is None:  # `reset` calls `step(None)`
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
