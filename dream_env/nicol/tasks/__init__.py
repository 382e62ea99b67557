"""NICOL's tasks: instructions, success conditions and scripted experts; one file per task, listed in `registry`."""

from dream_env.nicol.tasks.arrange import Arrange
from dream_env.nicol.tasks.lift import Lift
from dream_env.nicol.tasks.lift_bar import LiftBar
from dream_env.nicol.tasks.place import Place
from dream_env.nicol.tasks.push import Push
from dream_env.nicol.tasks.reach import Reach
from dream_env.nicol.tasks.registry import STANDARD, TASKS, TaskName
from dream_env.nicol.tasks.sentences import task_of
from dream_env.nicol.tasks.stack import Stack
from dream_env.nicol.tasks.task import SimState, Task

__all__ = [
    "STANDARD",
    "TASKS",
    "Arrange",
    "Lift",
    "LiftBar",
    "Place",
    "Push",
    "Reach",
    "SimState",
    "Stack",
    "Task",
    "TaskName",
    "task_of",
]
