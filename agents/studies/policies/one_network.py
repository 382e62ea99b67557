"""Rows of the study whose policy is a world model too: `unified`, its control, and `fused`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dream_env.agents.fit.unified.arguments import Arguments as Fit
from dream_env.agents.fit.unified.command import fit
from dream_env.agents.studies.policies.arguments import SIZES, Arguments

if TYPE_CHECKING:
    from dream_env.agents.studies.policies.rows import Cell

TEACHER = "plain, dream RL"
"""Row whose policy a fused network replaces, and is taught by."""


def unified(cell: Cell, args: Arguments) -> float:
    """Fits next tokens of all episodes and actions of demonstrations together, and returns the CPU minutes.

    Actions look at the embedding beside the tokens, as every other row's do: it knows which slot a sentence names,
    which a few demonstrations do not teach.
    """
    return _fitted(cell, args, sees=True)


def alone(cell: Cell, args: Arguments) -> float:
    """Fits the same network to actions alone, and returns the CPU minutes."""
    return _fitted(cell, args, token_weight=0.0, sees=True)


def fused(cell: Cell, args: Arguments) -> float:
    """Fits one network to the practised policy and to recorded and dreamt steps; returns the CPU minutes of both.

    Actions look at the embedding, as the teacher's do: without, too many grasps are lost in so few updates.
    """
    from dream_env.agents.studies.policies.rows import made

    teacher = replace(cell, row=TEACHER)
    minutes = made(teacher, args)
    return minutes + _fitted(cell, args, teacher_policy=str(teacher.folder(args.group) / "policy"), sees=True)


def _fitted(cell: Cell, args: Arguments, **options: Any) -> float:
    from dream_env.agents.studies.policies.rows import episodes_of

    given: dict[str, Any] = {"per_task": cell.demos, "seed": cell.seed, "updates": args.updates, "goal": args.goal}
    given |= {"imitates": "expert", "tasks": args.tasks, "base": args.world_model, "examples": SIZES["batch"]}
    form = Fit(data=args.data[:1], out=cell.folder(args.group) / "policy", **given, **options)
    episodes, before = episodes_of(cell, args), time.process_time()
    fit(form, episodes)
    return (time.process_time() - before) / 60
