"""The report of `agents.studies.uses`: success rates, and the gains of each arm on common starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dream_env.agents.eval.results import EpisodeResult, summarize
from dream_env.agents.eval.statistics import (
    Interval,
    markdown_table,
    paired_difference,
    paired_gain,
    paired_values,
    points,
    wilson,
)
from dream_env.agents.planners.planner import PlannerConfig
from dream_env.agents.studies.uses import amplify, bound
from dream_env.agents.studies.uses.arms import ARMS, MADE
from dream_env.nicol.tasks import TASKS

ENOUGH = 30
"""Smallest number of episodes for an arm to count in the best of several arms."""


def reduce(results: Iterable[EpisodeResult]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the cells and the summary of the report, from finished episodes."""
    played = list(results)
    rows = {(row["policy"], row["task"]): row for row in summarize(played)["rows"] if row["world"] == "physics"}
    cells = []
    for (label, task), row in rows.items():
        arm = ARMS[label]
        config = arm.config
        cells.append(
            {
                "label": label,
                "use": arm.use,
                "solver": config.solver if isinstance(config, PlannerConfig) else None,
                "objective": None if config is None else dict(config.objective),
                "prior": config.prior
                if isinstance(config, PlannerConfig)
                else arm.policy or getattr(config, "policy", None),
                "demos": arm.demos,
                "task": task,
                "seed": arm.seed,
                "episodes": row["episodes"],
                "physics_success": row["value"],
                "low": row["low"],
                "high": row["high"],
                "ms_per_action": row["milliseconds"],
                "physics_steps": bound.steps_per_episode(config, TASKS[task].horizon)
                if arm.use == "bound" and isinstance(config, PlannerConfig) and task in TASKS
                else 0,
            }
        )
    gain = difference(played, "few", "metric, few")
    amplified = {control: gained(played, control) for control in amplify.CONTROLS[1:]}
    reach = max(
        (
            row["value"]
            for (label, task), row in rows.items()
            if task == "reach" and ARMS[label].use == "plan" and not ARMS[label].demos and row["episodes"] >= ENOUGH
        ),
        default=None,
    )
    return cells, {
        "plan_reach_no_prior": reach,
        "plan_gain_points": points(gain.value),
        "plan_gain_low_points": points(gain.low),
        **difference(played, "few", "foresight").point_figures("foresight_gain"),
        **difference(played, "default", "foresight, default").point_figures("foresight_at_100"),
        **difference(played, "few", "foresight, sure").point_figures("foresight_sure_gain"),
        **difference(played, "default", "foresight, sure, default").point_figures("foresight_sure_at_100"),
        **amplified["filtered"].point_figures("amplify_gain"),
        **amplified["unfiltered"].point_figures("amplify_unfiltered"),
        **amplified["oracle"].point_figures("amplify_oracle"),
        **amplified["foresight"].point_figures("amplify_foresight"),
    }


def gained(played: Iterable[EpisodeResult], control: str) -> Interval:
    """Returns the gain of also cloning imagined episodes over real ones only, over all training seeds."""
    played, pairs = list(played), []
    for label, arm in ARMS.items():
        if arm.use == "amplify" and arm.policy == "real":
            pairs += paired(played, label, label.replace("real", control))
    return paired_difference([before for before, _ in pairs], [after for _, after in pairs])


def difference(played: Sequence[EpisodeResult], before: str, after: str) -> Interval:
    """Returns the paired difference in success of two arms on their common starts, over all tasks."""
    return paired_gain(outcomes(played, before), outcomes(played, after))


def paired(played: Sequence[EpisodeResult], before: str, after: str) -> list[tuple[float, float]]:
    """Returns the pairs of outcomes of two arms on their common starts."""
    return list(zip(*paired_values(outcomes(played, before), outcomes(played, after)), strict=True))


def outcomes(played: Iterable[EpisodeResult], label: str) -> dict[tuple[str, int], float]:
    """Returns the outcomes of an arm by task and seed, without episodes that are solved at the start."""
    return {(r.task, r.seed): float(r.success) for r in played if r.label == label and not r.solved_at_start}


