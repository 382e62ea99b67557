"""What is done to an environment before it is recorded: frames skipped, actions limited, pictures cropped and resized.

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

LISTS = ("crop", "low", "high")
"""Attributes of a preparation that are several numbers."""


@dataclass(frozen=True)
class Preparation:
    """How an environment is made and shown.

    Attributes:
        options: Arguments of `gymnasium.make`, name and value.
        part: The one part of a `Dict` observation that is shown; None for all.
        crop: Rows and columns cut off every picture: top, bottom, left, right.
        size: Side to which pictures are resized then; None leaves them.
        skip: Steps of the environment for which an action is repeated; rewards are added up.
        first: Steps after a reset that nobody sees, without action: an opening in which nothing can be learned.
        low: Lower bounds of the actions that are taken, if they are tighter than the environment's own.
        high: Upper ones.

    Raises:
        ValueError: If a number is out of range.
    """

    options: tuple[tuple[str, Any], ...] = ()
    part: str | None = None
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    size: int | None = None
    skip: int = 1
    first: int = 0
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.skip < 1:
            raise ValueError(f"skip={self.skip}; accepted: at least 1")
        if self.first < 0:
            raise ValueError(f"first={self.first} (--skip-first); accepted: 0 or more")
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
            given: dict[str, Any] = {k: tuple(value) if k in LISTS else value for k, value in values.items()}
            given["options"] = tuple(dict(given.get("options", {})).items())
            return cls(**given)
        except TypeError as error:
            raise ValueError(f"preparation={dict(values)}: {error}; accepted: what a spec's file holds") from error

    def to_json(self) -> dict[str, Any]:
        """Returns what differs from an environment as it is, as what JSON can hold."""
        found: dict[str, Any] = {"options": dict(self.options), "part": self.part, "crop": [*self.crop]}
        found |= {"size": self.size, "skip": self.skip, "first": self.first}
        found |= {name: bound and [*bound] for name, bound in (("low", self.low), ("high", self.high))}
        usual = {"options": {}, "crop": [0, 0, 0, 0], "skip": 1, "first": 0}
        return {name: value for name, value in found.items() if value != usual.get(name)}


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
        if preparation.first:
            limit = env.spec.max_episode_steps if env.spec else None
            if limit is not None and preparation.first >= limit:
                raise ValueError(
                    f"first={preparation.first} (--skip-first): its episodes end after {limit} steps; accepted: fewer"
                )
            env = SkipFirst(env, preparation.first)
        if preparation.low is not None or preparation.high is not None:
            env = Limited(env, preparation.low, preparation.high)
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
    return limit if limit is None else max(1, ceil((limit - preparation.first) / preparation.skip))


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


class SkipFirst(gym.Wrapper[Any, Any, Any, Any]):
    """Leaves out the first steps after a reset; no action, or the first of those that are discrete, is taken in them.

    Args:
        env: Any environment.
        count: Steps. An episode that ends within them is not left out.
    """

    def __init__(self, env: gym.Env, count: int) -> None:
        super().__init__(env)
        self.count, space = count, env.action_space
        if isinstance(space, spaces.Discrete):
            self.idle: Any = np.int64(space.start)
        elif isinstance(space, spaces.Box):
            self.idle = np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)
        else:
            raise ValueError(f"first={count} with actions of {space}; accepted: a Box or discrete ones")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets, and takes the steps."""
        obs, info = self.env.reset(seed=seed, options=options)
        for _ in range(self.count):
            obs, _, terminated, truncated, info = self.env.step(self.idle)
            if terminated or truncated:
                return self.env.reset(options=options)
        return obs, info


class Limited(gym.Wrapper[Any, Any, Any, Any]):
    """Takes actions of tighter bounds, and no others: whatever acts at random, or learns, knows of these alone.

    Args:
        env: Its actions are in a `Box`.
        low: Lower bounds, one for each number of an action; None for the environment's own.
        high: Upper ones.

    Raises:
        ValueError: If bounds are not within those of the environment.
    """

    def __init__(self, env: gym.Env, low: tuple[float, ...] | None = None, high: Any = None) -> None:
        super().__init__(env)
        own = env.action_space
        if not isinstance(own, spaces.Box):
            raise ValueError(
                f"low={low}, high={high} (--action-low, --action-high): actions are {own}; accepted: None, as only "
                "those in a Box have bounds"
            )
        try:
            given = [np.asarray(old if new is None else new, own.dtype).reshape(own.shape)
                     for new, old in ((low, own.low), (high, own.high))]  # fmt: skip
        except ValueError:
            given = [own.high, own.low]
        if not (own.low <= given[0]).all() or not (given[0] < given[1]).all() or not (given[1] <= own.high).all():
            raise ValueError(
                f"low={low}, high={high} (--action-low, --action-high); accepted: for each of an action's "
                f"{own.shape[0] if own.shape else 1} numbers low below high, within {own}"
            )
        self.action_space = spaces.Box(given[0], given[1], own.shape, own.dtype.type)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Takes a step."""
        space: Any = self.action_space
        return self.env.step(np.clip(action, space.low, space.high))


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
