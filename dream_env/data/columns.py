"""Column names of a dataset, and how to derive a `WorldSpec` from a dataset that another tool wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from dream_env.spec import WorldSpec

ACTION, REWARD, SUCCESS, DONE, TERMINATED = "action", "next.reward", "next.success", "next.done", "next.terminated"
LABELS = "privileged."
"""Prefix of simulator labels: LeRobot uses columns `observation.*` as policy inputs and `action*` as policy outputs."""
HOLDS = f"{LABELS}success"
"""Column with the success in the frame itself; `next.success` is the success in the following frame."""

STILL = 1e-3
"""Width of the bounds of an element of the action that was never moved, if it is at most 1, else relative to it."""
SIDE = 256
"""Longest side, in pixels, of the pictures of other tools' datasets; see `longest_side`."""


@dataclass
class Columns:
    """Column names of a dataset by content.

    Attributes:
        observation: Maps the name of an observation to its column.
        goal: Maps the name of an observation to the column of its goal.
        labels: Maps the name of a label to its column.
    """

    observation: dict[str, str]
    goal: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def pairs(self) -> list[tuple[str, str]]:
        """Returns pairs of observation name and column, for observations and goals."""
        return [*self.observation.items(), *self.goal.items()]

    @classmethod
    def of_spec(cls, spec: WorldSpec, features: Mapping[str, Any]) -> Columns:
        """Returns the columns for the observations, goals and labels of a spec.

        If a spec has exactly one vector, its column is `observation.state` whatever its name, since LeRobot's policies
        read that column.

        Args:
            spec: Spec of the episodes.
            features: Features of the dataset; goals and labels are only included if they are among them.

        Raises:
            ValueError: If a name is not valid in a column, or two columns would have the same name.
        """
        observation, goal = {}, {}
        for name in spec.observation.spaces:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name.startswith("images."):
                raise ValueError(f"observation {name!r}: accepted: names of letters, digits, '_', '-' and '.'")
            if name in spec.pictures:
                observation[name] = f"observation.images.{name}"
                goal[name] = f"observation.images.goal_{name}"
            else:
                observation[name] = "observation.state" if spec.vectors == (name,) else f"observation.{name}"
                goal[name] = f"observation.goal_{name}"
        if spec.goals and (both := {*observation.values()} & {*goal.values()}):
            raise ValueError(f"the goal of an observation and an observation are both named {sorted(both)}; rename one")
        goal = {name: column for name, column in goal.items() if spec.goals and column in features}
        labels = {key.removeprefix(LABELS): key for key in features if key.startswith(LABELS) and key != HOLDS}
        return cls(observation, goal, labels)


def features(
    spec: WorldSpec, *, goal: tuple[str, ...] = (), reward: bool, success: bool, labels: Mapping[str, int]
) -> dict[str, dict]:
    """Returns the features of a frame in the form of LeRobot's info.json, without the index columns.

    Args:
        spec: Spec of the episodes.
        goal: Names of the observations that goals consist of.
        reward: Whether the episodes have rewards.
        success: Whether the episodes have success labels.
        labels: Maps the name of a label to its number of elements.
    """
    wanted = {
        column: spec.observation[name].shape
        for name in goal
        for column in [f"observation.{'images.' if name in spec.pictures else ''}goal_{name}"]
    }
    columns = Columns.of_spec(spec, wanted)
    shapes = {column: spec.observation[name].shape for name, column in columns.observation.items()}
    names = {column: spec.names.get(name) for name, column in columns.observation.items()}
    result = {}
    for column, shape in (shapes | wanted).items():
        assert shape is not None
        picture = {"dtype": "image", "shape": list(shape), "names": ["height", "width", "channels"]}
        result[column] = picture if len(shape) == 3 else _numbers("float32", shape[0], names.get(column))
    if isinstance(spec.action, spaces.Discrete):
        result[ACTION] = _numbers("int64", 1)
    else:
        result[ACTION] = _numbers("float32", spec.action.shape[0], spec.names.get(ACTION))
    result |= {f"{LABELS}{name}": _numbers("float32", size) for name, size in labels.items()}
    if reward:
        result[REWARD] = _numbers("float32", 1)
    if success:
        result |= {HOLDS: _numbers("float32", 1), SUCCESS: _numbers("bool", 1)}
    return result | {DONE: _numbers("bool", 1), TERMINATED: _numbers("bool", 1)}


def _numbers(dtype: str, size: int, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [size], "names": None if names is None else list(names)}


