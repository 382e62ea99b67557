"""Evaluates a population in the real environment, over all cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dream_env.agents.data.behaviors import held
from dream_env.agents.policies.controller import Controller
from dream_env.agents.policies.registry import load
from dream_env.agents.run import workers as pool
from dream_env.agents.run.worlds import make_real, tasks_of
from dream_env.spec import observe, success_of

SEEDS = 90_000
"""Seeds of real episodes in `RealPopulation` are below this; evaluation uses those from 100,000 on."""

HOLD = 3
"""Maximum number of steps for which a random action is held while inputs are measured."""


@dataclass(frozen=True)
class World:
    """A real environment.

    Attributes:
        template: Folder of a controller with the config of the population; its weights are not used.
        env: Id of the environment; None for the one that the world model was fitted to.
        task: Task, or "all".
        reward: Name of the reward; "success" counts once, at the end. None for the default of the world.
        max_steps: Maximum number of steps in an episode.
    """

    template: str
    env: str | None = None
    task: str = "all"
    reward: str | None = None
    max_steps: int = 1000


@dataclass(frozen=True)
class Job:
    """Episodes of one controller: its weights, empty for random actions, and a seed for each episode."""

    world: World
    weights: tuple[float, ...]
    seeds: tuple[int, ...]


class RealPopulation:
    """Measures returns of controllers in the real environment, all on the same seeds; see `DreamPopulation`.

    Args:
        world: The environment.
        workers: See `dream_env.agents.run.workers.Workers`.
    """

    def __init__(self, world: World, workers: pool.Workers = None) -> None:
        self.world, self.workers = world, workers
        self.steps = 0
        """Environment steps so far."""

    def returns(self, controller: Controller, weights: np.ndarray, rollouts: int, seed: Sequence[int]) -> np.ndarray:
        """Runs R episodes of each of C controllers, and returns the return of each episode, `(C, R)`."""
        seeds = tuple(np.random.default_rng(seed).integers(0, SEEDS, rollouts).tolist())
        jobs = [Job(self.world, tuple(each), seeds) for each in np.asarray(weights, np.float64).tolist()]
        played = list(pool.imap(play, jobs, self.workers, ordered=True))
        self.steps += sum(steps for _, steps in played)
        return np.array([returns for returns, _ in played])

    def visited(self, episodes: int, seed: Sequence[int]) -> torch.Tensor:
        """Takes random actions, each held for several steps, and returns the controllers' inputs, `(N, I)`."""
        seeds = np.random.default_rng(seed).integers(0, SEEDS, episodes).tolist()
        seen = pool.imap(visit, [Job(self.world, (), (each,)) for each in seeds], self.workers, ordered=True)
        return torch.from_numpy(np.concatenate(list(seen)))


def visit(job: Job) -> np.ndarray:
    """Takes random actions in the episode of a job, and returns the inputs of its controller, `(N, I)`."""
    controller, env = _made(job.world)
    (seed,) = job.seeds
    behavior, inputs, ended = None, [], False
    obs, _ = env.reset(seed=seed)
    while not ended:
        seen = observe(obs)
        parts = {name: torch.from_numpy(np.asarray(seen[name], np.float32)[None]) for name in controller.inputs}
        inputs.append(controller.seen(parts).numpy())
        if behavior is None:
            behavior = held(env.action_space, np.random.default_rng(seed), seen, HOLD)
        action = np.asarray(next(behavior), env.action_space.dtype)
        obs, _, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated or len(inputs) >= job.world.max_steps
    return np.concatenate(inputs)


@lru_cache(maxsize=1)
def _made(world: World) -> tuple[Controller, Any]:
    controller = load(Path(world.template))  # of one's own: `play` writes into its weights
    config = controller.config
    options: dict[str, Any] = {"task": world.task} if tasks_of(config.world_model) else {}
    made = make_real(world.env, config.world_model, obs_type=config.obs_type, reward=world.reward, **options)
    return controller, made


def play(job: Job) -> tuple[list[float], int]:
    """Runs the episodes of a job in a worker process; returns the return of each and the total number of steps."""
    world = job.world
    controller, env = _made(world)
    controller.weights.copy_(torch.tensor(job.weights))
    result, count = [], 0
    for seed in job.seeds:
        (obs, info), total, ended, steps = env.reset(seed=seed), 0.0, False, 0
        while not ended:
            action = controller.act({name: part[None] for name, part in observe(obs).items()})[0]
            obs, reward, terminated, truncated, info = env.step(action)
            total, steps = total + float(reward), steps + 1
            ended = terminated or truncated or steps >= world.max_steps
        count += steps
        result.append(float(bool(success_of(info))) if world.reward == "success" else total)
    return result, count
