"""Compares rewards for practice in the dream: `python -m agents.studies.practice_rewards`.

Practice starts from the clone of a few demonstrations, with the same steps and the same learner for every reward. Each
policy is evaluated in physics and in the dream, on the same held-out starts. A cell (a reward, a number of
demonstrations, a training seed of practice) is one run. Finished cells are kept in --work; running the same command
again resumes an interrupted study. The report is written after every cell.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch

from dream_env.agents.eval.cells import play_each
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.practice_rewards.arguments import Arguments
from dream_env.agents.studies.practice_rewards.report import markdown, reduce, summarize, table
from dream_env.agents.studies.practice_rewards.rows import cells, play
from dream_env.files import write_json, write_text

SAME = ("steps", "episodes", "first_seed")
"""Settings that must be equal for tables of different numbers of demonstrations in the same report."""


def report(args: Arguments) -> str:
    """Writes practice_rewards.json and practice_rewards.md from all finished episodes, and returns the page.

    Results in the file for other numbers of demonstrations are kept.

    Raises:
        FileNotFoundError: If there are no episodes.
        ValueError: If the file has results for other numbers of steps, episodes or another first seed.
    """
    found = {cell: episodes for cell in cells(args) if (episodes := cell.played(args.work))}
    if not found:
        raise FileNotFoundError(f"work={args.work} holds no episodes of these rows; run it without --only-report")
    kinds = [path for cell in found if (path := cell.folder(args.work) / "kinds.json").is_file()]
    command = command_line("studies.practice_rewards", replace(args, only_report=False))
    about: dict[str, Any] = {
        "commands": {str(demos): command for demos in args.demos},
        "steps": args.steps,
        "episodes": args.episodes,
        "first_seed": args.first_seed,
        "cells": reduce(found),
        "summary": summarize(found),
        "rows": table(found),
        "kinds": json.loads(kinds[0].read_text()) if kinds else None,
    }
    file = args.out / "practice_rewards.json"
    if file.is_file():
        about = joined(json.loads(file.read_text(encoding="utf-8")), about)
    write_json(file, about)
    text = markdown(about)
    write_text(args.out / "practice_rewards.md", text)
    return text


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Returns a report extended by the results of an older one for other numbers of demonstrations.

    Raises:
        ValueError: If their steps, episodes or first seeds differ.
    """
    kept = {demos: command for demos, command in old["commands"].items() if demos not in new["commands"]}
    if not kept:
        return new
    for name in SAME:
        if old[name] != new[name]:
            raise ValueError(
                f"{name}={new[name]}, and the file in --out has {old[name]}; accepted: the same, or another --out"
            )
    result = new | {"commands": kept | new["commands"]}
    for name in ("cells", "rows"):
        result[name] = [one for one in old[name] if str(one["demos"]) in kept] + new[name]
    if old["summary"]["demos"] < new["summary"]["demos"]:
        result["summary"] = old["summary"]
    return result | {"kinds": new["kinds"] or old["kinds"]}


def study(args: Arguments) -> str:
    """Runs every unfinished cell, and returns the report.

    Raises:
        FileNotFoundError: If the data, the world model or a clone is missing.
        ValueError: If `args.out` cannot be written to, or `args.work` holds runs with other settings.
    """
    check_out(args.out)
    todo = [] if args.only_report else cells(args)
    return play_each(todo, lambda cell: play(cell, args), lambda: report(args))


def main(args: Arguments) -> None:
    """Runs the command."""
    torch.set_num_threads(1)
    print("\n" + study(args))
    print(f"Report: {(args.out / 'practice_rewards.md').resolve()}")
