"""Preprocessing of an environment: frame skip, tighter action bounds, cropped and resized images.

It is stored in the spec of recorded episodes, so that a model or policy trained on them is evaluated in the same
environment.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from PIL import Image

from dream_env.spec import WorldSpec, idle_action, is_picture, observe

LISTS = ("crop", "low", "high", "divided")
"""Attributes of `Preparation` that are tuples of numbers."""
LEAST_LARGEST = 64
"""Side length in pixels up to which also smaller images may be enlarged."""


@dataclass(frozen=True)
class Preparation:
    """Arguments and preprocessing of an environment.

    Attributes:
        options: Keyword arguments of `gymnasium.make`, as pairs of name and value (anything that JSON can store).
        part: Name of the only part of a `Dict` observation that is kept; None keeps all.
        crop: Rows and columns to cut off every image: top, bottom, left, right.
        size: Height and width in pixels to which images are resized after cropping; None for no resizing.
        skip: Number of environment steps for which each action is repeated; their rewards are summed.
        first: Number of steps to skip after a reset, with idle actions; for an opening in which nothing can be learned.
        low: Lower bounds of the actions, within the environment's own bounds; None for the latter.
        high: Upper bounds of the actions, in the same way.
        divided: Entries of the action of which each of the `skip` steps gets an equal part, such as displacements;
            their bounds are `skip` times as wide.

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
    divided: tuple[int, ...] = ()

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
        if self.divided and self.skip < 2:
            raise ValueError(f"divided={self.divided} with skip={self.skip}; accepted: none, or a skip of 2 or more")

    def __hash__(self) -> int:
        """Returns a hash of all but the values of options, which may be lists and dicts."""
        shown = (self.part, self.crop, self.size, self.skip, self.first, self.low, self.high, self.divided)
        return hash((tuple(name for name, _ in self.options), shown))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Preparation:
        """Creates a preparation from the `preparation` of a spec.

        Raises:
            ValueError: If a key or a value is not accepted.
        """
        try:
            given: dict[str, Any] = {k: tuple(value) if k in LISTS else value for k, value in values.items()}
            given["options"] = tuple(dict(given.get("options", {})).items())
            return cls(**given)
        except TypeError as error:
            raise ValueError(f"preparation={dict(values)}: {error}; accepted: what a spec's file holds") from error

    def to_json(self) -> dict[str, Any]:
        """Returns the values that differ from the defaults, in a form that JSON can store."""
        found: dict[str, Any] = {"options": dict(self.options), "part": self.part, "crop": [*self.crop]}
        found |= {"size": self.size, "skip": self.skip, "first": self.first}
        found |= {name: bound and [*bound] for name, bound in (("low", self.low), ("high", self.high))}
        found["divided"] = [*self.divided]
        usual = {"options": {}, "crop": [0, 0, 0, 0], "skip": 1, "first": 0, "divided": []}
        return {name: value for name, value in found.items() if value != usual.get(name)}


def parse_options(text: str) -> tuple[tuple[str, Any], ...]:
    """Parses a text such as "frame_skip=4,continuous=False,size=[3,4]" into pairs of name and value.

    A value is JSON, which may hold commas, or else a Python literal or a word up to the next comma.

    Raises:
        ValueError: If it is not of this form.
    """
    result, rest = [], text
    while rest := rest.lstrip(", "):
        name, equals, rest = (part.strip() for part in rest.partition("="))
        if not (equals and name.isidentifier()):
            raise ValueError(
                f"env_options={text!r}; accepted: NAME=VALUE, several joined by commas; VALUE is a word, or JSON such "
                'as 3, [3,4] or {"a": 1}'
            )
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
            whole = not rest[end:].lstrip() or rest[end:].lstrip().startswith(",")
        except ValueError:
            whole = False
        if not whole:
            end = (rest + ",").index(",")
            value = _literal(rest[:end].strip())
        result.append((name, value))
        rest = rest[end:]
    return tuple(result)


def _literal(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):  # a plain word is a string
        return word


