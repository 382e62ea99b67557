"""Episodes of a robot that is not NICOL: two cameras of different size, two vectors, goals, labels, any length."""

from pathlib import Path

import numpy as np
from gymnasium import spaces

from dream_env.data.episode import Episode
from dream_env.data.writer import EpisodeWriter
from dream_env.spec import WorldSpec

SPEC = WorldSpec(
    name="gripper",
    observation=spaces.Dict(
        {
            "top": spaces.Box(0, 255, (6, 8, 3), np.uint8),
            "wrist": spaces.Box(0, 255, (5, 5, 3), np.uint8),
            "state": spaces.Box(-1, 1, (3,), np.float32),
            "force": spaces.Box(-np.inf, np.inf, (1,), np.float32),
        }
    ),
    action=spaces.Box(-2, 2, (2,), np.float32),
    control_hz=5,
    hold_steps=2,
    instructions=True,
    goals=True,
    names={"state": ("x", "y", "z"), "action": ("dx", "dy")},
)


def episode(seed: int, steps: int = 3, **changes: object) -> Episode:
    rng = np.random.default_rng(seed)
    values = {
        "observation": {
            "top": rng.integers(0, 256, (steps + 1, 6, 8, 3), np.uint8),
            "wrist": rng.integers(0, 256, (steps + 1, 5, 5, 3), np.uint8),
            "state": rng.uniform(-1, 1, (steps + 1, 3)).astype(np.float32),
            "force": rng.normal(0, 9, (steps + 1, 1)).astype(np.float32),
        },
        "action": rng.uniform(-2, 2, (steps, 2)).astype(np.float32),
        "reward": rng.normal(size=steps).astype(np.float32),
        "terminated": bool(seed % 2),
        "success": np.arange(steps + 1) >= steps - 1 - seed % 2,
        "instruction": f"go there {seed % 2}",
        "goal": {"top": rng.integers(0, 256, (6, 8, 3), np.uint8), "state": np.full(3, 0.5, np.float32)},
        "labels": {"pose": rng.normal(size=(steps + 1, 2, 3)), "contact": rng.random(steps + 1) < 0.5},
        "seed": seed,
        "kind": "play",
        "task": "go",
    }
    return Episode(**{**values, **changes})  # type: ignore[arg-type]


def write(root: Path, *episodes: Episode, spec: WorldSpec = SPEC) -> Path:
    with EpisodeWriter(root, spec) as writer:
        for one in episodes:
            writer.add(one)
    return root


def equal(a: Episode, b: Episode) -> bool:
    def flat(one: Episode) -> dict:
        plain = {k: v for k, v in vars(one).items() if not isinstance(v, dict)}
        return plain | {
            f"{k}.{n}": v for k in ("observation", "goal", "labels") for n, v in (vars(one)[k] or {}).items()
        }

    left, right = flat(a), flat(b)
    return left.keys() == right.keys() and all(
        np.array_equal(left[k], right[k]) and np.asarray(left[k]).dtype == np.asarray(right[k]).dtype for k in left
    )
