"""Compares policies with a built-in world model with plain ones: `python -m agents.studies.policies --data DIR`.

All policies use the same demonstrations, the same world model as encoder and the same number of updates, and are
evaluated in physics on the same held-out starts. A cell (a row, a number of demonstrations, a seed) is one policy.
Finished cells are kept in --work; running the same command again resumes an interrupted study. The report covers
everything in --work and is written after every cell.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from dream_env.agents.eval.cells import play_each
from dream_env.agents.run.config import check_out, check_settings, command_line
from dream_env.agents.studies.policies.arguments import Arguments
from dream_env.agents.studies.policies.report import report
from dream_env.agents.studies.policies.rows import ROWS, cells, run
from dream_env.checks import check_choice
from dream_env.data.lerobot import LeRobotStore
from dream_env.files import write_json, write_text
from dream_env.world_models import checkpoint


def begin(args: Arguments) -> None:
    """Saves the settings of a group, and every command that was run for it.

    Raises:
        ValueError: If the group was started with other settings.
    """
    file = args.group / "group.json"
    settings, commands = args.settings(), list[str]()
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        commands = before["commands"]
        check_settings(args.group, {name: before.get(name) for name in settings}, settings)
    model = Path(args.world_model)
    named = replace(  # paths as a reader of the report would use them
        args,
        data=tuple(Path("data") / one.name for one in args.data),
        world_model=f"runs/{model.name}" if len(model.parts) > 1 else args.world_model,
        work=Arguments.work,
        out=Arguments.out,
    )
    commands += [command] if (command := command_line("studies.policies", named)) not in commands else []
    write_json(file, {**settings, "commands": commands})


def write(args: Arguments) -> str:
    """Writes policies.json and policies.md, and returns the page."""
    found, text = report(args.work, args.out)
    write_json(args.out / "policies.json", found)
    write_text(args.out / "policies.md", text)
    return text


def main(args: Arguments) -> None:
    """Runs the command."""
    check_out(args.out)
    for row in args.policies:
        check_choice("policies", row, ROWS)
    torch.set_num_threads(1)
    if not args.only_report:
        checkpoint.load(args.world_model)  # fails early if something is missing, before settings are saved
        for folder in args.data:
            LeRobotStore(folder).info()
        begin(args)
        play_each(cells(args), lambda cell: run(cell, args), lambda: write(args))
    print("\n" + write(args))
    print(f"Report: {(args.out / 'policies.md').resolve()}")
