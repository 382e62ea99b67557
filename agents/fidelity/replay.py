"""Held-out episodes of physics, and the same actions replayed in the dream."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from dream_env import rewards
from dream_env.agents import collect
from dream_env.agents.eval.open_loop import at, each_step, encoded_state, open_loop, recorded_states
from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.agents.run import workers as pool
from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol.constants import HOLD_STEPS, IMAGE_SIZE
from dream_env.nicol.episodes import EpisodeDataset, EpisodeWriter
from dream_env.progress import progress_bar
from dream_env.world_models.protocol import State, has_metric, take

ACTORS = ("expert", "misjudge", "play", "policy")
"""Behaviors of the held-out episodes, in turn: good attempts, near misses, random pushing, and learned policies."""


def encoder_digest(model: Any) -> str:
    """Returns a digest of a model's embeddings of random pictures, equal for models with the same encoder."""
    shape = (8, IMAGE_SIZE, IMAGE_SIZE, 3)
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    given = {"pixels": pictures.to(model.device)}
    if getattr(model, "sentence_in_embedding", False):
        given["instruction"] = torch.zeros(len(pictures), INSTRUCTION_DIM, device=model.device)
    with torch.inference_mode():
        seen = model.embedding(model.encode(given)).cpu().numpy()
    return hashlib.sha256(seen.tobytes()).hexdigest()[:16]


# --- physics