def make(name: str, preparation: Preparation | None = None, **options: Any) -> gym.Env:
    """Creates an environment and applies a preparation; no window is opened.

    Args:
        name: Environment id, or MODULE:ID if a module has to be imported to register it.
        preparation: The preparation; None for none.
        **options: Further arguments of `gymnasium.make`.

    Raises:
        ValueError: If the environment cannot be created, or the preparation does not fit it.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # otherwise pygame's environments need a display
    preparation = preparation or Preparation()
    try:
        env = gym.make(name, **dict(preparation.options), **options)
    except (gym.error.Error, ImportError, TypeError) as error:
        raise ValueError(f"env={name!r} cannot be made: {' '.join(str(error).split())}") from error
    own = env
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
            env = Skip(env, preparation.skip, preparation.divided)
        if preparation.part is not None or preparation.size is not None or any(preparation.crop):
            env = Pictures(env, preparation.part, preparation.crop, preparation.size)
    except ValueError as error:
        own.close()
        raise ValueError(f"env={name!r}: {error}") from error
    return env


def make_of(spec: WorldSpec, **options: Any) -> gym.Env:
    """Creates the environment in which the episodes of a spec were recorded.

    If it has no time limit of its own, that of the spec is applied.

    Raises:
        ValueError: If the environment cannot be created.
    """
    env = make(spec.name, Preparation.of(spec.preparation), **options)
    unlimited = env.spec is None or env.spec.max_episode_steps is None
    return gym.wrappers.TimeLimit(env, spec.horizon) if unlimited and spec.horizon else env


def steps(limit: int | None, preparation: Preparation) -> int | None:
    """Returns the time limit after preparation, given that of the unprepared environment; None for no limit."""
    return limit if limit is None else max(1, ceil((limit - preparation.first) / preparation.skip))


def parts_of(space: spaces.Space, count: int, divided: tuple[int, ...]) -> np.ndarray:
    """Returns by how much each entry of an action `(n,)` is divided: `count` for the entries `divided`, else 1.

    Raises:
        ValueError: If the actions are not a vector, or have no such entry.
    """
    size = space.shape[0] if isinstance(space, spaces.Box) and space.shape else 0
    if any(not 0 <= entry < size for entry in divided):
        few = f"entries from 0 to {size - 1}" if size else "none, as they are no vector"
        raise ValueError(f"divided={divided} of actions of {space}; accepted: {few}")
    return np.where(np.isin(np.arange(size), divided), np.float32(count), np.float32(1))


def scaled(space: spaces.Space, parts: np.ndarray) -> spaces.Box:
    """Returns an action space `(n,)` with bounds that are `parts` `(n,)` times as wide."""
    assert isinstance(space, spaces.Box) and space.dtype is not None
    return spaces.Box(space.low * parts, space.high * parts, space.shape, space.dtype.type)


class Skip(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats every action and sums the rewards (frame skip).

    Args:
        env: Any environment.
        count: Environment steps per action.
        divided: Entries of the action of which each of these steps gets an equal part, see `Preparation`.

    Raises:
        ValueError: If an action has no such entry.
    """

    def __init__(self, env: gym.Env, count: int, divided: tuple[int, ...] = ()) -> None:
        super().__init__(env)
        self.count, self.own, self.parts = count, env.action_space, None
        if divided:
            self.parts = parts_of(self.own, count, divided)
            self.action_space = scaled(self.own, self.parts)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Repeats the action; stops early if the episode ends."""
        total, own = 0.0, self.own
        if self.parts is not None:
            assert isinstance(own, spaces.Box)
            action = np.clip(action / self.parts, own.low, own.high)
        for _ in range(self.count):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class SkipFirst(gym.Wrapper[Any, Any, Any, Any]):
    """Skips the first steps after a reset.

    The skipped steps use zeros, clipped to the action space, or the first action of a `Discrete`.

    Args:
        env: Any environment with `Box` or `Discrete` actions.
        count: Number of steps to skip. If the episode ends within them, it is reset again and nothing is skipped.
    """

    def __init__(self, env: gym.Env, count: int) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, spaces.Box | spaces.Discrete):
            raise ValueError(f"first={count} with actions of {space}; accepted: a Box or discrete ones")
        self.count, self.idle = count, idle_action(space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment and takes the skipped steps."""
        obs, info = self.env.reset(seed=seed, options=options)
        for _ in range(self.count):
            obs, _, terminated, truncated, info = self.env.step(self.idle)
            if terminated or truncated:
                return self.env.reset(options=options)
        return obs, info


class Limited(gym.Wrapper[Any, Any, Any, Any]):
    """Narrows the action space; actions are clipped to it.

    Random and learned policies then only use actions within the narrower bounds.

    Args:
        env: Environment with a `Box` action space.
        low: Lower bounds, one per action dimension; None for the environment's own.
        high: Upper bounds, in the same way.

    Raises:
        ValueError: If the bounds are not within those of the environment.
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
        """Clips the action and steps the environment."""
        space: Any = self.action_space
        return self.env.step(np.clip(action, space.low, space.high))


class Pictures(gym.ObservationWrapper[Any, Any, Any]):
    """Crops and resizes the images in observations, and in the goal if the environment has one.

    Args:
        env: Environment whose observation is an image, or a flat `Dict` with images. It may have the attributes
            `goal_observation` (a dict) and `goal_image`.
        part: Part of a `Dict` that becomes the whole observation; None keeps all parts.
        crop: Rows and columns to cut off: top, bottom, left, right.
        size: Height and width of the result in pixels; None for no resizing.

    Raises:
        ValueError: If the part does not exist, there is no image, cropping leaves nothing of it, or `size` is larger
            than the largest image and than `LEAST_LARGEST`.
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
        sides = [side for each in found.values() if is_picture(each) for side in (each.shape or ())[:2]]
        largest = max([LEAST_LARGEST, *sides])
        if size is not None and size > largest:
            raise ValueError(f"size={size} is larger than the pictures; accepted: 8 to {largest}")
        self.observation_space = spaces.Dict(shown) if isinstance(space, spaces.Dict) else shown[""]

    def observation(self, observation: Any) -> Any:
        """Returns the observation with cropped and resized images."""
        kept = observation if self.part is None else observation[self.part]
        if isinstance(kept, Mapping):
            return {name: self._prepared(np.asarray(each)) for name, each in kept.items()}
        return self._prepared(np.asarray(kept))

    @property
    def goal_observation(self) -> dict[str, np.ndarray]:
        """The environment's `goal_observation`, prepared as its observations."""
        goal = self.env.get_wrapper_attr("goal_observation")
        if self.part is not None and self.part not in goal:
            raise ValueError(f"part={self.part!r} is not in goal_observation; accepted: {sorted(goal)}")
        return observe(self.observation(goal))

    @property
    def goal_image(self) -> np.ndarray:
        """The environment's `goal_image`, prepared as the images of observations."""
        return self._prepared(np.asarray(self.env.get_wrapper_attr("goal_image")))

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
        # Pillow's bilinear filter widens with the reduction factor, so that small objects are averaged and not lost.
        return np.asarray(Image.fromarray(part).resize((self.size, self.size), Image.Resampling.BILINEAR))
