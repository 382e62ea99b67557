"""Report of the reward audit: a table with verdicts, and a plot of the distances on the way to the goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.eval.pictures import COLORS, save_figure, subplots
from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.studies.reward_audit.measures import Scored
from dream_env.agents.studies.reward_audit.scenes import ORDERED

COLUMNS = {
    "spearman": "rank correlation",
    "spearman_within": "within episodes",
    "pairwise": "pairs of states",
    "spearman_pose": "rank correlation, pose",
    "spearman_within_pose": "within episodes, pose",
    "later": "success later",
    "wrong": "other cube",
    "missed": "cube missed",
    "arm": "hand alone",
    "object": "cube over hand",
    "sensitivity": "part that is the cube's",
    "hidden": "cube hidden",
    "open": "cube open",
}
"""Figures of the table and their headings."""
_LEGEND = """\
There are three judges.

**Steps to go**: the control steps that the task's scripted expert counts to the end: what is left to do, hand and cube
together, by one way of doing it. `learned` was trained on that very count, in other scenes: its figures show that it
generalizes to held-out scenes, not that the count is right. `raw` was trained on no count. Rank correlation: of the
distance to the goal picture with that count, under the expert with noise, the expert that misjudges, and play; within
episodes: the mean of each episode's; pairs of states: share of those at least 2 steps apart that are in order.

**Pose**: how far physics has the named cube from where it stands in the goal picture (of `reach`, which moves no cube,
the hand). No reward was trained on it. It tells nothing of a hand on its way to the cube: states count between
which it has changed by 1 cm or more.

**Success later**: the share of pairs of episodes from one start, at one control step, one of which will end in success
and the other not (misjudged, missed, another cube, play), in which the one that will succeed is nearer to the goal, a
tie as half. It knows of no expert and no distance, only of what comes in the end; 0.5 is chance, and 1 cannot be
expected, as early steps of both are much alike.

Then shares of pairs in which the better one is nearer to the goal: the task done right, against another cube, a cube
that was missed, and the hand alone where it is in the end; the cube alone against the hand alone; poses at least 2
steps apart of which the farther one hides the cube, or none does. The cube's part: what is left of the distance, in
the median, when all but the cube is right.

The verdict is on steps to go and these pairs. It is on states, not on learning: what a reward teaches is in
`practice_rewards.md`."""


def markdown(report: Mapping[str, Any]) -> str:
    """Renders the report as Markdown."""
    rows = []
    for potential, part in report["potentials"].items():
        verdict = "passes" if part["passes"] else "fails"
        for task, row in part["tasks"].items():
            figures = ["–" if row[name] is None else f"{row[name]:.2f}" for name in COLUMNS]
            rows.append([potential, task, *figures, verdict])
    first, last = report["seeds"]
    lines = [
        "# Which rewards mean what they say",
        "",
        f"`{report['command']}`; {last - first + 1} scenes of each task from seed {first} on; world model "
        f"`{report['checkpoint_sha256'][:12]}`. Default reward: `{report['default']}`.",
        "",
        markdown_table(["goes by", "task", *COLUMNS.values(), "verdict"], rows),
        "",
        *(f"- {name}: " + ", ".join(f"`{r}`" for r in part["rewards"]) for name, part in report["potentials"].items()),
        "",
        _LEGEND,
    ]
    for potential, part in report["potentials"].items():
        if part["fails"]:
            lines += ["", f"`{potential}` fails: {'; '.join(part['fails'])}."]
    return "\n".join(lines) + "\n"


def draw_distances(scored: Sequence[Mapping[str, Scored]], path: Path) -> None:
    """Plots each potential's distance, relative to the start, over the expert's steps to go: median and quartiles."""
    potentials = list(scored[0])
    tasks = list(dict.fromkeys(one[potentials[0]].scene.task for one in scored))
    figure, axes = subplots(1, len(tasks), (4 * len(tasks), 3), sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        for potential, color in zip(potentials, COLORS, strict=False):
            own = [one[potential] for one in scored if one[potential].scene.task == task]
            steps = np.concatenate([one.scene.takes[name].steps for one in own for name in ORDERED])
            distance = np.concatenate([one.distance[name] for one in own for name in ORDERED])
            scale = np.median([one.distance["expert"][0] for one in own])
            bins = [distance[np.ceil(steps) == s] / scale for s in range(int(steps.max()) + 1)]
            filled = [(s, *np.quantile(some, [0.25, 0.5, 0.75])) for s, some in enumerate(bins) if len(some) >= 5]
            if filled:
                at, low, middle, high = zip(*filled, strict=True)
                axis.plot(at, middle, label=potential, color=color)
                axis.fill_between(at, low, high, alpha=0.2, color=color)
        axis.set(title=task, xlabel="steps to go, as the expert counts", ylim=(0, None))
    axes[0, 0].set_ylabel("distance / that at the start")
    axes[0, -1].legend()
    save_figure(figure, path)
