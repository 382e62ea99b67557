"""Tells which rewards mean what they say: `python -m agents.studies.reward_audit --world-model default --out results`.

A reward is a distance between two pictures, and a policy will find every way to make them look alike. So each of them
has to show, on held-out scenes in physics, that its distance follows what is left to do: the control steps that the
scripted expert counts to the end (which the learned metric was trained on, in other scenes), the true distance of the
named cube to its place in the goal picture, and whether the episode will end in success. A hand in the right place
must not do without the cube; another cube must not do for the one that was named; and hiding the cube must not pay.

Physics is asked once: scenes are kept in --cache, so a second run, or another world model, only measures. A killed run
goes on when the same command is given again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.reward_audit.arguments import SEED, Arguments
from dream_env.agents.studies.reward_audit.measures import POTENTIALS, Scored, audit_figures, has_metric, score_scene
from dream_env.agents.studies.reward_audit.report import draw_distances, markdown
from dream_env.agents.studies.reward_audit.scenes import Scene, play_scenes
from dream_env.files import write_text
from dream_env.nicol.tasks import STANDARD
from dream_env.progress import progress_bar
from dream_env.rewards import DEFAULT_REWARD, RewardName, is_learned
from dream_env.world_models import checkpoint

SPEARMAN = 0.85
"""Least rank correlation with the expert's steps to go."""
ENDS = 0.95
"""Least share of pairs in which the right end scores better than a wrong one."""
POSES = 0.9
"""Least share of scenes in which the hand alone in its place is worse than the task done, and than the cube alone."""
OCCLUSION = 0.75
"""Least share of pairs in which the pose that is farther from the goal scores worse although it hides the cube."""


def audit(model: Any, scenes: Iterable[Scene]) -> tuple[dict[str, Any], list[dict[str, Scored]]]:
    """Audits every reward.

    Args:
        model: The world model.
        scenes: Scenes of `scenes.play_scenes`.

    Returns:
        By potential (see `measures.POTENTIALS`) its `rewards`, its figures by task, what it `fails`, and whether
        it `passes`; and what each potential sees in each scene.
    """
    scored = [score_scene(model, scene) for scene in progress_bar(list(scenes), "measure", unit="scene")]
    figures: dict[str, Any] = {}
    for potential, rewards in POTENTIALS.items():
        own = [one[potential] for one in scored if potential in one]
        tasks = {task: [one for one in own if one.scene.task == task] for task in STANDARD}
        by_task = {task: audit_figures(some) for task, some in tasks.items() if some}
        if by_task:
            fails = [f"{task}: {fault}" for task, row in by_task.items() for fault in faults(row)]
            figures[potential] = {"rewards": list(rewards), "tasks": by_task, "fails": fails, "passes": not fails}
    return figures, scored


def faults(row: Mapping[str, float]) -> list[str]:
    """Returns in words what the figures of one task fail; what could not be measured is no fault."""
    bounds = {"spearman": SPEARMAN, "wrong": ENDS, "missed": ENDS, "arm": POSES, "object": POSES, "hidden": OCCLUSION}
    return [f"{name} {row[name]:.2f} < {bound:.2f}" for name, bound in bounds.items() if row[name] < bound]


def reward_figures(
    world_model: str = "default",
    reward: RewardName = DEFAULT_REWARD,
    scenes: int = 60,
    cache: Path = Path("runs/reward_audit"),
    workers: pool.Workers = None,
    tasks: Sequence[str] = STANDARD,
) -> dict[str, dict[str, float]]:
    """Returns what a fidelity report tells of a reward, by task.

    `reward_spearman` is its rank correlation with the expert's steps to go; `reward_pairwise` the share of pairs
    of end states, one right and one wrong (another cube, no cube), in which the right one scores better.
    There are no figures of a learned reward where the world model has no metric.
    """
    model = checkpoint.load(world_model)
    if is_learned(reward) and not has_metric(model):
        return {}
    played = play_scenes(tasks, scenes, SEED, cache, workers)
    figures, _ = audit(model, played)
    own = next(part["tasks"] for part in figures.values() if reward in part["rewards"])
    return {
        task: {
            "reward_spearman": row["spearman"],
            "reward_pairwise": float(
                np.average([row["wrong"], row["missed"]], weights=[row["n_wrong"], row["n_missed"]])
            ),
        }
        for task, row in own.items()
    }


def audit_rewards(args: Arguments) -> dict[str, Any]:
    """Plays the scenes, measures, and writes the report.

    Raises:
        ValueError: If there is no scene to play, or no folder to write to.
        FileNotFoundError: If there is no such world model.
    """
    if args.scenes < 1:
        raise ValueError(f"scenes={args.scenes}; accepted: 1 or more")
    check_out(args.out)
    folder = checkpoint.resolve(args.world_model)
    model = checkpoint.load(folder)
    workers: pool.Workers = "ray" if args.ray else args.workers
    scenes = play_scenes(list(STANDARD), args.scenes, args.seed, args.cache, workers)
    figures, scored = audit(model, scenes)
    report = {
        "command": command_line("studies.reward_audit", args),
        "checkpoint_sha256": checkpoint.sha256(folder),
        "seeds": [args.seed, args.seed + args.scenes - 1],
        "default": DEFAULT_REWARD,
        "potentials": _plain(figures),
    }
    write_text(args.out / "rewards.json", json.dumps(report, indent=2) + "\n")
    write_text(args.out / "rewards.md", markdown(report))
    draw_distances(scored, args.out / "rewards.png")
    return report


def _plain(value: Any) -> Any:
    """Returns a report without NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def main(args: Arguments) -> None:
    """Runs the command."""
    print(markdown(audit_rewards(args)))
    print(f"Report: {(args.out / 'rewards.md').resolve()}")
