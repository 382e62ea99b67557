"""The `WorldSpec`: spaces, time limit, control rate, instructions and goals of an environment (a "world")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from dream_env.checks import check_count
from dream_env.files import replacing

PICTURE, VECTOR = "pixels", "state"
"""Names given to an observation that is a single image or vector instead of a dict."""
ACCEPTED = "a float vector (Box of shape (n,)), a picture (uint8 Box of shape (H, W, 3)), or a flat Dict of these"


@dataclass(frozen=True)
class WorldSpec:
    """Properties that a dataset, a world model and an environment must share.

    Attributes:
        name: Id of the environment, or name of the robot.
        observation: Observation space, a flat `Dict` of boxes: images `(H, W, 3)` uint8 and vectors `(n,)` float32.
        action: Action space, a `Box` vector or `Discrete`.
        horizon: Control steps after which an episode is truncated; None for no limit.
        control_hz: Control steps per second; None if steps do not correspond to real time.
        hold_steps: Number of consecutive control steps for which the success condition must hold to count as success.
        instructions: Whether episodes have a language instruction.
        goals: Whether episodes have an observation of their goal.
        names: Names, with units, of the elements of a vector (by its name) or of the action (under "action").
        preparation: Preprocessing of the environment before recording, see `dream_env.preparation`.
        unknown_words: Whether instructions have words that `dream_env.language` does not know, which then get random
            vectors; otherwise such words are ignored.
        single_key: Whether the environment's observation is a dict whose only key is "pixels" or "state", the names
            that an observation without names gets here.

    Raises:
        ValueError: If a space or a number is not of the accepted kind.
    """

    name: str
    observation: spaces.Dict
    action: spaces.Box | spaces.Discrete
    horizon: int | None = None
    control_hz: float | None = None
    hold_steps: int = 1
    instructions: bool = False
    goals: bool = False
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    preparation: Mapping[str, Any] = field(default_factory=dict)
    unknown_words: bool = False
    single_key: bool = False

    def __post_init__(self) -> None:
        """Checks the spaces and the numbers."""
        for name, space in self.observation.spaces.items():
            if not (is_picture(space) or _is_vector(space)):
                raise ValueError(f"observation {name!r} is {space}; accepted: {ACCEPTED}; {_helps(space)}")
        if not (_is_vector(self.action) or isinstance(self.action, spaces.Discrete)):
            raise ValueError(f"action is {self.action}; accepted: a float vector (Box of shape (n,)) or Discrete")
        if self.horizon is not None:
            check_count("horizon", self.horizon, beside="None, ")
        check_count("hold_steps", self.hold_steps)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of the images in an observation."""
        return tuple(name for name, space in self.observation.spaces.items() if is_picture(space))

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors in an observation."""
        return tuple(name for name, space in self.observation.spaces.items() if _is_vector(space))

    @property
    def shapes(self) -> dict[str, tuple[int, ...] | None]:
        """Shapes of the observations by name, and of "action"; specs of the same world agree in them."""
        spaces_ = {**self.observation.spaces, "action": self.action}
        return {name: space.shape for name, space in spaces_.items()}

    @classmethod
    def of_env(cls, env: gym.Env, **known: Any) -> WorldSpec:
        """Creates the spec of a Gymnasium environment.

        Args:
            env: Environment whose observations `observe` accepts.
            **known: Attributes that replace or add to those found in the environment, such as `control_hz`.

        Raises:
            ValueError: If a space is not of an accepted kind.
        """
        space = env.observation_space
        parts = space.spaces if isinstance(space, spaces.Dict) else {_single(space): space}
        if not isinstance(env.action_space, spaces.Box | spaces.Discrete):
            raise ValueError(f"action space is {env.action_space}; accepted: a Box vector or Discrete")
        limit = env.spec.max_episode_steps if env.spec is not None else None
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        found: dict[str, Any] = {"name": name, "horizon": limit, "control_hz": env.metadata.get("render_fps")}
        found["single_key"] = isinstance(space, spaces.Dict) and tuple(parts) in ((PICTURE,), (VECTOR,))
        return cls(
            observation=spaces.Dict(dict(parts)),
            action=env.action_space,
            **(found | known),
        )

    # --- files

    def to_json(self) -> dict[str, Any]:
        """Returns the spec in a form that JSON can store."""
        return {
            "name": self.name,
            "observation": {name: space_to_json(space) for name, space in self.observation.spaces.items()},
            "action": space_to_json(self.action),
            "horizon": self.horizon,
            "control_hz": self.control_hz,
            "hold_steps": self.hold_steps,
            "instructions": self.instructions,
            "goals": self.goals,
            "names": {name: list(each) for name, each in self.names.items()},
            **({"preparation": dict(self.preparation)} if self.preparation else {}),
            **({"unknown_words": True} if self.unknown_words else {}),
            **({"single_key": True} if self.single_key else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WorldSpec:
        """Creates a spec from the result of `to_json`.

        Raises:
            ValueError: If a field is missing, unknown, or not of the accepted kind.
        """
        try:
            given = dict(values)
            given["observation"] = spaces.Dict({k: space_from_json(v) for k, v in given["observation"].items()})
            given["action"] = space_from_json(given["action"])
            given["names"] = {name: tuple(each) for name, each in given.get("names", {}).items()}
            return cls(**given)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"this is no world spec ({error!r}); accepted: what `WorldSpec.to_json` gives") from error

    def save(self, path: str | Path) -> None:
        """Writes the spec as a JSON file."""
        with replacing(path) as part:
            part.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> WorldSpec:
        """Reads a JSON file written by `save`.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If it is damaged.
        """
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def observe(observation: Any) -> dict[str, np.ndarray]:
    """Converts an environment's observation to the form of a `WorldSpec`: a flat dict of arrays."""
    if isinstance(observation, Mapping):
        return {name: np.asarray(value) for name, value in observation.items()}
    array = np.asarray(observation)
    return {PICTURE if array.ndim == 3 else VECTOR: array}


