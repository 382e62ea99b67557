"""Learners of Stable-Baselines3, with the same settings in a dream and in the real environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

import dream_env  # noqa: F401  # registers Dream-v0
from dream_env.adapters.sb3 import DreamVecEnv
from dream_env.wrappers import WorldModelWrapper

LEARNERS: dict[str, tuple[type[BaseAlgorithm], dict[str, Any]]] = {
    "sac": (SAC, {"learning_rate": 1e-3, "learning_starts": 500, "policy_kwargs": {"net_arch": [64, 64]}}),
    "ppo": (
        PPO,
        {
            "learning_rate": lambda left: 1e-3 * left,
            "n_steps": 64,
            "batch_size": 256,
            "n_epochs": 10,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "policy_kwargs": {"net_arch": [64, 64]},
        },
    ),
}
"""Classes and settings: those of rl_zoo3 for Pendulum and CartPole, with smaller networks."""
ENVS = {"sac": 1, "ppo": 16}
"""Number of parallel environments."""

HELD_OUT_SEED = 300_000
"""First of the real seeds that were never used for choosing settings; those from 100,000 on were used."""


def learn(
    learner: str, steps: int, seed: int, model: Path, env: str | None = None, obs_type: str = "embedding", **dream: Any
) -> BaseAlgorithm:
    """Trains a policy.

    Args:
        learner: One of `LEARNERS`.
        steps: Environment steps.
        seed: Seed of the learner and its environments.
        model: Folder of a world model; with "embedding", it also encodes the observations of the real environment.
        env: Id of the real environment to learn in; None learns in the dream.
        obs_type: Observation: "native", the environment's own observation, or "embedding".
        **dream: Arguments of the dream.
    """
    algorithm, settings = LEARNERS[learner]
    count = ENVS[learner]
    if env is None:
        venv: Any = DreamVecEnv(count, world_model=str(model), obs_type=obs_type, **dream)
    else:
        venv = make_vec_env(lambda: real(env, model, obs_type), count)
    policy = "MlpPolicy" if isinstance(venv.observation_space, gym.spaces.Box) else "MultiInputPolicy"
    agent = algorithm(policy, venv, seed=seed, device="cpu", **settings)
    agent.learn(steps)
    venv.close()
    return agent


def real(env: str, model: Path, obs_type: str) -> gym.Env:
    """Creates a real environment, wrapped by the world model unless `obs_type` is "native"."""
    made = gym.make(env)
    return made if obs_type == "native" else WorldModelWrapper(made, str(model), obs_type="embedding")


def evaluate(env: gym.Env, act: Callable[[Any], Any] | None, episodes: int, seed: int = HELD_OUT_SEED) -> list[float]:
    """Returns the returns of episodes, each with its own seed; without `act`, actions are random."""
    returns = []
    env.action_space.seed(seed)
    for i in range(episodes):
        obs, _ = env.reset(seed=seed + i)
        total, ended, cut = 0.0, False, False
        while not (ended or cut):
            action = env.action_space.sample() if act is None else act(obs)
            obs, reward, ended, cut, _ = env.step(action)
            total += float(reward)
        returns.append(total)
    return returns


def acting(agent: BaseAlgorithm) -> Callable[[Any], Any]:
    """Returns a function from an observation to the agent's deterministic action."""

    def act(obs: Any) -> Any:
        action = agent.predict(obs, deterministic=True)[0]
        return action.item() if isinstance(agent.action_space, gym.spaces.Discrete) else np.asarray(action)

    return act
