"""Runs the real environment next to a dream: from the same initial state, with the same actions, and with rewinding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from dream_env.agents.run.worlds import make_real
from dream_env.spec import WorldSpec, observe
from dream_env.wrappers import WorldModelWrapper

AUTO, NONE = "auto", "none"
ELSEWHERE = -1
"""Step of an environment that is in no moment of the episode."""


@dataclass(frozen=True)
class Seen:
    """Output of the real environment after one step.

    Attributes:
        step: Steps since the start of the episode.
        observation: Parts of the observation by the names in the world's spec.
        picture: Picture to show, `(H, W, 3)` uint8; None if the environment renders none.
        total: Sum of the rewards so far.
        reward: Reward of the step.
        ended: Whether the episode has terminated.
        info: The entries `is_success` and `distance` of `info`, where present.
        saved: State returned by the environment's `get_state`; None if it has no such method.
    """

    step: int
    observation: dict[str, np.ndarray]
    picture: np.ndarray | None
    total: float = 0.0
    reward: float = 0.0
    ended: bool = False
    info: dict[str, float] = field(default_factory=dict)
    saved: Any = None


class Twin:
    """A real environment that follows a dream.

    Args:
        env: Environment whose observations match the world's spec.
        spec: Spec of the world.
    """

    def __init__(self, env: gym.Env, spec: WorldSpec) -> None:
        self.env, self.spec = env, spec
        self.name = env.spec.id if env.spec else type(env.unwrapped).__name__
        self._step = 0
        self._begun: dict[str, Any] = {}
        self._tape: list[Any] = []
        self._first: dict[str, np.ndarray] = {}

    @classmethod
    def of(cls, real: str, world_model: str, spec: WorldSpec) -> Twin | None:
        """Creates the real environment that a name stands for.

        Args:
            real: A Gymnasium id; `NONE`; or `AUTO` for the environment that the world model was fitted to, if it can
                be created.
            world_model: Name or folder of the world model.
            spec: Spec of the world model.

        Returns:
            The twin; None for `NONE`, or if `AUTO` cannot create the environment.

        Raises:
            ValueError: If a named environment cannot be created or does not match the world model.
        """
        if real == NONE:
            return None
        name = spec.name if real == AUTO else real
        try:
            return cls(cls._make(name, world_model, spec), spec)
        except (ValueError, ImportError) as error:
            if real != AUTO:
                raise ValueError(f"real={real!r}: {error}") from error
            return None

    @staticmethod
    def _make(name: str, world_model: str, spec: WorldSpec) -> gym.Env:
        try:
            drawn: dict[str, Any] = {} if spec.pictures else {"render_mode": "rgb_array"}
            env = make_real(name, world_model, obs_type="native", **drawn)
        except ValueError:  # it cannot draw itself; its curves are shown all the same
            env = make_real(name, world_model, obs_type="native")
        if not isinstance(env, WorldModelWrapper):  # which has checked it
            _check(env, spec)
        return env

    def reset(self, seed: int, **options: Any) -> Seen:
        """Starts an episode.

        Raises:
            ValueError: If an option, such as a sentence, is not accepted.
        """
        begun: dict[str, Any] = {"seed": seed, "options": options or None}
        obs, info = self.env.reset(**begun)
        self._begun, self._tape, self._step = begun, [], 0
        return self._seen(obs, info)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps the current episode if the code in the block raises an error: the next step returns to it."""
        known = self._begun, self._tape, self._first
        try:
            yield
        except Exception:
            (self._begun, self._tape, self._first), self._step = known, ELSEWHERE
            raise

    def step(self, action: Any, before: Seen) -> Seen:
        """Takes one step from an earlier output, returning to that state first if the environment has left it."""
        if before.step != self._step:
            self._return(before)
        obs, reward, terminated, _, info = self.env.step(action)
        self._step += 1
        self._tape = [*self._tape[: before.step], action]
        return self._seen(obs, info, before.total + float(reward), float(reward), bool(terminated))

    def start(self) -> dict[str, Any]:
        """Returns the reset options with which a dream starts from the same initial state."""
        options: dict[str, Any] = {"observation": self._first}
        if self.spec.goals:
            options["goal"] = self.env.get_wrapper_attr("goal_observation")
        if self.spec.instructions:
            options["instruction"] = self.env.get_wrapper_attr("task_description")
        if self.env.has_wrapper_attr("task_name"):
            options["task"] = self.env.get_wrapper_attr("task_name")
        return options

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def _return(self, to: Seen) -> None:
        if to.saved is not None:
            self.env.get_wrapper_attr("set_state")(to.saved)
        else:  # the same seed and actions lead a real environment to the same state
            self.env.reset(**self._begun)
            for action in self._tape[: to.step]:
                self.env.step(action)
        self._step = to.step

    def _seen(
        self, obs: Any, info: dict[str, Any], total: float = 0.0, reward: float = 0.0, ended: bool = False
    ) -> Seen:
        parts = _within(self.spec, obs)
        if not self._step:
            self._first = parts
        picture = np.concatenate([parts[name] for name in self.spec.pictures], 1) if self.spec.pictures else None
        drawn = self.env.render() if picture is None else picture
        numbers = {name: float(info[name]) for name in ("is_success", "distance") if name in info}
        saved = self.env.get_wrapper_attr("get_state")() if self.env.has_wrapper_attr("get_state") else None
        return Seen(self._step, parts, drawn, total, reward, ended, numbers, saved)  # type: ignore[arg-type]


def _within(spec: WorldSpec, observation: Any) -> dict[str, np.ndarray]:
    """Converts an observation to the parts of a spec; values outside the observation space are clipped."""
    parts, result = observe(observation), {}
    for name, space in spec.observation.spaces.items():
        space_of: Any = space
        part = parts[name]
        result[name] = part if part.dtype == np.uint8 else np.clip(part.astype(np.float32), space_of.low, space_of.high)
    return result


def _check(env: gym.Env, spec: WorldSpec) -> None:
    """Raises ValueError unless an environment has the observation and action spaces of a world model's data."""
    own = WorldSpec.of_env(env)
    shapes = {name: space.shape for name, space in own.observation.spaces.items()}
    asked = {name: space.shape for name, space in spec.observation.spaces.items()}
    if shapes != asked or type(own.action) is not type(spec.action) or own.action.shape != spec.action.shape:
        raise ValueError(
            f"it shows {shapes} and takes {own.action}; accepted by this world model, which was fitted to {spec.name}: "
            f"{asked} and {spec.action}"
        )
