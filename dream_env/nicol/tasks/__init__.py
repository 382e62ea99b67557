"""Tasks at NICOL's table: prompts, success and scripted experts; one task, one file."""

from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from dream_env.language import embed
from dream_env.nicol.language import Split, color_of
from dream_env.nicol.tasks.lift import Lift
from dream_env.nicol.tasks.push import Push
from dream_env.nicol.tasks.reach import Reach
from dream_env.nicol.tasks.situation import SimState, Task

TASKS: dict[str, Task] = {task.name: task for task in (Reach(), Push(), Lift())}
"""Every task by its name."""
TaskName = Literal["reach", "push", "lift", "all"]
"""What the commands' `--task` takes: a task, or all of them in turn."""


def task_of(sentence: str) -> str:
    """Returns the task that a sentence asks for: that of the sentence of the grammars which it is most like.

    Args:
        sentence: English that names one color.

    Raises:
        ValueError: If it names no color, or more than one.
    """
    names, known = _sentences(color_of(sentence))
    return names[int((known @ embed(sentence)).argmax())]


@lru_cache
def _sentences(color: str) -> tuple[list[str], np.ndarray]:
    """Returns the task and the embedding `(S, 64)` of every sentence about a color."""
    splits = get_args(Split)
    said = [(name, s) for name, task in TASKS.items() for split in splits for s in task.grammar.sentences(color, split)]
    vectors = np.stack([embed(sentence) for _, sentence in said])
    return [name for name, _ in said], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


__all__ = ["TASKS", "Lift", "Push", "Reach", "SimState", "Task", "TaskName", "task_of"]
