"""Hindsight labels: whether each recorded frame fulfils each task for each cube, not only the instructed one.

The success head is trained on these labels, too (hindsight relabelling: Andrychowicz et al. 2017). For example, a frame
in which the red cube is held is a success for "lift the red cube" and a failure for "lift the blue one"; only the
instruction distinguishes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.nicol.encoded_dataset import Episodes
from dream_env.checks import check_choice
from dream_env.language import embed
from dream_env.nicol.constants import denormalize
from dream_env.nicol.language import COLORS
from dream_env.nicol.tasks import STANDARD, TASKS, SimState
from dream_env.nicol.tasks.task import in_hand
from dream_env.progress import progress_bar

QUESTIONS = tuple(TASKS[name] for name in STANDARD)
"""Tasks for which frames are labelled: those whose condition does not depend on goals or velocities."""


class Hindsight:
    """Draws instructions for recorded frames, with true success labels.

    Args:
        episodes: N episodes of T steps.
        embed: Function that embeds a sentence.

    Attributes:
        conditions: Whether each task's condition holds for each cube, `(N, T + 1, tasks, cubes)` bool.
    """

    def __init__(self, episodes: Episodes, embed: Callable[[str], np.ndarray] = embed) -> None:
        count, frames = episodes.hand.shape[:2]
        self.conditions = torch.zeros((count, frames, len(STANDARD), episodes.objects.shape[2]), dtype=torch.bool)
        for n in progress_bar(range(count), desc="hindsight", unit="episode"):
            self.conditions[n] = torch.from_numpy(_conditions(episodes, n))
        self.recorded = torch.from_numpy(np.asarray(episodes.condition)).bool()
        self.colors = torch.from_numpy(np.asarray(episodes.colors))
        for task in sorted(set(map(str, episodes.task))):
            check_choice("task of an episode", task, STANDARD)
        self.own_task = torch.tensor([STANDARD.index(str(task)) for task in episodes.task])
        self.own_cube = torch.from_numpy(np.asarray(episodes.target))
        sentences = [[task.grammar.sentences(color) for color in COLORS] for task in QUESTIONS]
        self.sentences = [[np.stack([embed(s) for s in cell]) for cell in row] for row in sentences]

    def ask(self, n: Tensor, t: Tensor, recolored: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws an instruction for frames t of episodes n: half of the time the episode's own task and cube.

        Args:
            n: Indices of the episodes, `(B,)`.
            t: Indices of the frames, `(B,)`.
            recolored: Number of places by which the colors of their cubes were shifted, `(B,)`, see
                `dream_env.agents.nicol.encoded_dataset.recolor`.
            generator: Random number generator.

        Returns:
            Sentence embeddings `(B, 64)` and success labels `(B,)`, 0 or 1.
        """
        own = torch.rand(len(n), generator=generator) < 0.5
        task = torch.where(own, self.own_task[n], torch.randint(len(STANDARD), n.shape, generator=generator))
        cube = torch.randint(self.conditions.shape[3], n.shape, generator=generator)
        cube = torch.where(own, self.own_cube[n], cube)
        noise = torch.rand(len(n), generator=generator).tolist()
        colors = (self.colors[n, cube] + recolored) % len(COLORS)
        cells = zip(task.tolist(), colors.tolist(), noise, strict=True)
        words = [self.sentences[k][c][int(u * len(self.sentences[k][c]))] for k, c, u in cells]
        answers = torch.where(own, self.recorded[n, t], self.conditions[n, t, task, cube])
        return torch.from_numpy(np.stack(words)), answers.float()


def _conditions(episodes: Episodes, n: int) -> np.ndarray:
    """Returns the labels `(T + 1, tasks, cubes)` of one episode."""
    answers = np.zeros((len(episodes.hand[n]), len(STANDARD), episodes.objects.shape[2]), bool)
    for cube in range(answers.shape[2]):
        for t, now in enumerate(sim_states(episodes, n, cube)):
            answers[t, :, cube] = [task.condition(now) for task in QUESTIONS]
    return answers


def sim_states(episodes: Episodes, n: int, cube: int) -> Iterator[SimState]:
    """Yields the T + 1 simulator states of an episode, with `cube` as the instructed cube."""
    setpoints = denormalize(episodes.proprio[n])
    for objects, hand, setpoint in zip(episodes.objects[n], episodes.hand[n], setpoints, strict=True):
        yield SimState(objects, cube, hand, setpoint, bool(in_hand(objects[cube], hand)))
