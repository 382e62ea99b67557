"""Batched dreams for Stable-Baselines3 and rl_zoo3, which use `VecEnv` instead of Gymnasium's `VectorEnv`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from dream_env.dream import DreamEnv, DreamVectorEnv
from dream_env.rewards import RewardWeights

PER_DREAM = ("instruction", "task_description", "task_name")
"""Attributes of the vector env with one value per dream; all other attributes are shared by the dreams."""


class DreamVecEnv(VecEnv):
    """A Stable-Baselines3 `VecEnv` whose dreams are advanced together by one forward pass.

    Infos are empty except at the end of an episode, where they have `terminal_observation`, `TimeLimit.truncated`,
    the infos of the last step, such as `is_success`, and `episode` as `Monitor` writes it. No `VecMonitor` is needed.
    `reset_infos` has the infos of the first observations.

    Args:
        num_envs: Number of dreams.
        task: As in `DreamEnv`.
        vector_class: Class of the dreams, such as `NicoLDreamVectorEnv` for NICOL's reset options.
        **kwargs: As in `DreamVectorEnv`, except `autoreset_mode`, which is set as SB3 requires.
    """

    def __init__(
        self,
        num_envs: int = 64,
        task: str = "all",
        *,
        vector_class: type[DreamVectorEnv] = DreamVectorEnv,
        **kwargs: Any,
    ) -> None:
        self.dreams = vector_class(num_envs, task=task, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs)
        super().__init__(num_envs, self.dreams.single_observation_space, self.dreams.single_action_space)
        self.metadata |= {"render_fps": self.dreams.metadata["render_fps"]}
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, int)
        self._started = time.time()

    def reset(self) -> VecEnvObs:
        """Resets all dreams, with the seeds and options set by `seed` and `set_options`.

        Raises:
            ValueError: If the options differ between dreams.
        """
        if not all(_same(options, self._options[0]) for options in self._options):
            raise ValueError("options differ from dream to dream; accepted: one dict for all of them")
        obs, batch = self.dreams.reset(seed=self._seeds, options=self._options[0])
        self.reset_infos = [_row(batch, i) for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Stores the actions `(num_envs, ...)` for the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Predicts one control step of every dream; ended dreams are reset."""
        obs, rewards, terminated, truncated, batch = self.dreams.step(self._actions)
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones).tolist():
            self.reset_infos[i] = _row({k: v for k, v in batch.items() if not k.startswith("final_")}, i)
            infos[i] = _row(batch["final_info"], i) | {
                "terminal_observation": batch["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i]),
                "episode": {
                    "r": round(float(self._returns[i]), 6),
                    "l": int(self._lengths[i]),
                    "t": round(time.time() - self._started, 6),
                },
            }
        self._returns[dones], self._lengths[dones] = 0, 0
        return obs, rewards, dones, infos

    def close(self) -> None:
        """Releases the dreams."""
        self.dreams.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Returns the decoded image of every dream, or None for each without a render mode."""
        return self.dreams.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of the vector env for the selected dreams."""
        value = getattr(self.dreams, attr_name)
        rows = self._get_indices(indices)
        return [value[i] if attr_name in PER_DREAM else value for i in rows]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the vector env, which all dreams share.

        Raises:
            ValueError: If `indices` does not include all dreams.
        """
        self._check_all(indices, f"attribute {attr_name!r}")
        setattr(self.dreams, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the vector env once and returns its result for each of the selected dreams."""
        result = getattr(self.dreams, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Returns True for `Monitor`, whose `episode` infos this class provides, and False for other wrappers."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def _check_all(self, indices: VecEnvIndices, what: str) -> None:
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ValueError(f"{what} is shared by all dreams; accepted: indices=None")


class BatchedDream(VecEnvWrapper):
    """Replaces the n dream environments in a `DummyVecEnv` by one batch with the same seeds and monitor files.

    `rl_zoo3` and `make_vec_env` create n single environments. Used as the zoo's `vec_env_wrapper`
    (`vec_env_wrapper: dream_env.adapters.sb3.BatchedDream`), this class takes over their arguments and steps all of
    them with one forward pass. Each dream keeps its own seed, and its episodes are still written to the file of its
    `Monitor`.

    Args:
        venv: A `DummyVecEnv` of `Dream-v0` or `NicoLDream-v0` environments with equal arguments.

    Raises:
        ValueError: If it contains other environments, or wrappers that the batch would drop.
    """

    KNOWN = (Monitor, TimeLimit, OrderEnforcing, PassiveEnvChecker)
    """Wrappers whose function the batch provides itself."""

    def __init__(self, venv: VecEnv) -> None:
        envs = venv.envs if isinstance(venv, DummyVecEnv) else []
        singles = [env.unwrapped for env in envs]
        if not envs or not all(isinstance(env, DreamEnv) for env in singles):
            raise ValueError(f"venv={venv}; accepted: a DummyVecEnv of Dream-v0 or NicoLDream-v0 environments")
        chain, configs = [_wrappers(env) for env in envs], [env.config for env in singles]  # type: ignore[attr-defined]
        classes = [env.vector_class for env in singles]  # type: ignore[attr-defined]
        foreign = {type(w).__name__ for row in chain for w in row if not isinstance(w, self.KNOWN)}
        limits = [_limit(env) for env in envs]
        alike = [*zip(classes, configs, limits, strict=True)]
        if foreign or any(each != alike[0] for each in alike):
            problem = f"wrappers {sorted(foreign)}" if foreign else "environments that differ"
            known = ", ".join(wrapper.__name__ for wrapper in self.KNOWN)
            raise ValueError(
                f"a batch of dreams cannot have {problem}; accepted: equal arguments, and of wrappers {known}"
            )
        batch = DreamVecEnv(len(envs), vector_class=classes[0], max_episode_steps=limits[0], **vars(configs[0]))
        batch._seeds, batch._options = list(venv._seeds), list(venv._options)
        super().__init__(batch)
        self._monitors = [next((w for w in row if isinstance(w, Monitor)), None) for row in chain]

    def reset(self) -> VecEnvObs:
        """Resets all dreams."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Steps the batch and writes ended episodes to the monitor files."""
        obs, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            if (monitor := self._monitors[i]) is not None:
                infos[i]["episode"] |= {key: infos[i][key] for key in monitor.info_keywords}
                if monitor.results_writer is not None:
                    monitor.results_writer.write_row(infos[i]["episode"])
        return obs, rewards, dones, infos

    def close(self) -> None:
        """Closes the dreams and the monitor files."""
        for monitor in self._monitors:
            if monitor is not None and monitor.results_writer is not None:
                monitor.results_writer.close()
        super().close()


class FromZero(VecEnvWrapper):
    """Counts discrete actions from 0, as Stable-Baselines3 requires, in a world that counts them from another number.

    Args:
        venv: Vector env with `Discrete` actions.
    """

    def __init__(self, venv: VecEnv) -> None:
        space: Any = venv.action_space
        super().__init__(venv, action_space=gym.spaces.Discrete(space.n))
        self.first_action = int(space.start)

    def reset(self) -> VecEnvObs:
        """Resets all environments."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Sends the actions as the world counts them."""
        self.venv.step_async(actions + self.first_action)

    def step_wait(self) -> VecEnvStepReturn:
        """Waits for the result of `step_async`."""
        return self.venv.step_wait()


class RewardWeighting(VecEnvWrapper):
    """Weights the rewards of an episode's steps.

    Args:
        venv: Vector env to train in.
        other_steps: As in `RewardWeights`.
        last_step: As in `RewardWeights`.
        bootstrap_at_timeout: As in `RewardWeights`.
    """

    def __init__(
        self, venv: VecEnv, other_steps: float = 0.0, last_step: float = 1.0, bootstrap_at_timeout: bool = False
    ) -> None:
        super().__init__(venv)
        self.reward_weights = RewardWeights(other_steps, last_step, bootstrap_at_timeout)

    def reset(self) -> VecEnvObs:
        """Resets all environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Steps the environments and weights the rewards; the returns in infos are not weighted."""
        obs, rewards, dones, infos = self.venv.step_wait()
        if not self.reward_weights.bootstrap_at_timeout:
            for row in np.flatnonzero(dones):
                infos[row]["TimeLimit.truncated"] = False  # or SB3 would add the critic's estimate
        weights = np.where(dones, self.reward_weights.last_step, self.reward_weights.other_steps).astype(np.float32)
        return obs, rewards * weights, dones, infos


def _row(infos: dict[str, np.ndarray], row: int) -> dict[str, Any]:
    """Returns the infos of one dream from those of all, as Python numbers."""
    return {name: values[row].item() for name, values in infos.items() if not name.startswith("_")}


def _same(one: Any, other: Any) -> bool:
    """Returns whether options are equal; compares arrays in nested dicts."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def _limit(env: gym.Env) -> int | None:
    """Returns the steps after which an episode is truncated: the shortest limit of the dream and its wrappers."""
    parts = [env.unwrapped, *(wrapper for wrapper in _wrappers(env) if isinstance(wrapper, TimeLimit))]
    limits = [part._max_episode_steps for part in parts]  # type: ignore[attr-defined]
    return min((limit for limit in limits if limit is not None), default=None)


def _wrappers(env: gym.Env) -> list[gym.Wrapper]:
    """Returns the wrappers around an environment, outermost first."""
    chain: list[gym.Wrapper] = []
    while isinstance(env, gym.Wrapper):
        chain.append(env)
        env = env.env
    return chain
