"""Figures of the reward audit, computed from its scenes for one distance to the goal at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from dream_env import rewards
from dream_env.agents.eval.rank_correlation import APART, rank_figures, share
from dream_env.agents.studies.reward_audit.scenes import BEHAVIORS, ORDERED, RIGHT, Scene, Take
from dream_env.language import embedder
from dream_env.world_models.protocol import has_metric, with_goal

POTENTIALS: dict[str, tuple[rewards.RewardName, ...]] = {
    "raw": ("energy", "progress", "bounded"),
    "learned": ("metric", "metric_progress", "metric_bounded"),
    "success": ("success",),
}
"""Maps a potential (the quantity that a reward is computed from) to its rewards; these all rank states in the same
order."""


class Scored(NamedTuple):
    """A scene with the distances of one potential.

    Attributes:
        scene: The scene.
        distance: Distance to the goal in every frame of every take, `(F,)` each; for "success", one minus its
            probability.
    """

    scene: Scene
    distance: dict[str, np.ndarray]


@torch.inference_mode()
def score_scene(model: Any, scene: Scene) -> dict[str, Scored]:
    """Computes the distance of every frame of a scene, for each of `POTENTIALS` that the model supports."""
    names, takes = list(scene.takes), list(scene.takes.values())
    images, proprio = (np.concatenate([getattr(take, name) for take in takes]) for name in ("images", "proprio"))
    words = torch.tensor(embedder(model)(scene.instruction)).expand(len(images), -1)
    seen = {"pixels": torch.from_numpy(images), "proprio": torch.from_numpy(proprio), "instruction": words}
    shown = {"pixels": torch.from_numpy(scene.goal_image[None]), "instruction": words[:1]}  # goals have no proprio
    state, goal = (model.encode({name: part.to(model.device) for name, part in some.items()}) for some in (seen, shown))
    values = {
        "raw": rewards.distance(model.embedding(state), model.embedding(goal)),
        "success": 1 - model.success(with_goal(model, state, model.embedding(goal).expand(len(images), -1))),
    }
    if has_metric(model):
        values["learned"] = rewards.metric_distance(model.metric(state), model.metric(goal))
    values = {name: value.cpu().numpy() for name, value in values.items()}
    ends = np.cumsum([len(take.steps) for take in takes])[:-1]
    return {
        potential: Scored(scene, dict(zip(names, np.split(values[potential], ends), strict=True)))
        for potential in POTENTIALS
        if potential in values
    }


def audit_figures(scored: Sequence[Scored]) -> dict[str, float | int]:
    """Measures one potential on the scenes of one task.

    Returns:
        `rank_figures` on the takes of `ORDERED`, by the expert's steps to go; the same figures with the suffix `_pose`,
        by the true distance to the goal pose (cm); and `later`, see `_later`. Then the fractions of pairs of states of
        one scene in which the better one is nearer to the goal. The first three compare the task done right with
        `wrong` (done with another cube), `missed` (done without the cube) and `arm` (the hand in its final place
        without the cube). `object` compares the cube alone with the hand alone; `hidden` two poses at least `APART`
        steps apart, of which the farther one hides the cube; `open` two such poses that both show it. `sensitivity` is
        the median fraction of the initial distance that remains when everything except the cube is right. `n_...` are
        the numbers of pairs.
    """
    ordered = [(one.distance[name], one.scene.takes[name].steps) for one in scored for name in ORDERED]
    figures: dict[str, float | int] = dict(rank_figures(*map(np.stack, zip(*ordered, strict=True))))
    ordered = [(one.distance[name], one.scene.takes[name].off) for one in scored for name in ORDERED]
    by_pose = rank_figures(*map(np.stack, zip(*ordered, strict=True)))
    figures |= {f"{name}_pose": value for name, value in by_pose.items()}
    names = ("later", "wrong", "missed", "arm", "object", "hidden", "open")
    pairs: dict[str, list[float]] = {name: [] for name in names}
    left = []
    for one in scored:
        takes, distance = one.scene.takes, one.distance
        right = [distance[name][-1] for name in RIGHT if takes[name].solved]
        pairs["later"] += _later(distance, takes)
        for name in ("wrong", "missed", "arm"):
            if name in takes and not takes[name].solved:
                pairs[name] += [distance[name][-1] > end for end in right]
        if "arm" in takes and right:
            far, near = distance["expert"][0], float(np.median(right))
            left.append((distance["arm"][-1] - near) / (far - near))
        if "object" in takes and takes["object"].solved and not takes["arm"].solved:
            pairs["object"].append(distance["arm"][-1] > distance["object"][-1])
        for name in ("hidden", "open"):
            if name in takes:
                pairs[name] += _farther(distance, takes, name)
    figures |= {name: share(np.array(answers, float)) for name, answers in pairs.items()}
    figures["sensitivity"] = float(np.median(left)) if left else float("nan")
    return figures | {f"n_{name}": len(answers) for name, answers in pairs.items()}


def _later(distance: Mapping[str, np.ndarray], takes: Mapping[str, Take]) -> list[float]:
    """Compares episodes from the same start, of which one ends in success and the other does not.

    Returns:
        For each control step at which neither has done the task yet: 1 if the episode that will succeed is nearer to
        the goal, 0 if it is farther, 0.5 for a tie. The first frame is skipped, since all episodes start the same way.
    """
    own = [name for name in BEHAVIORS if name in takes]
    answers: list[float] = []
    for good in (name for name in own if takes[name].solved):
        for bad in (name for name in own if not takes[name].solved):
            end = min(len(distance[good]), len(distance[bad]))
            both = [(takes[name].steps[1:end] > 0) for name in (good, bad)]
            nearer = np.sign(distance[bad][1:end] - distance[good][1:end]) / 2 + 0.5
            answers += nearer[both[0] & both[1]].tolist()
    return answers


def _farther(distance: Mapping[str, np.ndarray], takes: Mapping[str, Take], name: str) -> list[bool]:
    """Compares poses `name` with open poses at least `APART` steps nearer; returns whether each distance is larger."""
    further = takes[name].steps[:, None] - takes["open"].steps[None] >= APART
    return (distance[name][:, None] > distance["open"][None])[further].tolist()
