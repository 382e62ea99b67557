"""Tasks of the study, with the settings of every step of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dream_env.agents.studies.your_robot import panda


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        env: Id of the environment.
        own: Id of panda-gym's original environment, which observes true positions.
        mix: Behaviors of the recorded episodes, in turn, of `scripted` or `agents.collect`.
        episodes: Number of recorded episodes.
        fit: Arguments of the fit, by kind of world model.
        clone: Arguments of the clone.
        train: Arguments of practice.
        coevolve: Arguments of co-evolution; empty for none.
    """

    env: str
    own: str
    mix: tuple[str, ...]
    episodes: int
    fit: dict[str, dict[str, Any]] = field(default_factory=dict)
    clone: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    coevolve: dict[str, Any] = field(default_factory=dict)


_DYNAMICS = {"memory": 0, "members": 3, "latent": 24, "picture_noise": 0.1, "picture_updates": 1200, "updates": 1000}
_SLOTS = {
    "use_success": False,
    "pointing": 0.3,
    "updates": 1000,
    "distance_updates": 1000,
    "own_updates": 250,
    "batch": 24,
}
_CLONE = {"goal": True, "hindsight": 1.0, "held_out": 0.0, "noise": 0.05, "depth": 1, "latents": 4, "updates": 800}
_TRAIN = {
    "reward": "energy",
    "temperature": 1.5,
    "rate": 3e-4,
    "n_envs": 128,
    "steps": 100_000,
    "validation_episodes": 0,
}
SIZES = {
    "reach": Case(
        panda.REACH,
        "PandaReach-v3",
        ("held", "correlated"),
        150,
        {"slots": _SLOTS | {"updates": 500, "distance_updates": 700}, "dynamics": _DYNAMICS},
        _CLONE | {"updates": 600},
        _TRAIN | {"steps": 50_000},
    ),
    "push": Case(
        panda.PUSH,
        "PandaPush-v3",
        ("play",) * 9 + ("held",),
        600,
        {
            "slots": _SLOTS | {"updates": 4000, "distance_updates": 3000, "own_updates": 600, "batch": 64},
            "dynamics": _DYNAMICS | {"latent": 32},
        },
        _CLONE | {"updates": 2500},
        _TRAIN | {"rate": 1e-4, "steps": 400_000},
    ),
    "push_demonstrated": Case(
        panda.PUSH,
        "PandaPush-v3",
        ("play", "demo"),
        600,
        {
            "slots": _SLOTS | {"updates": 4000, "distance_updates": 3000, "own_updates": 600, "batch": 64},
            "dynamics": _DYNAMICS | {"latent": 32},
        },
        _CLONE | {"hindsight": 0.5, "demonstrations": 25, "updates": 2000},
        _TRAIN | {"rate": 2e-4, "steps": 1_500_000},
        {"episodes": 300, "updates": 4000},
    ),
}
SHORT: dict[str, dict[str, Any]] = {
    "slots": {"updates": 2, "distance_updates": 2, "own_updates": 2, "width": 8, "batch": 4},
    "dynamics": {"picture_updates": 2, "updates": 2, "width": 8, "batch": 4},
    "clone": {"updates": 2, "batch": 8, "width": 16, "latents": 2, "depth": 1},
    "train": {"n_envs": 2, "steps": 80},
    "coevolve": {"episodes": 2, "updates": 2},
}


def size(case: str, short: bool) -> Case:
    """Returns a case, at toy size if `short`."""
    one = SIZES[case]
    if not short:
        return one
    small = {kind: given | SHORT[kind] for kind, given in one.fit.items()}
    parts = {name: given | SHORT[name] for name in ("clone", "train", "coevolve") if (given := getattr(one, name))}
    if "demonstrations" in one.clone:
        parts["clone"]["demonstrations"] = 2
    return replace(one, episodes=4, fit=small, **parts)
