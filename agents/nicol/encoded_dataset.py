"""Recorded episodes as a world model's latents, encoded once and held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dream_env.language import embedder
from dream_env.nicol.language import COLORS
from dream_env.nicol.tasks.task import in_hand
from dream_env.nicol.world_model.state_estimator import CENTER, SCALE
from dream_env.progress import progress_bar

_GRAY = 24
"""Spread of the channels up to which a pixel counts as gray; table and robot have 8 at most, cubes 60 or more."""


class Episodes(Protocol):
    """What is needed of `dream_env.nicol.episodes.EpisodeDataset`: arrays of N episodes of T steps."""

    kind: np.ndarray
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


class EncodedDataset(NamedTuple):
    """N episodes of T steps, encoded.

    Attributes:
        tokens: `(N, T + 1, tokens, C)` float16.
        goal: Tokens of the goal pictures, `(N, tokens, C)` float16.
        proprio: `(N, T + 1, 4)` float32.
        action: `(N, T, 4)` float32.
        instruction: Sentence embeddings, `(N, 64)` float32.
        condition: Whether the task's condition holds, `(N, T + 1)` float32, 0 or 1.
        cubes: World x, y, z of the cube of each color, `(N, T + 1, colors, 3)` cm, NaN for a color not on the table;
            this and the rest are what physics knows, and no policy sees.
        named: Color that the instruction names, `(N,)` int64.
        hand: World x, y, z of the grasp point, `(N, T + 1, 3)` cm.
        held: Whether the hand, at least half closed, holds the cube of each color off the table,
            `(N, T + 1, colors)` bool; an open hand may tip a cube up, but does not hold it.
    """

    tokens: Tensor
    goal: Tensor
    proprio: Tensor
    action: Tensor
    instruction: Tensor
    condition: Tensor
    cubes: Tensor
    named: Tensor
    hand: Tensor
    held: Tensor

    @property
    def present(self) -> Tensor:
        """Whether a cube of each color is on the table, `(N, T + 1, colors)` bool."""
        return ~self.cubes[..., 0].isnan()

    def take(self, rows: Tensor | slice) -> EncodedDataset:
        """Returns the episodes at `rows`: indices, or a slice, which copies nothing."""
        return EncodedDataset(*(part[rows] for part in self))

    @staticmethod
    def concatenate(parts: Sequence[EncodedDataset]) -> EncodedDataset:
        """Puts episodes one after the other."""
        return EncodedDataset(*map(torch.cat, zip(*parts, strict=True)))


class Truth(NamedTuple):
    """What physics knows of the frames of N episodes; each as in `EncodedDataset`."""

    proprio: Tensor
    cubes: Tensor
    hand: Tensor
    held: Tensor


def recorded_truth(episodes: Episodes, which: np.ndarray, recolored: int = 0) -> Truth:
    """Gathers what physics knows of the episodes `which` `(N,)`, their cubes `recolored`, see `encode_episodes`."""
    proprio = torch.from_numpy(np.asarray(episodes.proprio[which], np.float32))
    colors, objects = (episodes.colors[which] + recolored) % len(COLORS), episodes.objects[which]
    cubes = np.full((*objects.shape[:2], len(COLORS), 3), np.nan, np.float32)
    for i in range(objects.shape[2]):
        cubes[np.arange(len(which)), :, colors[:, i]] = objects[:, :, i]
    hand = np.asarray(episodes.hand[which], np.float32)
    held = torch.from_numpy(in_hand(cubes, hand[:, :, None])) & (proprio[..., 3:] >= 0)
    return Truth(proprio, torch.from_numpy(100 * cubes), torch.from_numpy(100 * hand), held)


def true_object_state(frames: EncodedDataset | Truth) -> tuple[Tensor, Tensor]:
    """Returns what a `dream_env.nicol.world_model.state_estimator.StateEstimator` should estimate of recorded frames.

    Returns:
        The object states, `(N, T + 1, R)`, and which of them exist: a color that is not on the table has no place.
    """
    held, present = frames.held[..., None].float(), ~frames.cubes[..., :1].isnan()
    cubes = torch.cat([frames.cubes.nan_to_num() / 100, held, present.float()], dim=-1)
    closing = (frames.proprio[..., 3:] + 1) / 2
    numbers = torch.cat([frames.hand / 100, closing, cubes.flatten(2)], dim=-1)
    placed = torch.cat([present.expand(*present.shape[:3], 4), torch.ones_like(present)], dim=-1)
    known = torch.cat([torch.ones(*closing.shape[:2], 4, dtype=torch.bool), placed.flatten(2)], dim=-1)
    return (numbers - torch.tensor(CENTER)) / torch.tensor(SCALE), known


@torch.inference_mode()
def encode_episodes(model: Any, episodes: Episodes, rows: Tensor | None = None, recolored: int = 0) -> EncodedDataset:
    """Encodes every frame and goal picture of some episodes.

    Args:
        model: The world model that sees them.
        episodes: Where they are.
        rows: Which ones, `(N,)`; by default all.
        recolored: Gives every cube the color that comes this number of places later, see `recolor`. The sentences stay,
            so they name another cube.
    """
    which = np.arange(len(episodes.images)) if rows is None else rows.numpy()
    known = recorded_truth(episodes, which, recolored)

    def tokens(images: np.ndarray) -> Tensor:
        pictures = torch.from_numpy(recolor(np.array(images), recolored))
        return model.encode({"pixels": pictures})["tokens"].half()

    watch = getattr(model, "watch", None)  # of models that remember what is hidden
    frames = []
    for i, n in enumerate(progress_bar(which, "encode", unit="episode")):
        if watch is None:
            frames.append(tokens(episodes.images[n]))
        else:
            pictures = torch.from_numpy(recolor(np.array(episodes.images[n]), recolored))
            frames.append(watch(pictures, known.proprio[i]).half())
    named = (episodes.colors[which] + recolored)[np.arange(len(which)), episodes.target[which]] % len(COLORS)
    words = np.stack([embedder(model)(str(sentence)) for sentence in episodes.instruction[which]])
    parts = EncodedDataset(
        tokens=torch.stack(frames),
        goal=tokens(episodes.goal_image[which]),
        proprio=known.proprio,
        action=torch.from_numpy(np.asarray(episodes.action[which], np.float32)),
        instruction=torch.from_numpy(words),
        condition=torch.from_numpy(np.asarray(episodes.condition[which], np.float32)),
        cubes=known.cubes,
        named=torch.from_numpy(np.asarray(named, np.int64)),
        hand=known.hand,
        held=known.held,
    )
    return EncodedDataset(*(part.clone() for part in parts))  # out of inference mode: for training


def recolor(images: np.ndarray, places: int) -> np.ndarray:
    """Draws cubes in other colors, as the camera would have seen them: how a color is lit depends on the face alone.

    Args:
        images: Pictures of the policy's camera, `(..., 64, 64, 3)` uint8. Only cubes are colored in them.
        places: Every color becomes the one that comes so many places later in `COLORS`, and the first after the last.

    Returns:
        Pictures of the same shape.
    """
    if places % len(COLORS) == 0:
        return images
    paint = np.array([rgba[:3] for rgba in COLORS.values()], np.float32)
    colored = np.ptp(images, axis=-1) > _GRAY
    seen = images[colored].astype(np.float32)
    shade = seen @ (paint / np.square(paint).sum(1, keepdims=True)).T
    color = (seen @ (paint / np.linalg.norm(paint, axis=1, keepdims=True)).T).argmax(1)
    painted = shade[np.arange(len(seen)), color, None] * paint[(color + places) % len(paint)]
    result = images.copy()
    result[colored] = painted.round().clip(0, 255).astype(np.uint8)
    return result
