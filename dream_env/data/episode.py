"""One recorded episode of any robot or environment, and its checks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from dream_env.spec import WorldSpec

UNKNOWN = "unknown"
"""Kind and task of episodes if the dataset does not contain them."""


@dataclass
class Episode:
    """One episode of T >= 1 actions and T + 1 frames.

    Attributes:
        observation: Frames by observation name: images `(T + 1, H, W, 3)` uint8, vectors `(T + 1, n)` float32.
        action: Executed actions, `(T, n)` float32, or `(T,)` int64 for discrete actions.
        reward: Reward of every action, `(T,)` float32; None if unknown.
        terminated: Whether the last frame is a terminal state; False for a truncated episode.
        success: Whether the task is solved in each frame, `(T + 1,)` bool; None if unknown.
        instruction: Language instruction, or "".
        goal: Goal by observation name, `(H, W, 3)` or `(n,)`; None without goals.
        labels: Simulator labels by name, `(T + 1,)` or `(T + 1, ...)` floats. A label of length T is padded with 0.
        seed: Unique id of the episode within a dataset.
        kind: Policy that acted, such as "random".
        task: Task name.

    Raises:
        ValueError: If an array has the wrong length or type.
    """

    observation: dict[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray | None = None
    terminated: bool = False
    success: np.ndarray | None = None
    instruction: str = ""
    goal: dict[str, np.ndarray] | None = None
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    seed: int = 0
    kind: str = UNKNOWN
    task: str = UNKNOWN

    def __post_init__(self) -> None:
        """Converts the arrays to their types and checks their lengths."""
        self.action = np.asarray(self.action)
        self.action = _typed("action", self.action, np.int64 if self.action.ndim == 1 else np.float32)
        steps = len(self.action)
        if steps < 1:
            raise ValueError("action is empty; accepted: episodes of one action or more")
        self.observation = {
            name: _typed(name, value, np.uint8 if np.ndim(value) == 4 else np.float32)
            for name, value in self.observation.items()
        }
        labels = {name: _typed(name, value, np.float32) for name, value in self.labels.items()}
        for name, value in labels.items():
            value = value.reshape(len(value), -1) if value.ndim > 1 and value[0].size > 1 else value.reshape(-1)
            labels[name] = np.concatenate([value, np.zeros_like(value[:1])]) if len(value) == steps else value
        self.labels = labels
        if self.reward is not None:
            self.reward = _typed("reward", self.reward, np.float32)
        if self.success is not None:
            self.success = _typed("success", self.success, np.bool_)
        if self.goal is not None:
            self.goal = {
                name: _typed(f"goal {name}", value, np.uint8 if np.ndim(value) == 3 else np.float32)
                for name, value in self.goal.items()
            }
        frames: dict[str, Any] = {**self.observation, **self.labels, "success": self.success}
        lengths = {name: steps + 1 for name in frames} | {"reward": steps}
        for name, value in {**frames, "reward": self.reward}.items():
            if value is not None and len(value) != lengths[name]:
                raise ValueError(f"{name} has length {len(value)}; accepted: {lengths[name]} ({steps} actions)")

    def __len__(self) -> int:
        """Returns the number of actions T."""
        return len(self.action)

    def check(self, spec: WorldSpec) -> None:
        """Raises ValueError unless the episode conforms to `spec`."""
        if not re.fullmatch(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*", self.kind):  # a part of the names of files
            raise ValueError(f"kind={self.kind!r}; accepted: words of letters, digits, '_' and '.', joined by '-'")
        if (given := {*self.observation}) != {*spec.observation.spaces}:
            raise ValueError(f"observation has {sorted(given)}; accepted: {sorted(spec.observation.spaces)}")
        for name, space in spec.observation.spaces.items():
            check_values(name, self.observation[name], space)
        check_values("action", self.action, spec.action)
        if spec.goals != (self.goal is not None):
            raise ValueError(f"goal={self.goal and sorted(self.goal)}; accepted: one exactly if the spec has goals")
        for name, value in (self.goal or {}).items():
            if name not in spec.observation.spaces:
                raise ValueError(f"goal has {name!r}; accepted: {sorted(spec.observation.spaces)}")
            check_values(f"goal {name}", value[None], spec.observation[name])
        numbers: dict[str, Any] = {**self.labels, "reward": self.reward}
        for name, value in numbers.items():
            if value is not None and not np.isfinite(value).all():
                raise ValueError(f"{name} holds NaN or infinity; accepted: finite values")


def _typed(name: str, value: Any, dtype: type) -> np.ndarray:
    array = np.asarray(value)
    if not (np.can_cast(array.dtype, dtype, "same_kind") or (dtype is np.float32 and array.dtype.kind in "bui")):
        raise ValueError(f"{name} is {array.dtype} {array.shape}; accepted: {np.dtype(dtype)}")
    return array.astype(dtype, copy=False)


def check_values(name: str, values: np.ndarray, space: spaces.Space) -> None:
    """Raises ValueError unless all rows of `values` `(rows, ...)` are finite and within `space`."""
    shape: Any
    if isinstance(space, spaces.Discrete):
        shape, low, high = (), space.start, space.start + space.n - 1
    else:
        assert isinstance(space, spaces.Box)
        shape, low, high = space.shape, space.low, space.high
    if values.shape[1:] != shape:
        raise ValueError(f"{name} has the shape {values.shape[1:]}; accepted: {shape}")
    if values.dtype == np.uint8:
        return
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity; accepted: finite values")
    # Compare in the dtype of the values: rounding could otherwise put a value on a bound outside of it.
    low, high = (np.asarray(bound).astype(values.dtype) for bound in (low, high))
    if (values < low).any() or (values > high).any():
        raise ValueError(f"{name} holds {values.min()} to {values.max()}; accepted: {low.min()} to {high.max()}")
