"""Environments for LeRobot's rollouts: observations, instruction and episode length under the names that it reads.

LeRobot calls `make_env` in the `env.py` of a repository on the Hub (EnvHub). `dream_env.hub.push` uploads such a file
with every world model; it calls `make_dream_env`. LeRobot does not have to be installed here.
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

from dream_env.checks import check_count, check_flag
from dream_env.spec import observe, success_of

ENV_ID = "NicoLReal-v0"
"""Environment id used if the config does not name one."""
DREAMS = ("Dream-v0", "NicoLDream-v0")
EMBEDDINGS = ("embedding", "goal", "instruction")
"""Parts of an observation that are not part of the robot's state."""
NEW_ROLLOUT = "lerobot_new_rollout"
"""Reset option that LeRobot passes at the start of a rollout, for a wrapper of its own; it is dropped here."""


class LeRobotEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Converts an environment's observations to the form that LeRobot's rollout expects.

    Observations have `pixels`, the images `(H, W, 3)` uint8 as a dict by camera (or a single image without a dict), and
    `agent_pos`, the concatenation of all vectors except embeddings. LeRobot renames them to `observation.image` (or
    `observation.images.CAMERA`) and `observation.state`.

    Args:
        env: Environment whose observations contain images or vectors.

    Raises:
        ValueError: If they contain neither.
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
        """The instruction given to the policy; empty if there is none."""
        for name in ("spoken", "task_description"):
            if self.env.has_wrapper_attr(name):
                return str(self.env.get_wrapper_attr(name))
        return ""

    @property
    def task(self) -> str:
        """The task name, or the environment id if there is none."""
        if self.env.has_wrapper_attr("task"):
            return str(self.env.get_wrapper_attr("task"))
        return "" if self.spec is None else self.spec.id

    @property
    def _max_episode_steps(self) -> int:
        """Time limit of an episode in control steps."""
        limit = self.env.get_wrapper_attr("_max_episode_steps")
        if limit is None:
            raise ValueError(f"env {self.env} has no time limit; accepted: one with `max_episode_steps`")
        return int(limit)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment; LeRobot's own option is dropped."""
        own = {name: value for name, value in (options or {}).items() if name != NEW_ROLLOUT}
        obs, info = self.env.reset(seed=seed, options=own or None)
        return self._shown(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps the environment. LeRobot needs `info["is_success"]`, which is False if success is not known."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, "is_success": bool(success_of(info))}
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
    """Names a single `Box` as in recorded episodes: `pixels` for an image, `state` for a vector."""
    return {"pixels" if len(space.shape or ()) == 3 else "state": space}


def make_env(n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None) -> dict[str, dict[int, VectorEnv]]:
    """Creates what LeRobot's `make_env` returns: vector environments by suite and index.

    Args:
        n_envs: Number of environments in the vector environment.
        use_async_envs: Whether each environment runs in a separate process.
        cfg: LeRobot's `EnvConfig`, or an object with some of its fields: `task`, an environment id ("NicoLReal-v0",
            "NicoLDream-v0" or any other registered id) or a task name of NICOL; `gym_kwargs`, keyword arguments of
            `gymnasium.make`, and the environment `id` if `task` is a task name.

    Raises:
        ValueError: If an argument is not accepted.
    """
    check_count("n_envs", n_envs)
    check_flag("use_async_envs", use_async_envs)
    task, kwargs = getattr(cfg, "task", None), dict(getattr(cfg, "gym_kwargs", None) or {})
    env_id = kwargs.pop("id", ENV_ID)
    if task in gym.registry:
        env_id = task
    elif task is not None:
        kwargs["task"] = task
    if env_id == ENV_ID:
        kwargs.setdefault("world_model", None)  # observations without embeddings
    elif env_id in DREAMS:
        kwargs.setdefault("obs_type", "native")
    makers: list[Callable[[], gym.Env]] = [partial(_make, env_id, kwargs)] * n_envs
    vector = AsyncVectorEnv if use_async_envs else SyncVectorEnv
    return {env_id: {0: vector(makers, autoreset_mode=AutoresetMode.SAME_STEP)}}


def make_dream_env(
    world_model: Any, n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None
) -> dict[str, dict[int, VectorEnv]]:
    """Creates dream environments of one world model; called by the `env.py` of its repository on the Hub.

    Args:
        world_model: Checkpoint folder, or `hf://user/name@revision`.
        n_envs: Number of environments in the vector environment.
        use_async_envs: Whether each environment runs in a separate process.
        cfg: As in `make_env`; its `task` is a task name from the initial states.
    """
    kwargs = {"id": DREAMS[0], "world_model": str(world_model), **(getattr(cfg, "gym_kwargs", None) or {})}
    task = getattr(cfg, "task", None)
    return make_env(n_envs, use_async_envs, SimpleNamespace(task=task, gym_kwargs=kwargs))


def _make(env_id: str, kwargs: dict[str, Any]) -> gym.Env:
    import dream_env  # noqa: F401  (registers the ids in a worker process)

    return LeRobotEnv(gym.make(env_id, **kwargs))
