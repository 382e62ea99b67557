"""Upper bound of planning: the same solver and objective with physics as the model.

Candidates are simulated in physics from a snapshot of the current state, and the positions of hand and cubes are true,
not estimated. The remaining failures are therefore due to the solver, the budget and the learned distance, not to the
world model.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.nicol.encoded_dataset import Truth, true_object_state
from dream_env.agents.nicol.rollouts import Batch
from dream_env.agents.planners.planner import Planner, PlannerConfig, read
from dream_env.agents.planners.problem import ActionBox, Noise, Problem
from dream_env.nicol.constants import denormalize, integrate
from dream_env.nicol.env import NicoLRealEnv
from dream_env.nicol.language import COLORS
from dream_env.nicol.tasks.task import in_hand
from dream_env.rewards import metric_distance
from dream_env.world_models import checkpoint


def steps_per_episode(config: PlannerConfig, horizon: int) -> int:
    """Returns the number of physics steps for planning an episode of `horizon` actions."""
    solver: Any = config.make_solver()
    return -(-horizon // config.execute) * solver.samples * solver.iterations * config.horizon


def object_states(
    env: NicoLRealEnv, paths: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]], goal: Tensor
) -> Tensor:
    """Returns the true object states `(S, H, R)` of S paths of H steps: set-point `(4,)`, cubes and hand (m).

    Entries without a true value, such as the position of a color that is not on the table, are copied from the goal's
    `(1, R)`.
    """
    proprio, objects, hand = (
        np.stack([np.stack([step[i] for step in path]) for path in paths]).astype(np.float32) for i in range(3)
    )
    cubes = np.full((*objects.shape[:2], len(COLORS), 3), np.nan, np.float32)
    cubes[:, :, env.layout.colors] = objects
    held = in_hand(cubes, hand[:, :, None]) & (proprio[..., 3:] >= 0)
    known = Truth(*map(torch.from_numpy, (proprio, 100 * cubes, 100 * hand, held)))
    numbers, exist = true_object_state(known)
    return torch.where(exist, numbers, goal)


class PhysicsCost:
    """Cost of candidates that are simulated in physics: the learned distance to the goal; see `Problem.cost`.

    Args:
        env: Environment at the current step of the episode.
        config: Config of the planner.
        model: World model with the metric.
        goal: Object state of the goal `(1, R)`, as estimated by the model.
    """

    def __init__(self, env: NicoLRealEnv, config: PlannerConfig, model: Any, goal: Tensor) -> None:
        self.env, self.config, self.model, self.goal = env, config, model, goal
        self.snapshot, self.proprio = env.scene.snapshot(), env.proprio.copy()

    def __call__(self, candidates: Tensor) -> Tensor:
        """Returns the costs `(1, S)` of candidates `(1, S, H, 4)`."""
        paths = [self._carried_out(actions) for actions in candidates[0].numpy()]
        states = object_states(self.env, paths, self.goal)
        with torch.no_grad():
            here, end = (self.model.metric({"object_state": each}) for each in (states.flatten(0, 1), self.goal))
            far = metric_distance(here, end)
        far = far.view(states.shape[:2])
        return (far[:, -1] + self.config.path * far.mean(1))[None]

    def _carried_out(self, actions: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        scene, proprio, path = self.env.scene, self.proprio, []
        scene.restore(self.snapshot)
        for action in actions:
            proprio = integrate(proprio, action)
            scene.step(denormalize(proprio))
            path.append((proprio, scene.objects(), scene.hand()))
        return path


def play(batch: Batch) -> list[EpisodeResult]:
    """Runs a batch as `agents.nicol.rollouts.play` does; the policy is a planner's file, its model is physics.

    Raises:
        ValueError: If the objective is not the learned distance, or there is a prior.
    """
    torch.set_num_threads(1)
    config = PlannerConfig(**read(batch.policy, {Planner.kind: PlannerConfig})[1])
    if set(config.objective) != {"metric"} or config.prior is not None:
        raise ValueError(f"objective={dict(config.objective)}, prior={config.prior}; accepted: metric, no prior")
    return [_play(batch, config, seed) for seed in batch.seeds]


def _play(batch: Batch, config: PlannerConfig, seed: int) -> EpisodeResult:
    model: Any = checkpoint.load(config.world_model)
    env, box, solver = NicoLRealEnv("all"), ActionBox(model.spec.action), config.make_solver()
    env.reset(seed=seed, options={"task": batch.task})
    solved, noise = bool(env.truth()["condition"]), Noise([config.seed])
    with torch.no_grad():
        goal = model.encode({"pixels": torch.from_numpy(env.goal_image)[None]})["object_state"]
    elites: Tensor | None = None
    before = time.process_time()
    for _ in range(0, env.episode_steps, config.execute):
        saved, mean = env.get_state(), box.center.expand(1, config.horizon, -1).clone()
        if elites is not None:
            moved = [elites[:, :, config.execute :], elites[:, :, -1:].expand(-1, -1, config.execute, -1)]
            elites = torch.cat(moved, 2)
            mean, elites = elites[:, 0], elites[:, 1:]
        plan = solver.solve(Problem(PhysicsCost(env, config, model, goal), box, mean, noise, elites))
        elites = plan.elites
        left = env.episode_steps - len(saved["deltas"])
        done = np.clip(plan.actions[0, : min(config.execute, left)].numpy(), -1, 1)
        # Replays the episode from its start, so that the candidates leave no trace in the simulation.
        env.set_state({**saved, "deltas": [*saved["deltas"], *done]})
    taken = 1000 * (time.process_time() - before) / env.episode_steps
    result = EpisodeResult(
        batch.label,
        "physics",
        batch.task,
        seed,
        env.spoken,
        solved,
        env.is_success,
        float(env.is_success),
        None,
        milliseconds=taken,
    )
    env.close()
    return result
