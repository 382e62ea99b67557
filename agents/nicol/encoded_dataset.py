"""Recorded episodes, encoded once to the latent tokens of a world model and held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dream_env.language import embedder
from dream_env.nicol.constants import IMAGE_SIZE
from dream_env.nicol.language import COLORS
from dream_env.nicol.tasks.task import in_hand
from dream_env.nicol.world_model.state_estimator import CENTER, SCALE
from dream_env.progress import progress_bar

_GRAY = 24
"""Largest difference between the channels of a pixel that counts as gray; table and robot have at most 8, cubes at
least 60."""


class Episodes(Protocol):
    """The attributes of `dream_env.nicol.episodes.EpisodeDataset` that are used here, for N episodes of T steps."""

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

    @property
    def checksum(self) -> int:
        """Checksum that other recordings do not have."""


class EncodedDataset(NamedTuple):
    """N episodes of T steps, encoded.

    Attributes:
        tokens: `(N, T + 1, tokens, C)` float16.
        goal: Tokens of the goal pictures, `(N, tokens, C)` float16.
        proprio: `(N, T + 1, 4)` float32.
        action: `(N, T, 4)` float32.
        instruction: Sentence embeddings, `(N, 64)` float32.
        condition: Whether the task's condition holds, `(N, T + 1)` float32, 0 or 1.
        cubes: x, y, z of the cube of each color, `(N, T + 1, colors, 3)` in cm, NaN for a color that is not on the
            table. This and the following attributes are the simulator's labels, which policies do not observe.
        named: Index of the target's color, `(N,)` int64.
        hand: x, y, z of the grasp point, `(N, T + 1, 3)` in cm.
        held: Whether the hand is at least half closed and holds the cube of each color off the table,
            `(N, T + 1, colors)` bool. An open hand may tip a cube up, but does not hold it.
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
        """Concatenates episodes."""
        return EncodedDataset(*map(torch.cat, zip(*parts, strict=True)))


class Truth(NamedTuple):
    """The simulator's labels of the frames of N episodes, in the formats of `EncodedDataset`."""

    proprio: Tensor
    cubes: Tensor
    hand: Tensor
    held: Tensor


def recorded_truth(episodes: Episodes, which: np.ndarray, recolored: int = 0) -> Truth:
    """Returns the simulator's labels of the episodes with indices `which`, `(N,)`.

    For `recolored`, see `encode_episodes`.
    """
    proprio = torch.from_numpy(np.asarray(episodes.proprio[which], np.float32))
    colors, objects = (episodes.colors[which] + recolored) % len(COLORS), episodes.objects[which]
    cubes = np.full((*objects.shape[:2], len(COLORS), 3), np.nan, np.float32)
    for i in range(objects.shape[2]):
        cubes[np.arange(len(which)), :, colors[:, i]] = objects[:, :, i]
    hand = np.asarray(episodes.hand[which], np.float32)
    held = torch.from_numpy(in_hand(cubes, hand[:, :, None])) & (proprio[..., 3:] >= 0)
    return Truth(proprio, torch.from_numpy(100 * cubes), torch.from_numpy(100 * hand), held)


def true_object_state(frames: EncodedDataset | Truth) -> tuple[Tensor, Tensor]:
    """Returns the targets of a `dream_env.nicol.world_model.state_estimator.StateEstimator` for recorded frames.

    Returns:
        The object states, `(N, T + 1, R)`, and which of their entries are defined, `(N, T + 1, R)` bool: for a color
        that is not on the table, only `present` is.
    """
    held, present = frames.held[..., None].float(), ~frames.cubes[..., :1].isnan()
    cubes = torch.cat([frames.cubes.nan_to_num() / 100, held, present.float()], dim=-1)
    closing = (frames.proprio[..., 3:] + 1) / 2
    numbers = torch.cat([frames.hand / 100, closing, cubes.flatten(2)], dim=-1)
    placed = torch.cat([present.expand(*present.shape[:3], 4), torch.ones_like(present)], dim=-1)
    known = torch.cat([torch.ones(*closing.shape[:2], 4, dtype=torch.bool), placed.flatten(2)], dim=-1)
    return (numbers - torch.tensor(CENTER)) / torch.tensor(SCALE), known


@torch.inference_mode()
def check_tokens(model: Any) -> None:
    """Raises ValueError if a world model describes pictures without tokens, which NICOL's VLA takes."""
    if "tokens" not in model.encode({"pixels": torch.zeros(1, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)}):
        raise ValueError(
            f"world_model of kind {model.kind!r} describes a picture without tokens; accepted: a state-grounded world "
            "model, or a policy that takes embeddings (`agents.clone --policy transformer`)"
        )


@torch.inference_mode()
def encode_episodes(model: Any, episodes: Episodes, rows: Tensor | None = None, recolored: int = 0) -> EncodedDataset:
    """Encodes every frame and every goal image of episodes.

    Args:
        model: The world model.
        episodes: The episodes.
        rows: Indices of the episodes to encode, `(N,)`; None for all.
        recolored: Shift of the cubes' color indices, see `recolor`. The instructions are not changed, so they then name
            another color than that of the target.
    """
    which = np.arange(len(episodes.images)) if rows is None else rows.numpy()
    known = recorded_truth(episodes, which, recolored)

    def tokens(images: np.ndarray) -> Tensor:
        pictures = torch.from_numpy(recolor(np.array(images), recolored))
        return model.encode({"pixels": pictures})["tokens"].half()

    watch = getattr(model, "watch", None)  # models with memory encode an episode as a sequence
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
    return EncodedDataset(*(part.clone() for part in parts))  # inference tensors cannot be used in training


def recolor(images: np.ndarray, places: int) -> np.ndarray:
    """Changes the colors of the cubes in camera images.

    The result is what the camera would have recorded, because the shading of a cube's face does not depend on its
    color.

    Args:
        images: Images of the policy camera, `(..., 64, 64, 3)` uint8, in which only cubes are colored.
        places: Shift of the color indices: each color is replaced by the one `places` later in `COLORS`, cyclically.

    Returns:
        Images of the same shape.
    """
    if places % len(COLORS) == 0:
        return images
    paint = np.array([rgba[:3] for rgba in COLORS.values()], np.float32)
    colored = np.ptp(images, axis=-1) > _GRAY
    pixels = images[colored].astype(np.float32)
    shade = pixels @ (paint / np.square(paint).sum(1, keepdims=True)).T
    color = (pixels @ (paint / np.linalg.norm(paint, axis=1, keepdims=True)).T).argmax(1)
    painted = shade[np.arange(len(pixels)), color, None] * paint[(color + places) % len(paint)]
    result = images.copy()
    result[colored] = painted.round().clip(0, 255).astype(np.uint8)
    return result
