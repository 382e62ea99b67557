"""Rows of the study whose policy is also a world model: `unified`, its control, and `fused`."""

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
"""Row whose policy a fused network replaces and is trained to imitate."""


def unified(cell: Cell, args: Arguments) -> float:
    """Fits one network to the next tokens of all episodes and the actions of demonstrations; returns the CPU minutes.

    The action head also reads the embedding, as in every other row: it encodes which slot an instruction names, which a
    few demonstrations are not enough to learn.
    """
    return _fitted(cell, args, sees=True)


def alone(cell: Cell, args: Arguments) -> float:
    """Fits the same network to actions only, and returns the CPU minutes."""
    return _fitted(cell, args, token_weight=0.0, sees=True)


def fused(cell: Cell, args: Arguments) -> float:
    """Fits one network to the practiced policy and to recorded and dreamt steps.

    The action head reads the embedding, as the teacher does: without it, too many grasps fail after so few updates.

    Returns:
        The CPU minutes of the teacher and the fit.
    """
    from dream_env.agents.studies.policies.rows import made

    teacher = replace(cell, row=TEACHER)
    minutes = made(teacher, args)
    return minutes + _fitted(cell, args, teacher_policy=str(teacher.folder(args.group) / "policy"), sees=True)


def _fitted(cell: Cell, args: Arguments, **options: Any) -> float:
    from dream_env.agents.studies.policies.rows import episodes_of

    given: dict[str, Any] = {"per_task": cell.demos, "seed": cell.seed, "updates": args.updates, "goal": args.goal}
    given |= {"imitates": "expert", "tasks": args.tasks, "base": args.world_model, "examples": SIZES["batch"]}
    arguments = Fit(data=args.data[:1], out=cell.folder(args.group) / "policy", **given, **options)
    episodes, before = episodes_of(cell, args), time.process_time()
    fit(arguments, episodes)
    return (time.process_time() - before) / 60
