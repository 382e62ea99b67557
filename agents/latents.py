"""Recorded episodes as a world model's latents, encoded once and held in memory."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dream_env.language import embed
from dream_env.world_models.protocol import WorldModel


class Episodes(Protocol):
    """What is needed of `dream_env.episodes.EpisodeDataset`: arrays of N episodes of T steps."""

    images: np.ndarray
    goal_image: np.ndarray
    proprio: np.ndarray
    action: np.ndarray
    instruction: np.ndarray
    task: np.ndarray
    colors: np.ndarray
    condition: np.ndarray
    objects: np.ndarray
    target: np.ndarray
    hand: np.ndarray


class Latents(NamedTuple):
    """N episodes of T steps, encoded.

    Attributes:
        tokens: `(N, T + 1, tokens, C)` float16.
        goal: Tokens of the goal pictures, `(N, tokens, C)` float16.
        proprio: `(N, T + 1, 4)` float32.
        action: `(N, T, 4)` float32.
        instruction: Sentence embeddings, `(N, 64)` float32.
        condition: Whether the task's condition holds, `(N, T + 1)` float32, 0 or 1.
        target: World x, y of the named cube, `(N, T + 1, 2)` cm; for probes only.
        hand: World x, y, z of the grasp point, `(N, T + 1, 3)` cm; for probes only.
    """

    tokens: Tensor
    goal: Tensor
    proprio: Tensor
    action: Tensor
    instruction: Tensor
    condition: Tensor
    target: Tensor
    hand: Tensor

    def take(self, rows: Tensor) -> Latents:
        """Returns the episodes at `rows`."""
        return Latents(*(part[rows] for part in self))


@torch.inference_mode()
def encode_episodes(model: WorldModel, episodes: Episodes) -> Latents:
    """Encodes every frame and goal picture of some episodes."""
    count = len(episodes.images)
    proprio = torch.from_numpy(np.asarray(episodes.proprio, np.float32))

    def tokens(images: np.ndarray) -> Tensor:
        pictures = torch.from_numpy(np.array(images))
        return model.encode(pictures, torch.zeros(len(pictures), proprio.shape[-1])).tokens.half()

    frames = [tokens(episodes.images[n]) for n in tqdm(range(count), "encode", unit="episode")]
    named = episodes.objects[np.arange(count), :, episodes.target, :2]
    words = np.stack([embed(str(sentence)) for sentence in episodes.instruction])
    parts = Latents(
        tokens=torch.stack(frames),
        goal=tokens(episodes.goal_image),
        proprio=proprio,
        action=torch.from_numpy(np.asarray(episodes.action, np.float32)),
        instruction=torch.from_numpy(words),
        condition=torch.from_numpy(np.asarray(episodes.condition, np.float32)),
        target=torch.from_numpy(np.asarray(100 * named, np.float32)),
        hand=torch.from_numpy(np.asarray(100 * episodes.hand, np.float32)),
    )
    return Latents(*(part.clone() for part in parts))  # out of inference mode: for training
