"""Recorded episodes as slots: what is hidden for a while is filled in between the times at which it was seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.fit.recorded import Recorded
from dream_env.data.episodes import EpisodeDataset
from dream_env.progress import progress_bar
from dream_env.world_models.dynamics import resized
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES, SEEN, SIZE

CHUNK = 500
"""Pictures that are held at a time."""


def pictures(data: EpisodeDataset, frames: np.ndarray, side: int) -> Tensor:
    """Returns the pictures of all cameras at frames `(N,)`, resized, `(N, C, side, side, 3)` uint8."""
    names = data.spec.pictures
    found = torch.empty(len(frames), len(names), side, side, 3, dtype=torch.uint8)
    for part in np.array_split(np.arange(len(frames)), max(1, len(frames) // CHUNK)):
        for camera, name in enumerate(names):
            some = np.array(data.observation[name][frames[part]])
            found[part, camera] = resized(torch.from_numpy(some), side)
    return found


@torch.no_grad()
def encoded(model: SlotModel, data: EpisodeDataset) -> Recorded:
    """Reads every frame into slots.

    Returns:
        Episodes whose observations are the robot's vectors by name; `slots` `(F, K, C * FEATURES)`, filled in where
        they are hidden; and `visible` `(F, K, C)`, whether they are not.
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
        some = pictures(data, frames, model.config.picture_size)
        yield model.encode(dict(zip(data.spec.pictures, some.unbind(1), strict=True)))["slots"]


def fill(slots: Tensor, visible: Tensor, first: Tensor, last: Tensor) -> None:
    """Fills in slots `(F, K, C, FEATURES)` where they are hidden, from `first` to `last` frames of episodes.

    Between two times of being seen along a line, after the last one where it was; before the first one nothing is
    known.
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
    """Encodes the goal of every episode: its goal's observation, or its last frame where there is none."""
    if not data.goal:
        return {name: part[episodes.last] for name, part in episodes.observation.items() if name != "visible"}
    parts = []
    for i in range(0, len(data), CHUNK):
        given = {name: torch.from_numpy(np.array(values[i : i + CHUNK])) for name, values in data.goal.items()}
        parts.append({k: v for k, v in model.encode(given).items() if k != "memory"})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
