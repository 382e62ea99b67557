"""Reduces the episodes of the study to cells, a summary and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.eval.cells import Cell, Played, outcomes
from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.eval.statistics import Interval, markdown_table, paired_gain, points, wilson
from dream_env.agents.studies.policies.rows import FIGURES, ROWS, found

ROOM = ("place", "stack")
"""Tasks with room for improvement, chosen before any evaluation. The summary uses them if available, else all tasks."""
SEEDS = 3
"""Number of cloning seeds that a claim needs."""


def groups(work: Path) -> dict[str, dict[str, Any]]:
    """Returns the saved settings of every group of a study, by the name of its folder."""
    return {
        file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(work.glob("*/group.json"))
    }


def reduce(played: Played, group: Path) -> list[dict[str, Any]]:
    """Returns the cells of a group, one for each task, without episodes that are solved at the start."""
    rows = []
    for cell, episodes in played.items():
        figures = json.loads((cell.folder(group) / FIGURES).read_text(encoding="utf-8"))
        kept = [one for one in episodes if not one.solved_at_start]
        for task in dict.fromkeys(one.task for one in kept):
            own = [one.success for one in kept if one.task == task]
            rows.append(
                {"policy": cell.row, "demos": cell.demos, "task": task, "seed": cell.seed, "episodes": len(own)}
                | {"physics_success": float(np.mean(own)), "successes": sum(own)}
                | figures
            )
    return rows


def solved(played: Played, row: str, demos: int, tasks: Sequence[str]) -> dict[tuple[int, str, int], bool]:
    """Returns the `outcomes` of a row in given tasks."""
    return {key: success for key, success in outcomes(played, row, demos).items() if key[1] in tasks}


def gain(played: Played, row: str, before: str, demos: int, tasks: Sequence[str]) -> Interval | None:
    """Returns the paired difference of two rows over the episodes of both; None if there are none."""
    after, first = solved(played, row, demos, tasks), solved(played, before, demos, tasks)
    return paired_gain(first, after) if first.keys() & after.keys() else None


def gains(played: Played, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the difference in points of each row over its control and over plain, on given tasks."""
    rows = []
    for demos, row in dict.fromkeys((cell.demos, cell.row) for cell in played):
        for before in dict.fromkeys(name for name in (ROWS[row].control, "plain") if name and name != row):
            if (apart := gain(played, row, before, demos, tasks)) is not None:
                rounded = {name: points(value) for name, value in apart._asdict().items()}
                keys = solved(played, row, demos, tasks).keys() & solved(played, before, demos, tasks).keys()
                common = [task for task in tasks if any(key[1] == task for key in keys)]
                seeds = sorted({key[0] for key in keys})
                about = {"tasks": ", ".join(common), "seeds": len(seeds), "episodes": len(keys)}
                about["by_seed"] = [_points_of_seed(played, row, before, demos, tasks, seed) for seed in seeds]
                rows.append({"policy": row, "over": before, "demos": demos} | about | rounded)
    return rows


def _points_of_seed(played: Played, row: str, before: str, demos: int, tasks: Sequence[str], seed: int) -> float | None:
    some = {cell: episodes for cell, episodes in played.items() if cell.seed == seed}
    apart = gain(some, row, before, demos, tasks)
    assert apart is not None
    return points(apart.value)


