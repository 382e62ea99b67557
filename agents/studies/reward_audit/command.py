"""Checks which rewards measure real progress: `python -m agents.studies.reward_audit --world-model default`.

A reward is a distance between two pictures, and a policy will find every way to make the pictures similar. Therefore,
each reward is tested on held-out scenes in physics. Its distance should follow the remaining work: the scripted
expert's count of control steps to go (on which the learned metric was trained, in other scenes), the true distance of
the named cube to its position in the goal picture, and whether the episode will end in success. The reward must not be
high for a hand in the right place without the cube, for another cube than the named one, or for hiding the cube.

Scenes are kept in --cache, so a second run, or a run with another world model, needs no physics. Running the same
command again resumes an interrupted run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.studies.reward_audit.arguments import SEED, Arguments
from dream_env.agents.studies.reward_audit.measures import POTENTIALS, Scored, audit_figures, score_scene
from dream_env.agents.studies.reward_audit.report import draw_distances, markdown
from dream_env.agents.studies.reward_audit.scenes import Scene, play_scenes
from dream_env.files import nan_to_none, write_text
from dream_env.nicol.tasks import STANDARD
from dream_env.progress import progress_bar
from dream_env.rewards import DEFAULT_REWARD, RewardName, is_learned
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import has_metric

SPEARMAN = 0.85
"""Smallest accepted rank correlation with the expert's steps to go."""
ENDS = 0.95
"""Smallest accepted fraction of pairs in which a right final state scores better than a wrong one."""
POSES = 0.9
"""Smallest accepted fraction of scenes in which the hand alone in its final place scores worse than the finished task,
and worse than the cube alone."""
OCCLUSION = 0.75
"""Smallest accepted fraction of pairs in which the pose farther from the goal scores worse although it hides the
cube."""


def audit(model: Any, scenes: Iterable[Scene]) -> tuple[dict[str, Any], list[dict[str, Scored]]]:
    """Audits every reward.

    Args:
        model: The world model.
        scenes: Scenes of `scenes.play_scenes`.

    Returns:
        A dict from potential (see `measures.POTENTIALS`) to its `rewards`, its figures by task (`tasks`), the bounds
        that it `fails`, and whether it `passes`; and the distances of each potential in each scene.
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
    """Returns descriptions of the bounds that the figures of one task miss; NaN figures miss none."""
    bounds = {"spearman": SPEARMAN, "wrong": ENDS, "missed": ENDS, "arm": POSES, "object": POSES, "hidden": OCCLUSION}
    return [f"{name} {row[name]:.2f} < {bound:.2f}" for name, bound in bounds.items() if row[name] < bound]


def reward_figures(
    world_model: str = "state_grounded",
    reward: RewardName = DEFAULT_REWARD,
    scenes: int = 60,
    cache: Path = Path("runs/reward_audit"),
    workers: pool.Workers = None,
    tasks: Sequence[str] = STANDARD,
) -> dict[str, dict[str, float]]:
    """Returns the figures of a reward for a fidelity report, by task.

    `reward_spearman` is its rank correlation with the expert's steps to go. `reward_pairwise` is the fraction of pairs
    of final states, one right and one wrong (another cube, no cube), in which the right one scores better. The result
    is empty for a learned reward if the world model has no metric.
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
    """Records the scenes, measures the rewards, and writes the report.

    Raises:
        ValueError: If the number of scenes is not positive, or the output folder cannot be written to.
        FileNotFoundError: If the world model does not exist.
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
        "potentials": nan_to_none(figures),
    }
    write_text(args.out / "rewards.json", json.dumps(report, indent=2) + "\n")
    write_text(args.out / "rewards.md", markdown(report))
    draw_distances(scored, args.out / "rewards.png")
    return report


def main(args: Arguments) -> None:
    """Runs the command."""
    print(markdown(audit_rewards(args)))
    print(f"Report: {(args.out / 'rewards.md').resolve()}")
