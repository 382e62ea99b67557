"""Held-out episodes of physics, and the same actions replayed in the dream."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor
from tqdm import tqdm

from dream_env.agents import collect
from dream_env.agents.data.encoded_dataset import EncodedDataset
from dream_env.agents.run import workers as pool
from dream_env.nicol.constants import EPISODE_STEPS, IMAGE_SIZE
from dream_env.nicol.dream import NicoLDreamVectorEnv
from dream_env.nicol.episodes import EpisodeDataset, EpisodeWriter
from dream_env.nicol.initial_states import of_pictures
from dream_env.rewards import RewardName
from dream_env.world_models.protocol import Prediction, State

KINDS = ("expert", "misjudge", "play", "policy")
"""What acts in the held-out episodes, in turn: good attempts, near misses, pushing about, and what RL will meet."""


def eyes(model: Any) -> str:
    """Returns a digest of what a world model sees: alike for two models exactly if their encoders are."""
    shape = (8, IMAGE_SIZE, IMAGE_SIZE, 3)
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    with torch.inference_mode():
        state = model.encode(pictures.to(model.device), torch.zeros(len(pictures), 4, device=model.device))
        seen = model.embedding(state).cpu().numpy()
    return hashlib.sha256(seen.tobytes()).hexdigest()[:16]


# --- physics


def jobs(tasks: Sequence[str], policies: Sequence[str], episodes: int, seed: int) -> list[collect.Job]:
    """Lists held-out episodes: tasks in turn, within a task kinds in turn, within "policy" policies in turn."""
    kinds = KINDS if policies else KINDS[:-1]
    listed = []
    for i in range(episodes):
        kind = kinds[i // len(tasks) % len(kinds)]
        policy = policies[i // (len(tasks) * len(kinds)) % len(policies)] if kind == "policy" else None
        listed.append(collect.Job(i, kind, seed + i, tasks[i % len(tasks)], policy, env="NicoLReal-v0"))
    return listed


def held_out(
    listed: Sequence[collect.Job], world_model: str, root: Path, workers: pool.Workers = None
) -> EpisodeDataset:
    """Records held-out episodes in physics, those that are missing in `root`, and reads them.

    Args:
        listed: The episodes.
        world_model: Checkpoint through whose encoder policies see.
        root: Folder of the episodes; it belongs to these tasks, policies and eyes.
        workers: Processes; all cores by default.
    """
    with EpisodeWriter(root) as writer:
        done = writer.seeds()
        missing = [job for job in listed if job.seed not in done]
        runner = partial(collect.run_job, root=root, make=partial(_make, world_model=world_model))
        with closing(pool.imap(runner, missing, workers)) as results:
            for _ in tqdm(results, "held-out episodes", len(listed), initial=len(listed) - len(missing)):
                pass
    episodes = EpisodeDataset.load(root)
    row = {seed: i for i, seed in enumerate(episodes.seed.tolist())}
    return episodes.take(np.array([row[job.seed] for job in listed]))


def _make(task: str, policy: str | None, world_model: str) -> Any:
    """Returns the process's one physics env, set to a task."""
    env = _physics(world_model)
    env.unwrapped.task = task
    return env


@lru_cache
def _physics(world_model: str) -> Any:
    from dream_env.nicol import real

    return real.make("all", obs_type="pixels", reward="success", world_model=world_model)


# --- dream


class Film(NamedTuple):
    """Episodes as one of the worlds has them, from some frame on; `physics_film` and `dream_film` make it.

    Attributes:
        tokens: `(N, T + 1, tokens, C)` float16.
        proprio: Set-points, `(N, T + 1, 4)`.
        probability: Probability that the task's condition holds, `(N, T + 1)`; in physics 0 or 1.
        success: Whether success held at the end, `(N,)` bool.
        disagreement: Of the ensemble about each step, `(N, T)`.
    """

    tokens: Tensor
    proprio: Tensor
    probability: Tensor
    success: Tensor
    disagreement: Tensor

    def take(self, rows: Tensor) -> Film:
        """Returns the episodes at `rows`."""
        return Film(*(part[rows] for part in self))


