"""LeRobot's rollouts in these environments: observations, sentence and length by the names that it looks for.

`make_env` is the function that LeRobot calls in the `env.py` of a repository on the Hub (EnvHub); with every world
model, `dream_env.hub.push_to_hub` uploads such a file, which calls `make_dream_env`. LeRobot itself is not needed here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from dream_env.checks import check_flag, check_number
from dream_env.spec import observe

ENV_ID = "NicoLReal-v0"
"""Environment that is made where the configuration names none."""
DREAMS = ("Dream-v0", "NicoLDream-v0")
EMBEDDINGS = ("embedding", "goal", "instruction")
"""Parts of an observation that are no state of the robot."""
NEW_ROLLOUT = "lerobot_new_rollout"
"""Option with which LeRobot marks the reset of a new rollout; it is for a wrapper of its own."""


class LeRobotEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Shows an environment as LeRobot's rollout wants it.

    Observations are `pixels`, a dict of the pictures `(H, W, 3)` uint8 by camera (one alone stands without a dict), and
    `agent_pos`, all vectors but embeddings one after the other. LeRobot makes `observation.image` (or
    `observation.images.CAMERA`) and `observation.state` of them.

    Args:
        env: Shows pictures or vectors.

    Raises:
        ValueError: If it shows neither.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        given = env.observation_space
        parts: dict[str, Any] = given.spaces if isinstance(given, spaces.Dict) else _named(given)
        self._pictures = [name for name, part in parts.items() if len(part.shape) == 3]
        self._vectors = [name for name, part in parts.items() if len(part.shape) == 1 and name not in EMBEDDINGS]
        shown: dict[str, spaces.Space] = {}
        if len(self._pictures) == 1:
            shown["pixels"] = parts[self._pictures[0]]
        elif self._pictures:
            shown["pixels"] = spaces.Dict({name: parts[name] for name in self._pictures})
        if self._vectors:
            low, high = (np.concatenate([getattr(parts[n], end) for n in self._vectors]) for end in ("low", "high"))
            shown["agent_pos"] = spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        if not shown:
            raise ValueError(f"env {env} shows {given}; accepted: pictures (H, W, 3) or vectors")
        self.observation_space = spaces.Dict(shown)

    @property
    def task_description(self) -> str:
        """The sentence that the policy is told; empty where there is none."""
        for name in ("spoken", "task_description"):
            if self.env.has_wrapper_attr(name):
                return str(self.env.get_wrapper_attr(name))
        return ""

    @property
    def task(self) -> str:
        """The task's name, or the environment's id."""
        if self.env.has_wrapper_attr("task"):
            return str(self.env.get_wrapper_attr("task"))
        return "" if self.spec is None else self.spec.id

    @property
    def _max_episode_steps(self) -> int:
        """Control steps of an episode."""
        return int(self.env.get_wrapper_attr("_max_episode_steps"))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment; LeRobot's own option is left out."""
        own = {name: value for name, value in (options or {}).items() if name != NEW_ROLLOUT}
        obs, info = self.env.reset(seed=seed, options=own or None)
        return self._shown(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment; `info["is_success"]` is what LeRobot counts."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._shown(obs), reward, terminated, truncated, info

    def _shown(self, obs: Any) -> dict[str, Any]:
        parts = observe(obs)
        shown: dict[str, Any] = {}
        if len(self._pictures) == 1:
            shown["pixels"] = parts[self._pictures[0]]
        elif self._pictures:
            shown["pixels"] = {name: parts[name] for name in self._pictures}
        if self._vectors:
            shown["agent_pos"] = np.concatenate([parts[name] for name in self._vectors]).astype(np.float32)
        return shown


def _named(space: spaces.Space) -> dict[str, spaces.Space]:
    """Names a `Box` as recorded episodes do: a picture `pixels`, a vector `state`."""
    return {"pixels" if len(space.shape or ()) == 3 else "state": space}


def make_env(n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None) -> dict[str, dict[int, VectorEnv]]:
    """Makes what LeRobot's `make_env` returns: vector environments by suite and number.

    Args:
        n_envs: Environments of the vector env.
        use_async_envs: Each in a process of its own.
        cfg: LeRobot's `EnvConfig`, or whatever has some of its fields: `task`, an environment id ("NicoLReal-v0",
            "NicoLDream-v0", any of Gymnasium) or a task of NICOL; `gym_kwargs`, keyword arguments of `gymnasium.make`,
            and `id`, where `task` is a task.

    Raises:
        ValueError: If an argument is not accepted.
    """
    check_number("n_envs", n_envs, 1)
    check_flag("use_async_envs", use_async_envs)
    task, kwargs = getattr(cfg, "task", None), dict(getattr(cfg, "gym_kwargs", None) or {})
    env_id = kwargs.pop("id", ENV_ID)
    if task in gym.registry:
        env_id = task
    elif task is not None:
        kwargs["task"] = task
    if env_id == ENV_ID:
        kwargs.setdefault("world_model", None)  # pictures, without a world model's embedding
    elif env_id in DREAMS:
        kwargs.setdefault("obs_type", "native")
    makers: list[Callable[[], gym.Env]] = [partial(_make, env_id, kwargs)] * n_envs
    vector = AsyncVectorEnv if use_async_envs else SyncVectorEnv
    return {env_id: {0: vector(makers, autoreset_mode=AutoresetMode.SAME_STEP)}}


def make_dream_env(
    world_model: Any, n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None
) -> dict[str, dict[int, VectorEnv]]:
    """Makes the dreams of one world model: what the `env.py` of its repository on the Hub calls.

    Args:
        world_model: Folder, or `hf://user/name@revision`.
        n_envs: Environments of the vector env.
        use_async_envs: Each in a process of its own.
        cfg: As in `make_env`; its `task` is a task of the world, where that has several.
    """
    kwargs = {"id": DREAMS[0], "world_model": str(world_model), **(getattr(cfg, "gym_kwargs", None) or {})}
    task = getattr(cfg, "task", None)
    return make_env(n_envs, use_async_envs, SimpleNamespace(task=task, gym_kwargs=kwargs))


def _make(env_id: str, kwargs: dict[str, Any]) -> gym.Env:
    import dream_env  # noqa: F401  (registers the ids in a process of its own)

    return LeRobotEnv(gym.make(env_id, **kwargs))
