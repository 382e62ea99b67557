"""Tasks with goal pictures, learned without simulator labels: `python -m agents.studies.goal_tasks`.

With a world model of `agents.fit --model slots`, the study clones a few demonstrations and practices in the dream. The
controls see no goal picture or the goal picture of another scene. All policies are evaluated in physics. Finished parts
are kept in --work; running the same command again resumes an interrupted study.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch

from dream_env.agents.eval.cells import play_each
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.goal_tasks.arguments import Arguments
from dream_env.agents.studies.goal_tasks.policies import cells, play
from dream_env.agents.studies.goal_tasks.report import markdown, reduce, summarize, table
from dream_env.files import write_json, write_text
from dream_env.world_models import checkpoint


def report(args: Arguments) -> str:
    """Writes goal_tasks.json and goal_tasks.md from all finished episodes, and returns the page.

    Raises:
        FileNotFoundError: If there are no episodes.
    """
    found = {cell: episodes for cell in cells(args) if (episodes := cell.played(args.work))}
    if not found:
        raise FileNotFoundError(f"work={args.work} holds no episodes of these rows; run it without --only-report")
    folder = checkpoint.resolve(args.world_model)
    fitted = folder / "metrics.json"
    world = json.loads(fitted.read_text(encoding="utf-8")) if fitted.is_file() else {}
    world.pop("held_out_seeds", None)
    minutes = [cell.folder(args.work) / "minutes.json" for cell in found]
    about: dict[str, Any] = {
        "command": command_line("studies.goal_tasks", replace(args, only_report=False)),
        "checkpoint_sha256": checkpoint.sha256(folder),
        "steps": args.steps,
        "reward": args.reward,
        "cells": reduce(found),
        "table": table(found),
        "summary": summarize(found, args.demos[0]),
        "minutes": {
            f"{cell.row}, {cell.demos}, {cell.seed}": json.loads(file.read_text())
            for cell, file in zip(found, minutes, strict=True)
            if file.is_file()
        },
        "world_model": world,
    }
    write_json(args.out / "goal_tasks.json", about)
    text = markdown(about)
    write_text(args.out / "goal_tasks.md", text)
    return text


def study(args: Arguments) -> str:
    """Runs every unfinished cell, and returns the report.

    Raises:
        FileNotFoundError: If the data or the world model is missing.
        ValueError: If `args.out` cannot be written to, or `args.work` holds runs with other settings.
    """
    check_out(args.out)
    todo = [] if args.only_report else cells(args)
    return play_each(todo, lambda cell: play(cell, args), lambda: report(args))


def main(args: Arguments) -> None:
    """Runs the command."""
    torch.set_num_threads(1)
    print("\n" + study(args))
    print(f"Report: {(args.out / 'goal_tasks.md').resolve()}")