class Projector:
    """A world model that shows a film: whatever the actions, each step is the next frame.

    Played through the dream's environment it tells what that environment makes of physics' own frames: successes,
    distances and rewards of every variant come from one and the same code in both worlds.

    Args:
        model: World model that answers everything else.
        film: What is shown.
    """

    def __init__(self, model: Any, film: Film) -> None:
        self._model, self._film, self._step = model, film, 0

    def __getattr__(self, name: str) -> Any:
        """Asks the world model."""
        return getattr(self._model, name)

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Shows the next frame."""
        self._step += 1
        film = self._film
        tokens, proprio = (part[:, self._step].float().to(action) for part in (film.tokens, film.proprio))
        return self._model.state_of(tokens, proprio, state.get("instruction")), Prediction(success=self.success(state))

    def success(self, state: State) -> Tensor:
        """Tells what the film says of its present frame."""
        return self._film.probability[:, self._step].to(self._model.device).float()


def dream_film(model: Any, episodes: EpisodeDataset, start: int = 0) -> Film:
    """Replays recorded actions in `NicoLDreamVectorEnv`, where what is likeliest happens.

    Args:
        model: The world model.
        episodes: N episodes.
        start: Recorded frame from which to dream on, to the end of the episode.
    """
    env = _theater(model, episodes, start, reward="success", temperature=0.0, max_disagreement=float("inf"))
    frames, info = [env.get_state()], env.dreams.info()
    probabilities, disagreements = [info["success_probability"]], []
    for action in tqdm(episodes.action[:, start:].swapaxes(0, 1), "replay", unit="step"):
        *_, info = env.step(action)
        frames.append(env.get_state())
        probabilities.append(info["success_probability"])
        disagreements.append(info["disagreement"])
    return Film(
        tokens=torch.from_numpy(np.stack([frame["tokens"] for frame in frames], axis=1)).half(),
        proprio=torch.from_numpy(np.stack([frame["proprio"] for frame in frames], axis=1)),
        probability=torch.from_numpy(np.stack(probabilities, axis=1)),
        success=torch.from_numpy(info["is_success"]),
        disagreement=torch.from_numpy(np.stack(disagreements, axis=1)),
    )


@torch.inference_mode()
def physics_film(model: Any, episodes: EpisodeDataset, latents: EncodedDataset) -> Film:
    """Shows recorded episodes as they were; the ensemble is asked about each recorded step."""
    told = [
        model.step(model.state_of(latents.tokens[:, t].float(), latents.proprio[:, t]), latents.action[:, t])[
            1
        ].disagreement
        for t in range(EPISODE_STEPS)
    ]
    success = torch.from_numpy(episodes.success)
    return Film(latents.tokens, latents.proprio, latents.condition, success, torch.stack(told, dim=1).clone())


def returns(model: Any, episodes: EpisodeDataset, film: Film | None = None) -> dict[str, np.ndarray]:
    """Sums the rewards of episodes, `(N,)` for every variant that the world model can give.

    Args:
        model: The world model.
        episodes: N episodes.
        film: What is shown of them; None for what they are in the dream, where what is likeliest happens.
    """
    sums = {}
    for reward in get_args(RewardName):
        try:
            world = model if film is None else Projector(model, film)
            env = _theater(world, episodes, reward=reward, temperature=0.0)
        except ValueError:  # a learned variant, and a world model that never learned it
            continue
        sums[reward] = np.sum([env.step(action)[1] for action in episodes.action.swapaxes(0, 1)], axis=0)
    return sums


def _theater(model: Any, episodes: EpisodeDataset, start: int = 0, **kwargs: Any) -> NicoLDreamVectorEnv:
    """Makes a batch of dreams, one for each episode, and resets them to a frame of it."""
    rows = np.arange(len(episodes))
    pictures = np.array(episodes.images[:, start]), episodes.proprio[:, start], np.array(episodes.goal_image)
    states = of_pictures(*pictures, episodes.task, episodes.instruction)
    env = NicoLDreamVectorEnv(
        len(rows), "all", world_model=model, initial_states=states, autoreset_mode=AutoresetMode.DISABLED, **kwargs
    )
    env.reset(seed=0, options={"start": rows})
    return env
