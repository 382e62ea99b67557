"""Reduces the study's episodes to cells, a summary and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dream_env.agents.eval.cells import Played, outcomes
from dream_env.agents.eval.results import EpisodeResult
from dream_env.agents.eval.statistics import UNKNOWN, Interval, markdown_table, paired_gain, points, wilson
from dream_env.agents.studies.goal_tasks.arguments import CONDITIONS, POLICIES, SHIFTED
from dream_env.nicol.episode_start import GOAL_HIGH, GOAL_LOW
from dream_env.nicol.tasks.place import TOLERANCE

WITHOUT = {"place_with_goal": "clone", "place_without_goal": "no goal", "place_other_goal": "clone/other goal"}
"""Figures of the summary about the value of the goal picture, with the methods that they are measured for."""
AHEAD = {
    "ahead_of_ppo_physics": "physics",
    "ahead_of_longer_cloning": "longer cloning",
    "ahead_of_untrained_dream": "untrained dream",
}
"""Figures of the summary about how far practice in the dream is ahead of controls, with the controls."""
DREAMT = {"place_dream_with_goal": "clone", "place_dream_other_goal": "clone/other goal"}
"""The same figures in the dream; they equal those in physics if the world model predicts success from the goal."""


def rate(won: Mapping[Any, bool]) -> Interval:
    """Returns the success rate with its Wilson interval."""
    return wilson(sum(won.values()), len(won)) if won else UNKNOWN


def distance(episodes: Sequence[EpisodeResult], world: str, task: str = "all") -> float | None:
    """Returns the mean final distance to the goal embedding, which, unlike success in the dream, knows the goal."""
    own = [o for o in episodes if o.world == world and task in (o.task, "all") and not o.solved_at_start]
    ends = [o.distance for o in own if o.distance is not None]
    return round(float(np.mean(ends)), 4) if ends else None


def touched_first(episodes: Sequence[EpisodeResult]) -> float | None:
    """Returns the fraction of physics episodes with a touch in which the named object was touched first."""
    some = [one for one in episodes if one.world == "physics" and not one.solved_at_start and one.touched is not None]
    return round(float(np.mean([one.touched == one.named for one in some])), 4) if some else None


def reduce(found: Played) -> list[dict[str, Any]]:
    """Reduces episodes to a row for each cell and task, and for all tasks together."""
    rows = []
    for cell, episodes in found.items():
        tasks = list(dict.fromkeys(one.task for one in episodes))
        for task in [*tasks, "all"] if len(tasks) > 1 else tasks:
            won = {w: outcomes({cell: episodes}, cell.row, cell.demos, w, task) for w in ("physics", "dream")}
            rows.append(
                {"method": cell.row, "demos": cell.demos, "task": task, "seed": cell.seed}
                | {"episodes": len(won["physics"])}
                | _figures("physics_success", rate(won["physics"]))
                | _figures("dream_success", rate(won["dream"]))
                | {"named_touched_first": touched_first([one for one in episodes if task in (one.task, "all")])}
                | {f"{world}_distance": distance(episodes, world, task) for world in ("physics", "dream")}
            )
    return rows


def table(found: Played) -> list[dict[str, Any]]:
    """Returns a row for each method and number of demonstrations, over all training seeds."""
    tasks = list(dict.fromkeys(one.task for episodes in found.values() for one in episodes))
    rows = []
    for method, demos in dict.fromkeys((cell.row, cell.demos) for cell in found):
        own = {cell.seed: some for cell, some in found.items() if (cell.row, cell.demos) == (method, demos)}
        row: dict[str, Any] = {"policy": method, "demonstrations": demos}
        for task in [*tasks, "all"] if len(tasks) > 1 else tasks:
            name = "both" if task == "all" else task
            won = {world: outcomes(found, method, demos, world, task) for world in ("physics", "dream")}
            row |= {f"{name}, {world}": rate(some).percent() for world, some in won.items()}
        ends = [distance([one for some in own.values() for one in some], world) for world in ("physics", "dream")]
        row["final distance, physics / dream"] = " / ".join("–" if end is None else f"{end:.3f}" for end in ends)
        rows.append(row | {"training seeds": len(own)})
    return rows


def gain(
    found: Played, demos: int, world: str, task: str = "all", method: str = "dream", over: str = "clone"
) -> Interval:
    """Returns the paired difference in success between a method and another, on the starts and seeds of both."""
    return paired_gain(outcomes(found, over, demos, world, task), outcomes(found, method, demos, world, task))


def summarize(found: Played, demos: int) -> dict[str, Any]:
    """Summarizes the gain of practice and the value of the goal picture for `place`; None if not measured."""
    tasks = sorted({one.task for episodes in found.values() for one in episodes})
    summary: dict[str, Any] = {"demos": demos, **_gains(found, demos, tasks), **_gains(found, demos, tasks, "varied")}
    for other in sorted({cell.demos for cell in found} - {demos}):
        summary |= gain(found, other, "physics").point_figures(f"gain_{other}")
    asked = [(name, method, "physics") for name, method in WITHOUT.items()]
    for name, method, world in [*asked, *((name, method, "dream") for name, method in DREAMT.items())]:
        value = rate(outcomes(found, method, demos, world, "place"))
        summary[name] = None if np.isnan(value.value) else round(value.value, 3)
    for policy in ("clone", "dream"):
        every = [one for cell, some in found.items() if (cell.row, cell.demos) == (policy, demos) for one in some]
        summary[f"{policy}_named_touched_first"] = touched_first(every)
    summary |= gain(found, demos, "physics", method="clone/held-out phrasing").point_figures("heldout_phrasing")
    for name, over in AHEAD.items():
        summary |= gain(found, demos, "physics", over=over).point_figures(name)
    for method in ("longer cloning", "untrained dream", "coevolved"):
        summary |= gain(found, demos, "physics", method=method).point_figures(f"{method.replace(' ', '_')}_gain")
    for condition in (*SHIFTED, "varied"):
        for policy in ("clone", "dream"):
            cost = gain(found, demos, "physics", method=f"{policy}/{condition}", over=policy)
            summary[f"{policy}_{condition}_points"] = points(cost.value)
    summary["place_chance"] = round(chance(), 3)
    return summary


def _gains(found: Played, demos: int, tasks: Sequence[str], condition: str = "") -> dict[str, Any]:
    """Returns what practice gains, under a condition or, by default, in the standard world."""
    before, after, name = "clone", "dream", ""
    if condition:
        before, after, name = f"clone/{condition}", f"dream/{condition}", f"{condition}_"
    physics, dream = (gain(found, demos, world, method=after, over=before) for world in ("physics", "dream"))
    share = physics.value / dream.value if dream.value > 0 else float("nan")
    figures: dict[str, float | None] = {
        **physics.point_figures(f"{name}gain"),
        f"{name}dream_gain_points": points(dream.value),
        f"{name}physics_share_of_dream": None if np.isnan(share) else round(share, 2),
    }
    for task in tasks:
        figures[f"{name}gain_{task}_points"] = points(gain(found, demos, "physics", task, after, before).value)
    return figures


def chance() -> float:
    """Returns an upper bound on the success rate of a policy that moves the cube to any possible goal position.

    It is the fraction of the area of goal positions that lies within the tolerance of one position.
    """
    return float(np.pi * TOLERANCE**2 / np.prod(GOAL_HIGH - GOAL_LOW))


def markdown(about: Mapping[str, Any]) -> str:
    """Renders the page as Markdown; it explains the rows, and has the figures, that there are."""
    rows = [row["policy"] for row in about["table"]]
    meanings = {k: v for k, v in POLICIES.items() if k in rows}
    meanings |= {f"/{k}": v for k, v in CONDITIONS.items() if any(row.endswith(f"/{k}") for row in rows)}
    lines = [
        "# Tasks whose goal is shown",
        "",
        "`place`: the named cube to where the goal picture shows it; `stack`: the named cube on another one. World "
        "model, clone and practice learn without labels of the simulator, success marks of episodes aside; "
        f"demonstrations are of each task, and practice is {about['steps']:,} steps in the frozen world model under "
        f"`{about['reward']}`. Success at the end of the episode on held-out starts, 95 % Wilson intervals. What a "
        "dream calls success is told of the state, the sentence and the goal picture's embedding.",
        "",
        f"`{about['command']}`",
        "",
        *(f"- `{name}`: {text}." for name, text in meanings.items()),
        "",
        markdown_table(list(about["table"][0]), [list(row.values()) for row in about["table"]]),
        "",
        markdown_table(["summary", ""], [[k, v] for k, v in about["summary"].items() if v is not None]),
        "",
    ]
    return "\n".join(lines)


def _figures(name: str, value: Interval) -> dict[str, float | None]:
    parts = zip(("", "_low", "_high"), value, strict=True)
    return {name + end: None if np.isnan(part) else round(part, 4) for end, part in parts}
