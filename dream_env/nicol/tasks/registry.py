"""All tasks by name. To add a task, write its file and add an instance to `TASKS`."""

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
"""All tasks by name."""
STANDARD = ("reach", "push", "lift")
"""The tasks that "all" stands for. The list is fixed, so seeded episodes of "all" do not change with new tasks."""

if TYPE_CHECKING:
    TaskName = str
else:
    _NAMES = (*TASKS, "all")
    TaskName = Literal[_NAMES]
"""Values of the commands' `--task`: a task, or "all" for the standard tasks."""