def summarize(played: Played, further: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the summary: the best gains over the control, preferably of rows with at least `SEEDS` cloning seeds.

    Args:
        played: The cells of all groups; a cell in several groups has the episodes of all of them.
        further: Figures measured by other commands, such as those of a fused network.
    """
    tasks = list(dict.fromkeys(one.task for episodes in played.values() for one in episodes))
    room = [task for task in ROOM if task in tasks]
    summary: dict[str, Any] = {"tasks_with_room": ", ".join(room)}
    for name, some in (("best_gain", room), ("best_gain_all_tasks", tasks)):
        over = [one for one in gains(played, some) if one["over"] == ROWS[one["policy"]].control]
        over = [one for one in over if one["seeds"] >= SEEDS] or over
        best = max(over, key=lambda one: one["value"], default=dict[str, Any]())
        summary |= {f"{name}_points": best.get("value"), f"{name}_low_points": best.get("low")}
        summary |= {f"{name}_{key}": best.get(key) for key in ("policy", "over", "demos", "tasks", "seeds", "by_seed")}
    return summary | dict(further)


def table(played: Played, group: Path) -> list[dict[str, Any]]:
    """Returns a record for every row and number of demonstrations of a group, formatted for the page."""
    cells, records = reduce(played, group), []
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    for demos, row in dict.fromkeys((cell.demos, cell.row) for cell in played):
        own = [cell for cell in cells if (cell["policy"], cell["demos"]) == (row, demos)]
        record: dict[str, Any] = {"demos": demos, "policy": row, "seeds": len({cell["seed"] for cell in own})}
        for name, some in {**{task: [task] for task in tasks}, "all": tasks}.items():
            parts = [cell for cell in own if cell["task"] in some]
            count = sum(cell["episodes"] for cell in parts)
            record[name] = wilson(sum(cell["successes"] for cell in parts), count).percent()
        for name, before in (("over its control", ROWS[row].control), ("over plain", "plain")):
            apart = gain(played, row, before, demos, tasks) if before and before != row else None
            record[name] = "–" if apart is None else apart.points()
        minutes, milliseconds = (
            np.mean([cell[name] for cell in own]) for name in ("train_cpu_minutes", "ms_per_action")
        )
        times = {"CPU min": f"{minutes:.1f}", "ms": f"{milliseconds:.1f}"}
        records.append(record | {"parameters": f"{own[0]['parameters']:,}"} | times)
    return records


def report(work: Path, out: Path) -> tuple[dict[str, Any], str]:
    """Returns the contents of policies.json and the page, from all finished episodes.

    Args:
        work: Folder of the study.
        out: Folder of results; the figures of `agents.studies.fused` found there are added to the summary.

    Raises:
        FileNotFoundError: If there are no episodes.
    """
    about, everything, cells, tables = groups(work), dict[Cell, list[EpisodeResult]](), [], {}
    text = ["# Policies with a world model inside", "", _LEGEND]
    for name, settings in about.items():
        played = found(work / name)
        if not played:
            continue
        for cell, episodes in played.items():
            everything[cell] = everything.get(cell, []) + episodes
        cells += reduce(played, work / name)
        tables[name.replace("+", "_")] = records = table(played, work / name)
        text += [
            "",
            f"## {', '.join(settings['tasks'])}",
            "",
            *(f"- `{command}`" for command in settings["commands"]),
            "",
        ]
        text += [markdown_table([*records[0]], [[*record.values()] for record in records])]
    if not cells:
        raise FileNotFoundError(f"work={work} holds no episodes; run it without --only-report")
    fused = out / "fused.json"
    measured = json.loads(fused.read_text(encoding="utf-8")) if fused.is_file() else {}
    further = {name: value for name, value in measured.items() if name.startswith("fused_")}
    summary = summarize(everything, further)
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    written = {"groups": about, "summary": summary, "tables": tables, "cells": cells}
    written["gains"] = gains(everything, tasks) + (gains(everything, ROOM) if set(ROOM) < set(tasks) else [])
    rows = list(dict.fromkeys(cell["policy"] for cell in cells))
    text += ["", "| row | what it is |", "|---|---|", *(f"| {row} | {ROWS[row].what} |" for row in rows)]
    return written, "\n".join(text) + "\n"


_LEGEND = (
    "Success in physics at the end of the episode, on held-out starts that are not solved already, 95 % Wilson "
    "intervals. Differences in points, paired by seed of cloning and start, with 95 % bootstrap intervals: over the "
    "same policy without what a world model adds (its control), and over the plain one. CPU minutes are those of "
    "training, milliseconds those of an action of one robot on one core. Every row has as many updates of its actions."
)
