"""Tasks at NICOL's table: prompts, success and scripted experts; one task, one file."""

from dream_env.tasks.lift import Lift
from dream_env.tasks.push import Push
from dream_env.tasks.reach import Reach
from dream_env.tasks.situation import Situation, Task

TASKS: dict[str, Task] = {task.name: task for task in (Reach(), Push(), Lift())}
"""Every task by its name."""

__all__ = ["TASKS", "Lift", "Push", "Reach", "Situation", "Task"]