def success_of(info: Mapping[str, Any]) -> Any:
    """Returns `info["is_success"]`, or `info["success"]` (Meta-World's name); None if `info` has neither."""
    return info.get("is_success", info.get("success"))


def _single(space: spaces.Space) -> str:
    """Returns the name given to an observation that is not a dict."""
    return PICTURE if is_picture(space) else VECTOR


def is_picture(space: spaces.Space | None) -> bool:
    """Returns whether a space is one of images, uint8 `(H, W, 3)`."""
    if space is None:
        return False
    shape = space.shape or ()
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3


def _is_vector(space: spaces.Space) -> bool:
    floats = space.dtype is not None and np.issubdtype(space.dtype, np.floating)
    return isinstance(space, spaces.Box) and floats and len(space.shape or ()) == 1


def _helps(space: spaces.Space) -> str:
    """Returns which wrapper turns a space that is not accepted into one that is."""
    shape, wrappers = space.shape or (), "gymnasium.wrappers"
    if space.dtype == np.uint8 and shape[2:] == (1,):
        return f"{wrappers}.TransformObservation can make colors of gray: numpy.repeat(picture, 3, axis=-1)"
    if isinstance(space, spaces.Box) and len(shape) == 1:
        return f"{wrappers}.DtypeObservation(env, numpy.float32) makes floats of integers"
    return f"{wrappers}.FlattenObservation makes one vector of it; then DtypeObservation(env, numpy.float32)"


def idle_action(space: spaces.Box | spaces.Discrete) -> Any:
    """Returns the action that stands for none: zeros, clipped to the space, or the first action of a `Discrete`."""
    if isinstance(space, spaces.Discrete):
        return np.int64(space.start)
    return np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """Returns a space in a form that JSON can store; infinite bounds become None."""
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    assert isinstance(space, spaces.Box) and space.shape is not None and space.dtype is not None
    bounds = {"low": space.low, "high": space.high}
    return {"type": "Box", "shape": list(space.shape), "dtype": space.dtype.name} | {
        name: _finite(bound.flat[0]) if (bound == bound.flat[0]).all() else [_finite(x) for x in bound.ravel()]
        for name, bound in bounds.items()
    }


def _finite(bound: Any) -> float | None:
    return float(bound) if np.isfinite(bound) else None


def space_from_json(values: Mapping[str, Any]) -> spaces.Box | spaces.Discrete:
    """Creates a space from the result of `space_to_json`.

    Raises:
        ValueError: If it is neither a "Box" nor a "Discrete", or has more than 1e8 elements.
    """
    if values["type"] == "Discrete":
        return spaces.Discrete(int(values["n"]), start=int(values.get("start", 0)))
    shape = tuple(int(n) for n in values["shape"])
    if values["type"] != "Box" or min(shape, default=1) < 1 or np.prod(shape, dtype=float) > 1e8:
        raise ValueError(f"a space is {dict(values)}; accepted: a Box of at most 1e8 numbers, or Discrete")
    dtype = np.dtype(values["dtype"])

    def bound(value: Any, none: float) -> np.ndarray:
        numbers = [none if x is None else x for x in (value if isinstance(value, list) else [value])]
        return np.broadcast_to(
            np.array(numbers, dtype).reshape(shape if len(numbers) > 1 else (1,) * len(shape)), shape
        )

    return spaces.Box(bound(values["low"], -np.inf), bound(values["high"], np.inf), shape, dtype.type)