def together(played: Iterable[EpisodeResult]) -> list[dict[str, Any]]:
    """Compares `USES` and amplification for each number of demonstrations, over all training seeds.

    Returns:
        Rows with `demos`, `use`, `seeds`, `episodes`, the success rates by task (`tasks`) and over all tasks
        (`physics_success`) with Wilson intervals, and `gain_points` over the clone alone with its interval, on common
        starts.
    """
    played = list(played)
    by_label: dict[str, list[EpisodeResult]] = {}
    for result in played:
        if not result.solved_at_start:
            by_label.setdefault(result.label, []).append(result)
    ways: dict[tuple[int, str], list[tuple[str, str]]] = {}  # row -> its arms, each with the clone it is based on
    for label, arm in MADE.items():
        ways.setdefault((arm.demos, arm.use), []).append((label, label.replace(arm.use, "clone", 1)))
    for label, arm in ARMS.items():
        if arm.use == "amplify" and arm.policy == "foresight":
            ways.setdefault((arm.demos, "amplification"), []).append((label, label.replace("foresight", "real")))
    rows = []
    for (demos, use), arms in sorted(ways.items(), key=lambda way: way[0][0]):
        arms = [(label, clone) for label, clone in arms if label in by_label]
        results = [result for label, _ in arms for result in by_label[label]]
        if not results:
            continue
        pairs = [pair for label, clone in arms for pair in paired(played, clone, label)]
        rate = {
            task: wilson(sum(r.success for r in some), len(some))
            for task in (*dict.fromkeys(r.task for r in results), "all")
            if (some := [r for r in results if task in (r.task, "all")])
        }
        gain = paired_difference([first for first, _ in pairs], [second for _, second in pairs])
        rows.append(
            {
                "demos": demos,
                "use": use,
                "seeds": len(arms),
                "episodes": len(results),
                "tasks": {task: list(interval) for task, interval in rate.items() if task != "all"},
                "physics_success": list(rate["all"]),
                **({} if use == "clone" else gain.point_figures("gain")),
                "ms_per_action": float(np.mean([r.milliseconds for r in results if r.milliseconds is not None])),
            }
        )
    return rows


def gains(rows: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns the gains in the rows of `together` for the summary, with names such as `foresight_5_low_points`."""
    return {
        f"{row['use'].replace(', ', '_')}_{row['demos']}_{part}points": row[f"gain_{part}points"]
        for row in rows
        if "gain_points" in row
        for part in ("", "low_", "high_")
    }


def shown(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows of `together`, formatted for a table."""
    rows = list(rows)
    tasks = [task for task in TASKS if any(task in row["tasks"] for row in rows)]
    return [
        {
            "demonstrations": row["demos"],
            "use": row["use"],
            **{t: f"{100 * row['tasks'][t][0]:.0f} %" if t in row["tasks"] else "–" for t in tasks},
            "all": Interval(*row["physics_success"]).percent(),
            "gain, points": "–"
            if row.get("gain_points") is None
            else f"{row['gain_points']:+.1f} ({row['gain_low_points']:+.1f} to {row['gain_high_points']:+.1f})",
            "seeds": row["seeds"],
            "episodes": row["episodes"],
            "ms / action": round(row["ms_per_action"]),
        }
        for row in rows
    ]


def headroom(found: Mapping[str, Any], results: Iterable[EpisodeResult]) -> dict[str, float | None]:
    """Returns pass@1 and pass@K of the oracle over its tasks, and foresight's gain as a fraction of the difference."""
    count = sum(row["episodes"] for row in found.values())
    one, several = (sum(row["episodes"] * row[name] for row in found.values()) / count for name in ("pass_1", "pass_k"))
    played = [result for result in results if result.task in found]
    gain = difference(played, "few", "foresight").value
    share = None if np.isnan(gain) or several <= one else gain / (several - one)
    return {"oracle_pass_1": one, "oracle_pass_k": several, "foresight_share_of_headroom": share}


def table(methods: Iterable[Mapping[str, Any]], cells: Iterable[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """Renders the results of `together` and `reduce` as Markdown."""
    cells, lines = list(cells), shown(methods)
    tasks = [task for task in (*TASKS, "all") if any(cell["task"] == task for cell in cells)]
    arms = []
    for label in dict.fromkeys(cell["label"] for cell in cells):
        own = {cell["task"]: cell for cell in cells if cell["label"] == label}
        first = next(iter(own.values()))
        rates = [
            Interval(own[t]["physics_success"], own[t]["low"], own[t]["high"]).percent() if t in own else "–"
            for t in tasks
        ]
        times = [cell["ms_per_action"] for cell in own.values() if cell["ms_per_action"] is not None]
        arms.append(
            [
                label,
                first["use"],
                first["demos"],
                *rates,
                max(c["episodes"] for c in own.values()),
                f"{np.mean(times):.0f}",
            ]
        )
    header = ["arm", "use", "demonstrations", *tasks, "episodes", "ms / action"]
    text = (
        "Success in physics at the end of the episode on the same held-out starts, 95 % Wilson intervals.\n\n"
        "From the same clones, all seeds together; the gain is over the clone alone, start by start:\n\n"
        + (markdown_table(list(lines[0]), [list(line.values()) for line in lines]) if lines else "–")
        + "\n\nEvery arm:\n\n"
    )
    figures = [[name, "–" if value is None else f"{value:.3g}"] for name, value in summary.items()]
    return text + markdown_table(header, arms) + "\n\n" + markdown_table(["figure", "value"], figures) + "\n"
