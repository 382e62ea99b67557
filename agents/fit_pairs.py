"""Pairs of a frame and a goal with the true control steps between them: what the metric learns from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dream_env.agents.hindsight import situations
from dream_env.agents.latents import Episodes
from dream_env.contract import HOLD_STEPS
from dream_env.tasks import TASKS

PICTURE = -1
"""Stands for the goal picture of the episode where a pair names its goal by a frame."""
HINDSIGHT = 0.25
"""Share of the pairs whose goal is a frame."""


class Pair(NamedTuple):
    """A batch of pairs, each within one episode.

    Attributes:
        episode: Episodes, `(B,)`.
        frame: Frames, `(B,)`.
        goal: Frames that show the goal, `(B,)`, or `PICTURE`.
        steps: True steps to go, `(B,)` float32.
    """

    episode: Tensor
    frame: Tensor
    goal: Tensor
    steps: Tensor


class Pairs:
    """Source of pairs from recorded episodes.

    Most of them ask how far a frame is from the episode's goal picture. The others are hindsight: wherever some task's
    condition came to hold for some cube, a frame that shows it becomes the goal of the episode's frames. So pictures of
    the same hand over another cube, and of an empty hand beside one that holds, are goals some steps apart.

    Args:
        episodes: The episodes.
        rows: Those that are used, `(N,)`; a pair names them by their place in it.
        conditions: Whether each task's condition holds for each cube, `(episodes, T + 1, tasks, cubes)`, see
            `dream_env.agents.hindsight.Hindsight`.

    Attributes:
        own: Steps to go to the goal picture, `(N, T + 1)`.
    """

    def __init__(self, episodes: Episodes, rows: Tensor, conditions: Tensor) -> None:
        self.own = own_steps(episodes, rows)
        came = conditions[rows].any(1) & ~conditions[rows, 0]
        first = conditions[rows].int().argmax(1) + HOLD_STEPS - 1
        cells, goals, steps = [], [], []
        for n, task, cube in tqdm(came.nonzero().tolist(), "hindsight goals", unit="goal"):
            goal = int(first[n, task, cube])
            if goal < conditions.shape[1] and conditions[rows[n], goal, task, cube]:
                cells.append(n)
                goals.append(goal)
                steps.append(_steps(episodes, int(rows[n]), task, cube))
        self._cells, self._goals = torch.tensor(cells, dtype=torch.long), torch.tensor(goals, dtype=torch.long)
        self._steps = torch.from_numpy(np.array(steps, np.float32).reshape(len(cells), conditions.shape[1]))

    def draw(self, count: int, generator: torch.Generator) -> Pair:
        """Draws a batch of pairs."""
        episodes, frames = self.own.shape
        episode = torch.randint(episodes, (count,), generator=generator)
        frame = torch.randint(frames, (count,), generator=generator)
        goal, steps = torch.full((count,), PICTURE), self.own[episode, frame]
        if len(self._cells):
            hindsight = torch.rand(count, generator=generator) < HINDSIGHT
            cell = torch.randint(len(self._cells), (count,), generator=generator)
            episode = torch.where(hindsight, self._cells[cell], episode)
            goal = torch.where(hindsight, self._goals[cell], goal)
            steps = torch.where(hindsight, self._steps[cell, frame], steps)
        return Pair(episode, frame, goal, steps)


def own_steps(episodes: Episodes, rows: Tensor) -> Tensor:
    """Returns the steps to go of episodes `rows` `(N,)`, each for its own task and cube, `(N, T + 1)` float32."""
    names = list(TASKS)
    cells = [(n, names.index(str(episodes.task[n])), int(episodes.target[n])) for n in rows.tolist()]
    steps = [_steps(episodes, *cell) for cell in tqdm(cells, "steps to go", unit="episode")]
    return torch.from_numpy(np.stack(steps))


def _steps(episodes: Episodes, n: int, task: int, cube: int) -> np.ndarray:
    """Returns the steps to go `(T + 1,)` of an episode, for any task and cube."""
    to_go = list(TASKS.values())[task].steps_to_go
    return np.array([to_go(now) for now in situations(episodes, n, cube)], np.float32)
