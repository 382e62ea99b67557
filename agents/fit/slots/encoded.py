"""Encodes recorded episodes as slots; gaps in which a slot is hidden are interpolated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.fit.recorded import Recorded
from dream_env.data.episodes import EpisodeDataset
from dream_env.progress import progress_bar
from dream_env.world_models.pictures import resized
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES, SEEN, SIZE

CHUNK = 500
"""Number of frames that are encoded at a time."""


def pictures(data: EpisodeDataset, frames: np.ndarray, side: int) -> Tensor:
    """Returns the images of all cameras at frames `(N,)`, resized, `(N, C, side, side, 3)` uint8."""
    names = data.spec.pictures
    found = torch.empty(len(frames), len(names), side, side, 3, dtype=torch.uint8)
    for part in np.array_split(np.arange(len(frames)), max(1, len(frames) // CHUNK)):
        for camera, name in enumerate(names):
            images = np.array(data.observation[name][frames[part]])
            found[part, camera] = resized(torch.from_numpy(images), side)
    return found


@torch.no_grad()
def encoded(model: SlotModel, data: EpisodeDataset) -> Recorded:
    """Encodes every frame as slots.

    Returns:
        Episodes whose observations are the robot's vectors by name; `slots` `(F, K, C * FEATURES)`, interpolated where
        they are hidden; and `visible` `(F, K, C)`, True where they are visible.
    """
    model.eval()
    slots = torch.cat(list(_chunks(model, data))).unflatten(-1, (model.cameras, FEATURES))
    visible = slots[..., SEEN] > 0
    first, last = (torch.from_numpy(part) for part in (data.offsets[:-1], data.offsets[1:] - 1))
    fill(slots, visible, first, last)
    terminated = torch.zeros(len(slots))
    terminated[last - 1] = torch.from_numpy(data.terminated).float()
    seen = {name: torch.from_numpy(np.array(data.observation[name])) for name in data.spec.vectors}
    reward = None if data.reward is None else torch.from_numpy(data.reward)
    seen |= {"slots": slots.flatten(2), "visible": visible}
    return Recorded(seen, torch.from_numpy(data.action), reward, terminated, first, last)


def _chunks(model: SlotModel, data: EpisodeDataset) -> Iterator[Tensor]:
    for i in progress_bar(range(0, int(data.offsets[-1]), CHUNK), "read slots", unit="chunk"):
        frames = np.arange(i, min(i + CHUNK, int(data.offsets[-1])))
        images = pictures(data, frames, model.config.picture_size)
        yield model.encode(dict(zip(data.spec.pictures, images.unbind(1), strict=True)))["slots"]


def fill(slots: Tensor, visible: Tensor, first: Tensor, last: Tensor) -> None:
    """Fills in hidden slots in place, separately for each episode.

    Between two visible frames the features are interpolated linearly; after the last visible frame they stay constant.
    Frames before the first visible one are left at zero. The size of hidden slots is 0.

    Args:
        slots: `(F, K, C, FEATURES)`.
        visible: Whether they are visible, `(F, K, C)` bool.
        first: First frame of every episode, `(N,)`.
        last: Last frame of every episode, `(N,)`.
    """
    values, shown = slots.numpy(), visible.numpy()
    for begin, end in zip(first.tolist(), last.tolist(), strict=True):
        part, there = values[begin : end + 1], shown[begin : end + 1]
        for k, camera in zip(*np.nonzero(~there.all(0) & there.any(0)), strict=True):
            known = np.flatnonzero(there[:, k, camera])
            hidden = np.setdiff1d(np.arange(known[0], len(part)), known)
            for number in range(FEATURES):
                column = part[:, k, camera, number]
                column[hidden] = np.interp(hidden, known, column[known])
            part[hidden, k, camera, SIZE] = 0


@torch.no_grad()
def goals(model: SlotModel, data: EpisodeDataset, episodes: Recorded) -> dict[str, Tensor]:
    """Encodes the goal of every episode: its goal observation, or its last frame if the data have no goals."""
    if not data.goal:
        return {name: part[episodes.last] for name, part in episodes.observation.items() if name != "visible"}
    parts = []
    for i in range(0, len(data), CHUNK):
        given = {name: torch.from_numpy(np.array(values[i : i + CHUNK])) for name, values in data.goal.items()}
        parts.append({k: v for k, v in model.encode(given).items() if k != "memory"})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
