"""Recorded episodes of any length as flat arrays, and batches of windows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env.data.episodes import EpisodeDataset
from dream_env.progress import progress_bar
from dream_env.world_models.pictures import resized

CHUNK = 500
"""Number of pictures that are resized at a time."""


class Window(NamedTuple):
    """A batch of B windows of W consecutive steps, with W + 1 frames each.

    Attributes:
        frame: Indices of the frames, `(B, W + 1)`; after the end of an episode its last frame is repeated.
        action: Actions, `(B, W, A)`, or `(B, W)` if they are discrete.
        reward: Rewards, `(B, W)`.
        terminated: Whether the episode terminated with the step, `(B, W)` float.
        known: Whether the step exists in the episode, `(B, W)` bool.
    """

    frame: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    known: Tensor


@dataclass
class Recorded:
    """F frames of N episodes, concatenated.

    Attributes:
        observation: Parts of the observations by name, `(F, ...)`.
        action: Action taken in each frame, `(F, A)` float32 or `(F,)` int64; an idle one in the last of an episode.
        reward: Reward of that action, `(F,)`; None if no rewards were recorded.
        terminated: Whether the episode terminated with that action, `(F,)` float.
        first: Index of the first frame of every episode, `(N,)`.
        last: Index of the last frame of every episode, `(N,)`.
    """

    observation: dict[str, Tensor]
    action: Tensor
    reward: Tensor | None
    terminated: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, data: EpisodeDataset, picture_size: int) -> Recorded:
        """Loads a dataset into memory, with its pictures resized to `picture_size` pixels."""
        first, last = (torch.from_numpy(part) for part in (data.offsets[:-1], data.offsets[1:] - 1))
        terminated = torch.zeros(int(data.offsets[-1]))
        terminated[last - 1] = torch.from_numpy(data.terminated).float()
        seen = {name: torch.from_numpy(np.array(data.observation[name])) for name in data.spec.vectors}
        for name in data.spec.pictures:  # in chunks: the pictures may not fit into memory at full size
            seen[name] = torch.empty(len(terminated), picture_size, picture_size, 3, dtype=torch.uint8)
            for i in progress_bar(range(0, len(terminated), CHUNK), f"resize {name}", unit="chunk", leave=False):
                chunk = torch.from_numpy(np.array(data.observation[name][i : i + CHUNK]))
                seen[name][i : i + CHUNK] = resized(chunk, picture_size)
        reward = None if data.reward is None else torch.from_numpy(data.reward)
        return cls(seen, torch.from_numpy(data.action), reward, terminated, first, last)

    def take(self, rows: np.ndarray) -> Recorded:
        """Returns the episodes with the given indices `(n,)`."""
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
        """Finds the frames that have an action, and for every frame the last frame of its episode."""
        acted = torch.ones(len(self.action), dtype=torch.bool)
        acted[self.last] = False
        self.acted = acted.nonzero()[:, 0]
        self.end = self.last.repeat_interleave(self.last - self.first + 1)

    def windows(self, start: Tensor, steps: int) -> Window:
        """Returns the windows of `steps` steps that start at frames `(B,)`."""
        reach = start[:, None] + torch.arange(steps + 1)
        frame = torch.minimum(reach, self.end[start][:, None])
        before, known = frame[:, :-1], reach[:, :-1] < self.end[start][:, None]
        reward = torch.zeros(before.shape) if self.reward is None else self.reward[before]
        return Window(frame, self.action[before], reward, self.terminated[before], known)

    def draw(self, count: int, steps: int, generator: torch.Generator, starts: float = 0.2) -> Window:
        """Draws random windows; a share `starts` of them starts at the first frame of an episode."""
        anywhere = self.acted[torch.randint(len(self.acted), (count,), generator=generator)]
        begun = self.first[torch.randint(len(self.first), (count,), generator=generator)]
        chosen = torch.rand(count, generator=generator) < starts
        return self.windows(torch.where(chosen, begun, anywhere), steps)
