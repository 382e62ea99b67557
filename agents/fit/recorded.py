"""Recorded episodes of any length as flat arrays, and batches of windows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env.data.episodes import EpisodeDataset
from dream_env.world_models.dynamics import resized


class Window(NamedTuple):
    """Steps that follow each other, of B episodes; W steps, W + 1 frames.

    Attributes:
        frame: Indices of the frames, `(B, W + 1)`; the last one repeats where an episode has ended.
        action: Actions, `(B, W, A)`, or `(B, W)` where they are discrete.
        reward: Rewards, `(B, W)`.
        terminated: Whether the episode ended by itself with the step, `(B, W)` float.
        known: Whether there was such a step, `(B, W)` bool.
    """

    frame: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    known: Tensor


@dataclass
class Recorded:
    """F frames of episodes, one after another.

    Attributes:
        observation: Parts of the observations by name, `(F, ...)`.
        action: What was done in each frame, `(F, A)` float32 or `(F,)` int64; 0 in last frames.
        reward: What it brought, `(F,)`; None if no rewards were recorded.
        terminated: Whether the episode ended by itself with it, `(F,)` float.
        first: First frame of every episode, `(N,)`.
        last: Last frame of every episode, `(N,)`.
    """

    observation: dict[str, Tensor]
    action: Tensor
    reward: Tensor | None
    terminated: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, data: EpisodeDataset, picture_size: int) -> Recorded:
        """Takes over a data set, with its pictures resized to a side of so many pixels."""
        first, last = (torch.from_numpy(part) for part in (data.offsets[:-1], data.offsets[1:] - 1))
        terminated = torch.zeros(int(data.offsets[-1]))
        terminated[last - 1] = torch.from_numpy(data.terminated).float()
        seen = {name: torch.from_numpy(np.array(data.observation[name])) for name in data.spec.vectors}
        for name in data.spec.pictures:  # part by part: large ones may not fit into memory as they are
            chunks = [data.observation[name][i : i + 500] for i in range(0, len(terminated), 500)]
            seen[name] = torch.cat([resized(torch.from_numpy(np.array(chunk)), picture_size) for chunk in chunks])
        reward = None if data.reward is None else torch.from_numpy(data.reward)
        return cls(seen, torch.from_numpy(data.action), reward, terminated, first, last)

    def take(self, rows: np.ndarray) -> Recorded:
        """Returns the episodes at some rows."""
        first, last = self.first[rows], self.last[rows]
        frames = torch.cat([torch.arange(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)])
        ends = (last - first + 1).cumsum(0)
        return Recorded(
            observation={name: part[frames] for name, part in self.observation.items()},
            action=self.action[frames],
            reward=None if self.reward is None else self.reward[frames],
            terminated=self.terminated[frames],
            first=ends - (last - first + 1),
            last=ends - 1,
        )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.action)

    def __post_init__(self) -> None:
        """Finds the frames in which something was done, and the last frame of each one's episode."""
        acted = torch.ones(len(self.action), dtype=torch.bool)
        acted[self.last] = False
        self.acted = acted.nonzero()[:, 0]
        self.end = self.last.repeat_interleave(self.last - self.first + 1)

    def windows(self, start: Tensor, steps: int) -> Window:
        """Returns the windows of a number of steps that begin in frames `(B,)`."""
        reach = start[:, None] + torch.arange(steps + 1)
        frame = torch.minimum(reach, self.end[start][:, None])
        before, known = frame[:, :-1], reach[:, :-1] < self.end[start][:, None]
        reward = torch.zeros(before.shape) if self.reward is None else self.reward[before]
        return Window(frame, self.action[before], reward, self.terminated[before], known)

    def draw(self, count: int, steps: int, generator: torch.Generator, starts: float = 0.2) -> Window:
        """Draws windows that begin anywhere, a share `starts` of them with their episodes."""
        anywhere = self.acted[torch.randint(len(self.acted), (count,), generator=generator)]
        begun = self.first[torch.randint(len(self.first), (count,), generator=generator)]
        chosen = torch.rand(count, generator=generator) < starts
        return self.windows(torch.where(chosen, begun, anywhere), steps)
