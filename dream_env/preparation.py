"""What is done to an environment before it is recorded: frames skipped, a picture chosen, cropped and resized.

The spec of recorded episodes keeps it, so that whatever was learned from them meets the same environment again.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from PIL import Image

from dream_env.spec import WorldSpec, is_picture


@dataclass(frozen=True)
class Preparation:
    """How an environment is made and shown.

    Attributes:
        options: Arguments of `gymnasium.make`, name and value.
        part: The one part of a `Dict` observation that is shown; None for all.
        crop: Rows and columns cut off every picture: top, bottom, left, right.
        size: Side to which pictures are resized then; None leaves them.
        skip: Steps of the environment for which an action is repeated; rewards are added up.

    Raises:
        ValueError: If a number is out of range.
    """

    options: tuple[tuple[str, Any], ...] = ()
    part: str | None = None
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    size: int | None = None
    skip: int = 1

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.skip < 1:
            raise ValueError(f"skip={self.skip}; accepted: at least 1")
        if self.size is not None and self.size < 8:
            raise ValueError(f"size={self.size}; accepted: at least 8")
        if len(self.crop) != 4 or min(self.crop) < 0:
            raise ValueError(f"crop={self.crop}; accepted: top, bottom, left and right, 0 or more each")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Preparation:
        """Makes one of what a spec holds.

        Raises:
            ValueError: If it holds something else.
        """
        try:
            given: dict[str, Any] = {k: tuple(value) if k == "crop" else value for k, value in values.items()}
            given["options"] = tuple(dict(given.get("options", {})).items())
            return cls(**given)
        except TypeError as error:
            raise ValueError(f"preparation={dict(values)}: {error}; accepted: what a spec's file holds") from error

    def to_json(self) -> dict[str, Any]:
        """Returns what differs from an environment as it is, as what JSON can hold."""
        found: dict[str, Any] = {"options": dict(self.options), "part": self.part, "crop": [*self.crop]}
        found |= {"size": self.size, "skip": self.skip}
        return {name: value for name, value in found.items() if value not in ({}, None, [0, 0, 0, 0], 1)}


def parse_options(text: str) -> tuple[tuple[str, Any], ...]:
    """Parses "frame_skip=4,continuous=False" to names and values.

    Raises:
        ValueError: If it is not of this form.
    """
    result = []
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not (equals and name.strip().isidentifier()):
            raise ValueError(f"env_options={text!r}; accepted: NAME=VALUE, several joined by commas")
        try:
            result.append((name.strip(), ast.literal_eval(value.strip())))
        except (ValueError, SyntaxError):  # a word
            result.append((name.strip(), value.strip()))
    return tuple(result)


def make(name: str, preparation: Preparation | None = None, **options: Any) -> gym.Env:
    """Makes an environment and prepares it; no window is opened.

    Args:
        name: Its id, MODULE:ID where a module registers it.
        preparation: What is done to it; None for nothing.
        **options: Further arguments of `gymnasium.make`.

    Raises:
        ValueError: If there is no such environment, or it cannot be prepared so.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame's environments ask for a display without it
    preparation = preparation or Preparation()
    try:
        env = gym.make(name, **dict(preparation.options), **options)
    except (gym.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"env={name!r} cannot be made: {' '.join(str(error).split())}") from error
    try:
        if preparation.skip > 1:
            env = Skip(env, preparation.skip)
        if preparation.part is not None or preparation.size is not None or any(preparation.crop):
            env = Pictures(env, preparation.part, preparation.crop, preparation.size)
    except ValueError as error:
        raise ValueError(f"env={name!r}: {error}") from error
    return env


def make_of(spec: WorldSpec, **options: Any) -> gym.Env:
    """Makes the environment that episodes of a spec were recorded in; one without a time limit gets the spec's.

    Raises:
        ValueError: If there is no such environment.
    """
    env = make(spec.name, Preparation.of(spec.preparation), **options)
    unlimited = env.spec is None or env.spec.max_episode_steps is None
    return gym.wrappers.TimeLimit(env, spec.horizon) if unlimited and spec.horizon else env


def steps(limit: int | None, preparation: Preparation) -> int | None:
    """Returns the time limit of a prepared environment, of one that has a limit itself."""
    return limit if limit is None else ceil(limit / preparation.skip)


class Skip(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats every action, and adds up the rewards.

    Args:
        env: Any environment.
        count: Steps for each action.
    """

    def __init__(self, env: gym.Env, count: int) -> None:
        super().__init__(env)
        self.count = count

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Takes the steps, fewer where the episode ends."""
        total = 0.0
        for _ in range(self.count):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class Pictures(gym.ObservationWrapper[Any, Any, Any]):
    """Crops and resizes the pictures of observations.

    Args:
        env: Observations are a picture, or a flat `Dict` with some.
        part: The one part of a `Dict` that is shown, bare; None for all.
        crop: Rows and columns cut off: top, bottom, left, right.
        size: Side of the result; None leaves what is left.

    Raises:
        ValueError: If there is no such part, no picture, or nothing is left of it.
    """

    def __init__(
        self, env: gym.Env, part: str | None = None, crop: tuple[int, int, int, int] = (0, 0, 0, 0), size: Any = None
    ) -> None:
        super().__init__(env)
        space, self.part, self.crop, self.size = env.observation_space, part, crop, size
        if part is not None:
            if not isinstance(space, spaces.Dict) or part not in space.spaces:
                parts = sorted(space.spaces) if isinstance(space, spaces.Dict) else "none, as there is one part only"
                raise ValueError(f"part={part!r} is not in observations of {space}; accepted: {parts}")
            space = space[part]
        found = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        shown = {name: self._shown(each) for name, each in found.items()}
        if (size is not None or any(crop)) and not any(is_picture(each) for each in found.values()):
            raise ValueError(f"crop={crop}, size={size}: observations of {space} have no picture; accepted: pictures "
                             "(uint8 Box of shape (H, W, 3))")  # fmt: skip
        self.observation_space = spaces.Dict(shown) if isinstance(space, spaces.Dict) else shown[""]

    def observation(self, observation: Any) -> Any:
        """Returns an observation, its pictures cropped and resized."""
        seen = observation if self.part is None else observation[self.part]
        if isinstance(seen, Mapping):
            return {name: self._prepared(np.asarray(each)) for name, each in seen.items()}
        return self._prepared(np.asarray(seen))

    def _shown(self, space: spaces.Space) -> spaces.Space:
        if not is_picture(space):
            return space
        assert space.shape is not None
        (height, width), (top, bottom, left, right) = space.shape[:2], self.crop
        rows, columns = height - top - bottom, width - left - right
        if min(rows, columns) < 1:
            raise ValueError(f"crop={self.crop} leaves nothing of {height} x {width} pixels; accepted: less")
        return spaces.Box(0, 255, (self.size or rows, self.size or columns, 3), np.uint8)

    def _prepared(self, image: np.ndarray) -> np.ndarray:
        if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] != 3:
            return image
        (height, width), (top, bottom, left, right) = image.shape[:2], self.crop
        part = image[top : height - bottom, left : width - right]
        if self.size is None or part.shape[:2] == (self.size, self.size):
            return part.copy()
        # Bilinear with a support as wide as the reduction: small things are averaged, and not missed.
        return np.asarray(Image.fromarray(part).resize((self.size, self.size), Image.Resampling.BILINEAR))
