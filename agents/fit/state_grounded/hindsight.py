"""Every recorded frame answers for every task and every cube, not only for the one that was asked for.

The success head learns from these questions too (hindsight relabeling: Andrychowicz et al. 2017): that a cube is held
is success for "lift the red cube" and failure for "lift the blue one", and only the words tell them apart.
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
"""What can be asked of a frame: tasks whose condition can be told without goals and speeds."""


class Hindsight:
    """Questions about recorded frames, with their true answers.

    Args:
        episodes: The episodes, N of T steps.
        embed: Embeds a sentence.

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
        """Asks about frames t of episodes n, half of the time the question that was asked in physics.

        Args:
            n: Episodes `(B,)`.
            t: Frames `(B,)`.
            recolored: By how many places the colors of their cubes were moved, `(B,)`, see
                `dream_env.agents.nicol.encoded_dataset.recolor`.
            generator: Source of chance.

        Returns:
            Sentence embeddings `(B, 64)` and answers `(B,)`, 0 or 1.
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
    """Returns the answers `(T + 1, tasks, cubes)` for one episode."""
    answers = np.zeros((len(episodes.hand[n]), len(STANDARD), episodes.objects.shape[2]), bool)
    for cube in range(answers.shape[2]):
        for t, now in enumerate(sim_states(episodes, n, cube)):
            answers[t, :, cube] = [task.condition(now) for task in QUESTIONS]
    return answers


def sim_states(episodes: Episodes, n: int, cube: int) -> Iterator[SimState]:
    """Yields the T + 1 states of the simulator in an episode, as if a cube had been named."""
    setpoints = denormalize(episodes.proprio[n])
    for objects, hand, setpoint in zip(episodes.objects[n], episodes.hand[n], setpoints, strict=True):
        yield SimState(objects, cube, hand, setpoint, bool(in_hand(objects[cube], hand)))
