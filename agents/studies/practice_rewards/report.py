"""Reduces the episodes of the study to cells, a summary and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dream_env.agents.eval.cells import Played, outcomes
from dream_env.agents.eval.statistics import Interval, markdown_table, paired_difference, points, wilson
from dream_env.agents.studies.practice_rewards.arguments import CLONE, CONTROLS, REWARDS, UNTRAINED

ENERGY = "energy"
ALL = "all"
"""Name for all tasks together."""


def reduce(played: Played) -> list[dict[str, Any]]:
    """Returns the figures of cells by task and over all tasks, without episodes that are solved at the start."""
    rows = []
    for cell, episodes in played.items():
        kept = [one for one in episodes if not one.solved_at_start]
        for task in [*dict.fromkeys(one.task for one in kept), ALL]:
            own = [one for one in kept if task in (one.task, ALL)]
            worlds = {world: [one for one in own if one.world == world] for world in ("physics", "dream")}
            rows.append(
                {"reward": cell.row, "demos": cell.demos, "task": task, "seed": cell.seed}
                | {"episodes": len(worlds["physics"])}
                | {f"{world}_success": _mean(one.success for one in some) for world, some in worlds.items()}
                | {"final_distance": _mean(one.distance for one in worlds["physics"])}
                | {"dream_final_distance": _mean(one.distance for one in worlds["dream"])}
            )
    return rows


def _mean(values: Iterable[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def gain(played: Played, row: str, before: str, demos: int) -> Interval | None:
    """Returns the paired difference of two rows in physics, on the episodes of both; None if there are none."""
    after, first = outcomes(played, row, demos), outcomes(played, before, demos)
    if before == CLONE:  # the clone has only one training seed
        first = {key: first[0, key[1], key[2]] for key in after if (0, key[1], key[2]) in first}
    common = [key for key in after if key in first]
    return paired_difference([first[key] for key in common], [after[key] for key in common]) if common else None


def summarize(played: Played) -> dict[str, Any]:
    """Returns the summary, for the smallest number of demonstrations.

    Energy is compared with every other reward on the training seeds and starts of both. `energy_points_behind_best` is
    the worst of these differences; it is negative if energy is the best.
    """
    demos = min(cell.demos for cell in played)
    rewards = [row for row in dict.fromkeys(cell.row for cell in played) if row in REWARDS]
    others = {row: gain(played, row, ENERGY, demos) for row in rewards if not row.startswith(ENERGY)}
    ahead = {row: apart for row, apart in others.items() if apart is not None}
    best = max(ahead, key=lambda row: ahead[row].value) if ahead else None
    summary: dict[str, Any] = {"demos": demos, "best_other": best, "energy_points_behind_best": None}
    if best:
        seeds = {cell.seed for cell in played if (cell.row, cell.demos) == (best, demos)}
        summary |= {"energy_points_behind_best": points(ahead[best].value)}
        for end in ("low", "high"):
            summary[f"energy_points_behind_best_{end}"] = points(getattr(ahead[best], end))
        summary |= {"best_other_seeds": len(seeds)}
        summary["energy_points_behind"] = {row: points(apart.value) for row, apart in ahead.items()}
    differences = {
        "energy_gain": (ENERGY, CLONE),
        "untrained_gain": (UNTRAINED, CLONE),
        "energy_ahead_of_untrained": (ENERGY, UNTRAINED),
    }
    for name, rows in differences.items():
        if apart := gain(played, *rows, demos):
            summary |= apart.point_figures(name)
    for row, name in ((CLONE, "clone"), (ENERGY, "energy")):
        ends = [
            one.distance
            for cell, episodes in played.items()
            if (cell.row, cell.demos) == (row, demos)
            for one in episodes
            if one.world == "physics" and not one.solved_at_start
        ]
        summary[f"{name}_final_distance"] = _mean(ends)
    return summary


def markdown(report: Mapping[str, Any]) -> str:
    """Renders the page as Markdown."""
    commands: dict[str, list[str]] = {}
    for demos, command in report["commands"].items():
        commands.setdefault(command, []).append(demos)
    text = [
        "# Which reward practice should pay",
        "",
        f"{report['steps']:,} steps of practice; {report['episodes']} held-out starts of each task from seed "
        f"{report['first_seed']} on, without those that are solved already.",
        *(f"\nFrom {' and '.join(demos)} demonstrations: `{command}`" for command, demos in commands.items()),
    ]
    for demos in sorted({row["demos"] for row in report["rows"]}):
        own = [row for row in report["rows"] if row["demos"] == demos]
        lines = [[value for name, value in row.items() if name != "demos"] for row in own]
        text += ["", f"## From {demos} demonstrations of each task", ""]
        text += [markdown_table([name for name in own[0] if name != "demos"], lines)]
    text += ["", _LEGEND, "", "| row | what it gives to `agents.train`, or does |", "|---|---|"]
    text += [f"| {name} | `{_options(options)}` |" for name, options in REWARDS.items()]
    text += [f"| {name} | {what} |" for name, what in CONTROLS.items()]
    if report.get("kinds"):
        text += ["", "What acted in the cloned successes: " + _listed(report["kinds"]) + "."]
    return "\n".join(text) + "\n"


def _options(options: Mapping[str, Any]) -> str:
    return " ".join("--" + name.replace("_", "-") + f" {value}" for name, value in options.items())


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in kinds.items())


def table(played: Played) -> list[dict[str, Any]]:
    """Returns a record for every row and number of demonstrations, formatted for the page."""
    figures = reduce(played)
    tasks = [task for task in dict.fromkeys(cell["task"] for cell in figures) if task != ALL]
    records = []
    for demos, row in sorted(dict.fromkeys((cell.demos, cell.row) for cell in played), key=lambda pair: pair[0]):
        own = [cell for cell in figures if (cell["reward"], cell["demos"]) == (row, demos)]
        whole = [cell for cell in own if cell["task"] == ALL]
        solved = list(outcomes(played, row, demos).values())
        rates = {task: _mean(cell["physics_success"] for cell in own if cell["task"] == task) for task in tasks}
        apart = gain(played, row, CLONE, demos) if row != CLONE else None
        ends = (_mean(cell[name] for cell in whole) for name in ("final_distance", "dream_final_distance"))
        records.append(
            {"row": row, "demos": demos, "seeds": len(whole), "episodes": len(solved)}
            | {"physics": wilson(sum(solved), len(solved)).percent()}
            | {task: _percent(rate) for task, rate in rates.items()}
            | {"dream": _percent(_mean(cell["dream_success"] for cell in whole))}
            | {"gain in physics (points)": apart.points() if apart else "–"}
            | {"final distance": " / ".join("–" if value is None else f"{value:.3f}" for value in ends)}
        )
    return records


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.0f} %"


_LEGEND = """\
Success at the end of the episode, with 95 % Wilson intervals over the episodes of all seeds; by task the means. The
gain over the clone is paired by start. Final distance: the mean squared distance of the last embedding to the goal
picture's, physics / dream. Rewards whose intervals overlap are not told apart by this table. How a reward weighs
its steps is in the table below; its scale is of little matter, as ppo divides advantages by their deviation. Rows that
are listed below and not above have not been played."""
