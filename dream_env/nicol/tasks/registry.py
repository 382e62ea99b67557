"""Every task by its name: to add one, write its file and enter it in `TASKS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dream_env.nicol.tasks.arrange import Arrange
from dream_env.nicol.tasks.lift import Lift
from dream_env.nicol.tasks.lift_bar import LiftBar
from dream_env.nicol.tasks.place import Place
from dream_env.nicol.tasks.push import Push
from dream_env.nicol.tasks.reach import Reach
from dream_env.nicol.tasks.stack import Stack
from dream_env.nicol.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Reach(), Push(), Lift(), Place(), Stack(), Arrange(), LiftBar())}
"""Every task by its name."""
STANDARD = ("reach", "push", "lift")
"""The tasks that "all" stands for: seeded episodes of "all" stay what they are when another task is entered."""

if TYPE_CHECKING:
    TaskName = str
else:
    _NAMES = (*TASKS, "all")
    TaskName = Literal[_NAMES]
"""What the commands' `--task` takes: a task, or "all" for the standard ones in turn."""
