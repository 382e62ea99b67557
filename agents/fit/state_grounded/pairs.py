"""Pairs of a frame and a goal with the true control steps between them: what the metric learns from."""

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
"""Stands for the goal picture of the episode where a pair names its goal by a frame."""
HINDSIGHT = 0.25
"""Share of the pairs whose goal is a frame."""
MIXED = 12
"""Mixed states of each episode."""


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


class Mixed(NamedTuple):
    """A batch of states that never were, and the goal pictures of their episodes.

    Attributes:
        episode: Episodes, `(B,)`.
        hand: Frames that show where the hand is, `(B,)`.
        cubes: Frames that show where the cubes are, `(B,)`; nothing is held in them.
        steps: True steps to go to the goal picture, `(B,)` float32.
    """

    episode: Tensor
    hand: Tensor
    cubes: Tensor
    steps: Tensor


class Pairs:
    """Source of pairs from recorded episodes.

    Most of them ask how far a frame is from the episode's goal picture. The others are hindsight: wherever some task's
    condition came to hold for some cube, a frame that shows it becomes the goal of the episode's frames. So pictures of
    the same hand over another cube, and of an empty hand beside one that holds, are goals some steps apart. States that
    are mixed of the hand in one frame and the cubes in another, often the hand where it ends and the cubes where
    they began, teach that a hand in the right place is not the task done.

    Args:
        episodes: The episodes.
        rows: Those that are used, `(N,)`; a pair names them by their place in it.
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
    """Returns the steps to go of episodes `rows` `(N,)`, each for its own task and cube, `(N, T + 1)` float32."""
    names = list(TASKS)
    cells = [(n, names.index(str(episodes.task[n])), int(episodes.target[n])) for n in rows.tolist()]
    steps = [_steps(episodes, *cell) for cell in progress_bar(cells, "steps to go", unit="episode")]
    return torch.from_numpy(np.stack(steps))


def _mixed(episodes: Episodes, rows: np.ndarray) -> Mixed:
    """Mixes states of episodes `rows`, `MIXED` of each, in half of which the hand is where it ends."""
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
    """Returns the steps to go `(T + 1,)` of an episode, for any task and cube."""
    to_go = list(TASKS.values())[task].steps_to_go
    return np.array([to_go(now) for now in sim_states(episodes, n, cube)], np.float32)
