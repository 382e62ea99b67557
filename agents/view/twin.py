"""The real environment beside a dream: the same start, the same actions, and a way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from dream_env.agents.run.worlds import make_real
from dream_env.spec import WorldSpec, observe
from dream_env.wrappers import WorldModelWrapper

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Seen:
    """What a real environment showed after a step.

    Attributes:
        step: Steps since the start.
        observation: Parts by the names of the world's observation.
        picture: What there is to look at, `(H, W, 3)` uint8; None without.
        total: Sum of the rewards so far.
        reward: Of the step.
        ended: Whether the episode is over: terminated.
        info: Of what `info` tells: `is_success` and `distance`.
        saved: Of its `get_state`; None where it has none.
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
    """A real environment that goes where a dream goes.

    Args:
        env: Shows what the world's spec says.
        spec: The world.
    """

    def __init__(self, env: gym.Env, spec: WorldSpec) -> None:
        self.env, self.spec = env, spec
        self.name = env.spec.id if env.spec else type(env.unwrapped).__name__
        self._step = 0
        self._begun: dict[str, Any] = {}
        self._tape: list[Any] = []

    @classmethod
    def of(cls, real: str, world_model: str, spec: WorldSpec) -> Twin | None:
        """Makes the environment that a name stands for.

        Args:
            real: An id; `NONE`; or `AUTO`, the world's own where it can be made.
            world_model: Name or folder of the world model.
            spec: Its world.

        Raises:
            ValueError: If a named environment cannot be made, or is of another world.
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
        drawn = {} if spec.pictures else {"render_mode": "rgb_array"}
        env = make_real(name, world_model, obs_type="native", **drawn)
        if spec.goals and not isinstance(env, WorldModelWrapper):  # which knows where an environment keeps its goal
            env = WorldModelWrapper(env, world_model, obs_type="native")
        if not isinstance(env, WorldModelWrapper):
            _check(env, spec)
        return env

    def reset(self, seed: int, **options: Any) -> Seen:
        """Begins an episode.

        Raises:
            ValueError: If an option is not accepted, such as a sentence that cannot be done.
        """
        begun: dict[str, Any] = {"seed": seed, "options": options or None}
        obs, info = self.env.reset(**begun)
        self._begun, self._tape, self._step = begun, [], 0
        return self._seen(obs, info)

    def step(self, action: Any, before: Seen) -> Seen:
        """Goes one step on from what was seen, going back there first if it has been left."""
        if before.step != self._step:
            self._return(before)
        obs, reward, terminated, _, info = self.env.step(action)
        self._step += 1
        self._tape = [*self._tape[: before.step], action]
        return self._seen(obs, info, before.total + float(reward), float(reward), bool(terminated))

    def start(self) -> dict[str, Any]:
        """Returns what a dream of this start is told: options of its reset."""
        options: dict[str, Any] = {"observation": self._first}
        if self.spec.goals:
            options["goal"] = self.env.get_wrapper_attr("goal_observation")
        if self.spec.instructions:
            options["instruction"] = self.env.get_wrapper_attr("task_description")
        if self.env.has_wrapper_attr("task_name"):
            options["task"] = self.env.get_wrapper_attr("task_name")
        return options

    def close(self) -> None:
        """Ends it."""
        self.env.close()

    def _return(self, to: Seen) -> None:
        if to.saved is not None:
            self.env.get_wrapper_attr("set_state")(to.saved)
        else:  # a real environment repeats what it did for the same seed and actions
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
        told = {name: float(info[name]) for name in ("is_success", "distance") if name in info}
        saved = self.env.get_wrapper_attr("get_state")() if self.env.has_wrapper_attr("get_state") else None
        return Seen(self._step, parts, drawn, total, reward, ended, told, saved)  # type: ignore[arg-type]


def _within(spec: WorldSpec, observation: Any) -> dict[str, np.ndarray]:
    """Returns an observation in the form of a spec; what a real environment shows beyond its own space is clipped."""
    parts, result = observe(observation), {}
    for name, space in spec.observation.spaces.items():
        space_of: Any = space
        part = parts[name]
        result[name] = part if part.dtype == np.uint8 else np.clip(part.astype(np.float32), space_of.low, space_of.high)
    return result


def _check(env: gym.Env, spec: WorldSpec) -> None:
    """Raises ValueError unless an environment shows and takes what a world model was fitted to."""
    own = WorldSpec.of_env(env)
    shapes = {name: space.shape for name, space in own.observation.spaces.items()}
    asked = {name: space.shape for name, space in spec.observation.spaces.items()}
    if shapes != asked or type(own.action) is not type(spec.action) or own.action.shape != spec.action.shape:
        raise ValueError(
            f"it shows {shapes} and takes {own.action}; accepted by this world model, which was fitted to {spec.name}: "
            f"{asked} and {spec.action}"
        )
    if spec.goals:
        raise ValueError("it has no goal; accepted: a real environment with goals, as the world model's has")