def jobs(tasks: Sequence[str], policies: Sequence[str], episodes: int, seed: int) -> list[collect.Job]:
    """Lists held-out episodes. Tasks alternate; within a task the behaviors, and within "policy" the policies."""
    kinds = ACTORS if policies else ACTORS[:-1]
    listed = []
    for i in range(episodes):
        kind = kinds[i // len(tasks) % len(kinds)]
        policy = policies[i // (len(tasks) * len(kinds)) % len(policies)] if kind == "policy" else None
        listed.append(collect.Job(i, kind, seed + i, tasks[i % len(tasks)], policy, env="NicoLReal-v0"))
    return listed


def held_out(
    listed: Sequence[collect.Job], world_model: str, root: Path, workers: pool.Workers = None
) -> EpisodeDataset:
    """Records in physics the held-out episodes that are missing in `root`, and loads all of them.

    Args:
        listed: Episodes to record.
        world_model: Checkpoint whose encoder computes the embeddings for the policies.
        root: Folder of the episodes, used only for these tasks, policies and this encoder.
        workers: Number of processes, or "ray"; all cores by default.
    """
    with EpisodeWriter(root) as writer:
        done = writer.seeds()
        missing = [job for job in listed if job.seed not in done]
        runner = partial(collect.run_job, root=root, make=partial(_make, world_model=world_model))
        with closing(pool.imap(runner, missing, workers)) as results:
            for _ in progress_bar(results, "held-out episodes", len(listed), initial=len(listed) - len(missing)):
                pass
    episodes = EpisodeDataset.load(root)
    row = {seed: i for i, seed in enumerate(episodes.seed.tolist())}
    return episodes.take(np.array([row[job.seed] for job in listed]))


def _make(task: str, policy: str | None, world_model: str) -> Any:
    """Returns the physics environment of this process, set to a task."""
    env = _physics(world_model)
    env.unwrapped.task = task
    return env


@lru_cache
def _physics(world_model: str) -> Any:
    from dream_env.nicol import real

    return real.make("all", obs_type="pixels", reward="success", world_model=world_model)


# --- rollouts of both worlds as states of a world model


@dataclass(frozen=True)
class Rollout:
    """N episodes of T steps in the dream or in physics, from a start frame on.

    Attributes:
        states: States of the world model, `(N, T + 1, ...)` in every entry; for physics, the encoded recorded pictures.
        probability: Probability that the success condition of the task holds, `(N, T + 1)`; 0 or 1 for physics.
        held: Whether the condition has held for the last `HOLD_STEPS` steps, which is success, `(N, T)` bool.
        disagreement: Disagreement of the ensemble in each step, `(N, T)`.
        error: For physics, the squared token error of predicting each single step, `(N, T)`; None for the dream.
    """

    states: State
    probability: Tensor
    held: Tensor
    disagreement: Tensor
    error: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """Tokens, `(N, T + 1, tokens, C)` float16."""
        return self.states["tokens"]

    @property
    def success(self) -> Tensor:
        """Whether success held at the end, `(N,)` bool."""
        return self.held[:, -1]

    def take(self, rows: Tensor) -> Rollout:
        """Returns the episodes at `rows`."""
        error = None if self.error is None else self.error[rows]
        probability, held, disagreement = (part[rows] for part in (self.probability, self.held, self.disagreement))
        return Rollout(take(self.states, rows), probability, held, disagreement, error)


def threshold(model: Any) -> float:
    """Returns the probability at and above which a model counts the success condition as met."""
    return float(getattr(getattr(model, "config", None), "success_threshold", 0.5))


def _held(probability: Tensor, threshold: float) -> Tensor:
    """Returns whether probabilities `(N, T + 1)` were above a threshold for the last `HOLD_STEPS` steps, `(N, T)`."""
    called = torch.nn.functional.pad(probability[:, 1:] >= threshold, (HOLD_STEPS - 1, 0))
    return called.unfold(1, HOLD_STEPS, 1).all(-1)


def dream_rollout(
    model: Any,
    latents: EncodedDataset,
    start: int = 0,
    generator: torch.Generator | None = None,
    goal: Tensor | None = None,
) -> Rollout:
    """Rolls out the world model from a recorded frame with the recorded actions, to the end of the episodes.

    Args:
        model: The world model.
        latents: N episodes.
        start: Index of the start frame.
        generator: Draws the noise; None gives the most likely prediction.
        goal: Goal embeddings, as in `recorded_states`.
    """
    actions, noise = latents.action[:, start:], None
    if generator is not None:
        shape = (len(actions), model.noise_dim)
        noise = torch.stack([torch.rand(shape, generator=generator) for _ in range(actions.shape[1])], dim=1)
    states, predictions = open_loop(
        model, at(recorded_states(model, latents, slice(start, start + 1), goal), 0), actions, noise
    )
    probability = each_step(model.success, states)
    assert predictions.disagreement is not None
    return Rollout(states, probability, _held(probability, threshold(model)), predictions.disagreement)


def physics_rollout(model: Any, latents: EncodedDataset, goal: Tensor | None = None) -> Rollout:
    """Returns the recorded episodes as a rollout, with the disagreement and error of predicting each single step.

    Args:
        model: The world model.
        latents: N episodes.
        goal: Goal embeddings, as in `recorded_states`.
    """
    states = recorded_states(model, latents, goal=goal)
    predictions = [
        open_loop(model, at(states, step), latents.action[:, step : step + 1])
        for step in progress_bar(range(latents.action.shape[1]), "single steps", unit="step")
    ]
    predicted = torch.cat([after["tokens"][:, 1:] for after, _ in predictions], dim=1)
    error = (predicted.float() - latents.tokens[:, 1:].float()).square().mean((2, 3))
    disagreement = torch.cat([each.disagreement for _, each in predictions if each.disagreement is not None], dim=1)
    return Rollout(states, latents.condition, _held(latents.condition, 0.5), disagreement, error)


@torch.inference_mode()
def goals(model: Any, latents: EncodedDataset, pictures: np.ndarray) -> tuple[State, Tensor]:
    """Returns the states and the embeddings `(N, E)` of goal pictures `(N, H, W, 3)`, encoded with the instructions."""
    goal = model.encode({"pixels": torch.from_numpy(np.array(pictures)), "instruction": latents.instruction})
    return goal, model.embedding(goal)


def returns(model: Any, latents: EncodedDataset, rollout: Rollout, goal: State | None = None) -> dict[str, np.ndarray]:
    """Sums the rewards of a rollout, `(N,)` for every reward that the world model supports.

    Args:
        model: The world model.
        latents: The N episodes, with their goals.
        rollout: Rollout of these episodes from frame 0 on.
        goal: States of the goals, see `goals`; None derives them from the tokens of the goals, if these are sufficient.
    """
    if goal is None:
        goal = encoded_state(model, latents.goal, torch.zeros_like(latents.proprio[:, 0]), latents.instruction)
    distances = {False: _distances(model.embedding, rewards.distance, rollout.states, goal)}
    if has_metric(model):
        distances[True] = _distances(model.metric, rewards.metric_distance, rollout.states, goal)
    sums = {}
    for name in get_args(rewards.RewardName):
        if name != "environment" and rewards.is_learned(name) in distances:
            distance = distances[rewards.is_learned(name)]
            sums[name] = rewards.reward(name, distance[:, :-1], distance[:, 1:], rollout.held).sum(1).numpy()
    return sums


@torch.inference_mode()
def _distances(vector: Any, distance: Any, states: State, goal: State) -> Tensor:
    target = vector(goal)
    return each_step(lambda state: distance(vector(state), target), states)
