"""CartPole with pictures as observations: an environment with termination and episodes of different lengths."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import register
from PIL import Image, ImageDraw

ENV_ID = f"{__name__}:PictureCartPole-v0"
"""Gymnasium id, with the module that `gymnasium.make` has to import."""
SIDE = 64
"""Side of a picture in pixels."""
_FINE = 4
"""Factor by which pictures are drawn larger and then downscaled, so that motion of less than a pixel is visible."""
_HALF_TRACK, _POLE = 2.4, 2.0
"""Half the width of the view, and the length at which the pole is drawn (m)."""


class PictureObservation(gym.ObservationWrapper):
    """Replaces the observation of CartPole with a picture, `(64, 64, 3)` uint8; needs no window and no pygame.

    Args:
        env: `CartPole-v1`.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)

    def observation(self, observation: Any) -> np.ndarray:
        """Draws the cart's position (m) and the pole's angle (rad), the first and third entries of the observation."""
        size = SIDE * _FINE
        scale, ground = size / (2 * _HALF_TRACK), 0.85 * size
        x, angle = size / 2 + scale * float(observation[0]), float(observation[2])
        image = Image.new("RGB", (size, size), (235, 240, 245))
        draw = ImageDraw.Draw(image)
        draw.line((0, ground, size, ground), (120, 120, 120), _FINE)
        draw.rectangle((x - 6 * _FINE, ground - 4 * _FINE, x + 6 * _FINE, ground + 4 * _FINE), (40, 60, 110))
        tip = (x + scale * _POLE * np.sin(angle), ground - scale * _POLE * np.cos(angle))
        draw.line((x, ground, *tip), (200, 90, 30), 3 * _FINE)
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def make(**kwargs: Any) -> gym.Env:
    """Creates the environment; takes the arguments of CartPole."""
    return PictureObservation(gym.make("CartPole-v1", **kwargs).unwrapped)


register(ENV_ID.split(":")[1], entry_point=f"{__name__}:make", max_episode_steps=500)