def derive(info: Mapping[str, Any], stats: Mapping[str, Any], instructions: bool) -> tuple[WorldSpec, Columns]:
    """Derives the spec and the columns of a dataset that another tool wrote.

    Images, and vectors among `observation.*`, become the observation, except `goal_NAME`, which becomes the goal of
    NAME. Images are reduced to `longest_side`. Depth maps and other columns are ignored. The bounds of the
    action are the smallest and largest recorded values.

    Args:
        info: Content of meta/info.json.
        stats: Statistics by column; of the action, at least `min` and `max`.
        instructions: Whether the episodes have instructions.

    Raises:
        ValueError: If it has no observation or no action.
    """
    found: dict[str, spaces.Space] = {}
    names: dict[str, tuple[str, ...]] = {}
    columns, features = Columns({}), info["features"]
    for column, feature in features.items():
        if 0 in feature["shape"]:  # LeRobot allows features without elements
            continue
        shape, name = tuple(feature["shape"]), column.removeprefix("observation.").removeprefix("images.")
        if feature["dtype"] in ("image", "video"):
            if _is_depth(feature):
                continue
            height, width, _ = stored_shape(feature)
            part = min(1.0, longest_side() / max(height, width))
            found[name] = spaces.Box(0, 255, (max(1, round(part * height)), max(1, round(part * width)), 3), np.uint8)
        elif column.startswith("observation.") and len(shape) == 1 and feature["dtype"] != "string":
            found[name] = spaces.Box(-np.inf, np.inf, shape, np.float32)
        else:
            continue
        columns.observation[name] = column
        if len(shape) == 1:
            names |= _names(name, feature)
    goals = [name for name in found if name.startswith("goal_") and name[5:] in found]
    for name in goals:
        columns.goal[name[5:]] = columns.observation.pop(name)
        del found[name]
    columns.labels = {key.removeprefix(LABELS): key for key in features if key.startswith(LABELS) and key != HOLDS}
    if not found or ACTION not in features:
        raise ValueError(f"it has the columns {', '.join(features)}; accepted: {ACTION!r}, and pictures or vectors")
    action = _action_space(features[ACTION], stats[ACTION])
    if isinstance(action, spaces.Box):
        names |= _names(ACTION, features[ACTION])
    spec = WorldSpec(
        name=str(info.get("robot_type") or "recorded"),
        observation=spaces.Dict(found),
        action=action,
        control_hz=float(info["fps"]),
        instructions=instructions,
        goals=bool(goals),
        names=names,
    )
    return spec, columns


def longest_side() -> int:
    """Returns the longest side that pictures may have, in pixels: `DREAM_ENV_PICTURE_SIDE`, or `SIDE`."""
    if given := os.environ.get("DREAM_ENV_PICTURE_SIDE"):
        if not given.isdecimal() or int(given) < 8:
            raise ValueError(f"DREAM_ENV_PICTURE_SIDE={given}; accepted: a whole number from 8 on")
        return int(given)
    return SIDE


def stored_shape(feature: Mapping[str, Any]) -> tuple[int, int, int]:
    """Returns the shape (H, W, 3) of the images of a feature, which may be stored with the channels first.

    Raises:
        ValueError: If it is not the shape of images.
    """
    shape = tuple(feature["shape"])
    if len(shape) not in (2, 3):
        raise ValueError(f"an {feature['dtype']} has the shape {shape}; accepted: (height, width, channels)")
    first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)
    height, width = shape[1:] if first else shape[:2]
    return height, width, 3


def _is_depth(feature: Mapping[str, Any]) -> bool:
    """Returns whether LeRobot marks a feature's images as depth maps."""
    about = feature.get("info") or feature.get("video_info") or {}
    return bool(about.get("is_depth_map") or about.get("video.is_depth_map"))


def _names(name: str, feature: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Returns the names of a vector's elements, by the vector's name; empty unless there is one for each element."""
    given = feature.get("names")
    if isinstance(given, dict) and len(given) == 1:  # {"motors": [...]}, as in data that were converted from v2
        (given,) = given.values()
    return {name: tuple(map(str, given))} if isinstance(given, list) and len(given) == feature["shape"][0] else {}


def _action_space(feature: Mapping[str, Any], stats: Mapping[str, Any]) -> spaces.Box | spaces.Discrete:
    """Returns the action space from the recorded minimum and maximum."""
    shape = tuple(feature["shape"])
    if len(shape) != 1:
        raise ValueError(f"{ACTION} has the shape {shape}; accepted: (n,)")
    low, high = (np.full(shape, stats[name], np.float32) for name in ("min", "max"))
    if feature["dtype"].startswith(("int", "uint")) and shape == (1,) and low[0] >= 0:
        return spaces.Discrete(int(high[0]) + 1)
    # An element that was never moved has no known effect, so that policies may hardly move it either.
    return spaces.Box(low, np.maximum(high, low + STILL * np.maximum(1, np.abs(low))), shape, np.float32)
