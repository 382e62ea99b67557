"""Pairs of a frame and a goal with the true number of control steps between them, to train the metric."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.fit.state_grounded.hindsight import sim_states
from dream_env.agents.nicol.encoded_dataset import Episodes
from dream_env.nicol.constants import HOLD_STEPS, denormalize
from dream_env.nicol.tasks import TASKS, SimState
from dream_env.nicol.tasks.task import in_hand
from dream_env.progress import progress_bar

PICTURE = -1
"""Value of `Pair.goal` that stands for the goal picture of the episode."""
HINDSIGHT = 0.25
"""Share of the pairs whose goal is a frame (hindsight)."""
MIXED = 12
"""Number of mixed states per episode."""


class Pair(NamedTuple):
    """A batch of pairs, each within one episode.

    Attributes:
        episode: Indices of the episodes, `(B,)`.
        frame: Indices of the frames, `(B,)`.
        goal: Indices of the frames that show the goal, `(B,)`, or `PICTURE`.
        steps: True steps to go, `(B,)` float32.
    """

    episode: Tensor
    frame: Tensor
    goal: Tensor
    steps: Tensor


class Mixed(NamedTuple):
    """A batch of artificial states, each with the hand of one frame and the cubes of another frame of an episode.

    Attributes:
        episode: Indices of the episodes, `(B,)`; their goal pictures are the goals.
        hand: Indices of the frames from which the hand is taken, `(B,)`.
        cubes: Indices of the frames from which the cubes are taken, `(B,)`; nothing is held in them.
        steps: True steps to go to the goal picture, `(B,)` float32.
    """

    episode: Tensor
    hand: Tensor
    cubes: Tensor
    steps: Tensor


class Pairs:
    """Draws pairs from recorded episodes.

    In most pairs the goal is the episode's goal picture. The others use hindsight: if the condition of any task became
    true for any cube, a frame that shows this becomes the goal of the episode's frames. The metric therefore learns
    that the hand over different cubes, or an empty hand and one that holds a cube, are several steps apart.

    Mixed states combine the hand of one frame with the cubes of another, often the hand at the end of the episode with
    cubes that have not been moved. They teach that a hand in the right position does not complete the task.

    Args:
        episodes: The episodes.
        rows: Indices of the episodes that are used, `(N,)`; pairs refer to positions in this list.
        conditions: Whether each task's condition holds for each cube, `(episodes, T + 1, tasks, cubes)`, see
            `dream_env.agents.fit.state_grounded.hindsight.Hindsight`.

    Attributes:
        own: Steps to go to the goal picture, `(N, T + 1)`.
    """

    def __init__(self, episodes: Episodes, rows: Tensor, conditions: Tensor) -> None:
        self.own = own_steps(episodes, rows)
        came = conditions[rows].any(1) & ~conditions[rows, 0]
        first = conditions[rows].int().argmax(1) + HOLD_STEPS - 1
        cells, goals, steps = [], [], []
        for n, task, cube in progress_bar(came.nonzero().tolist(), "hindsight goals", unit="goal"):
            goal = int(first[n, task, cube])
            if goal < conditions.shape[1] and conditions[rows[n], goal, task, cube]:
                cells.append(n)
                goals.append(goal)
                steps.append(_steps(episodes, int(rows[n]), task, cube))
        self._cells, self._goals = torch.tensor(cells, dtype=torch.long), torch.tensor(goals, dtype=torch.long)
        self._steps = torch.from_numpy(np.array(steps, np.float32).reshape(len(cells), conditions.shape[1]))
        self._mixed = _mixed(episodes, rows.numpy())

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

    def mix(self, count: int, generator: torch.Generator) -> Mixed:
        """Draws a batch of mixed states."""
        drawn = torch.randint(len(self._mixed.steps), (count,), generator=generator)
        return Mixed(*(part[drawn] for part in self._mixed))


def own_steps(episodes: Episodes, rows: Tensor) -> Tensor:
    """Returns the steps to go `(N, T + 1)` float32 in episodes `rows` `(N,)`, each for its own task and cube."""
    names = list(TASKS)
    cells = [(n, names.index(str(episodes.task[n])), int(episodes.target[n])) for n in rows.tolist()]
    steps = [_steps(episodes, *cell) for cell in progress_bar(cells, "steps to go", unit="episode")]
    return torch.from_numpy(np.stack(steps))


def _mixed(episodes: Episodes, rows: np.ndarray) -> Mixed:
    """Returns `MIXED` mixed states from each of the episodes `rows`; half of them take the hand of the last frame."""
    rng = np.random.default_rng(0)
    last = episodes.hand.shape[1] - 1
    drawn = []
    for n, row in enumerate(progress_bar(rows.tolist(), "mixed states", unit="episode")):
        frames = zip(episodes.objects[row], episodes.hand[row], strict=True)
        free = [t for t, (objects, hand) in enumerate(frames) if not in_hand(objects, hand).any()]
        setpoints, target = denormalize(episodes.proprio[row]), int(episodes.target[row])
        task = TASKS[str(episodes.task[row])]
        for i in range(MIXED if free else 0):
            cubes, hand = int(rng.choice(free)), last if i % 2 else int(rng.integers(last + 1))
            objects, place = episodes.objects[row, cubes], episodes.hand[row, hand]
            now = SimState(objects, target, place, setpoints[hand], bool(in_hand(objects[target], place)))
            drawn.append((n, hand, cubes, task.steps_to_go(now)))
    episode, hand, cubes, steps = zip(*drawn, strict=True)
    return Mixed(torch.tensor(episode), torch.tensor(hand), torch.tensor(cubes), torch.tensor(steps))


def _steps(episodes: Episodes, n: int, task: int, cube: int) -> np.ndarray:
    """Returns the steps to go `(T + 1,)` in episode n for a given task and cube."""
    to_go = list(TASKS.values())[task].steps_to_go
    return np.array([to_go(now) for now in sim_states(episodes, n, cube)], np.float32)
