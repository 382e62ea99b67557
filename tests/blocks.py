"""Episodes of a toy robot: a grey hand pushes two colored blocks on a table, seen by one camera or two."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from dream_env.data.episode import Episode
from dream_env.data.episodes import EpisodeDataset
from dream_env.spec import WorldSpec

SIDE = 32
COLORS = {"red": (200, 20, 20), "blue": (20, 40, 200)}


def spec(cameras: int = 1, **changes: object) -> WorldSpec:
    camera = {f"camera{i}": spaces.Box(0, 255, (SIDE, SIDE + 8 * i, 3), np.uint8) for i in range(cameras)}
    values = {
        "name": "blocks",
        "observation": spaces.Dict({**camera, "hand": spaces.Box(-1, 1, (2,), np.float32)}),
        "action": spaces.Box(-1, 1, (2,), np.float32),
        "horizon": 8,
        "instructions": True,
        "goals": True,
    }
    return WorldSpec(**{**values, **changes})  # type: ignore[arg-type]


def picture(hand: np.ndarray, blocks: np.ndarray, wide: int = 0) -> np.ndarray:
    drawn = np.full((SIDE, SIDE + wide, 3), 210, np.uint8)
    for (x, y), color, half in [*zip(blocks, COLORS.values(), (3, 3), strict=True), (hand, (110, 110, 110), 2)]:
        column, row = int((x + 1) / 2 * (SIDE + wide)), int((y + 1) / 2 * SIDE)
        drawn[max(0, row - half) : row + half, max(0, column - half) : column + half] = color
    return drawn


def episode(seed: int, steps: int = 8, cameras: int = 1, labels: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    hand, blocks = rng.uniform(-0.8, 0.8, 2), rng.uniform(-0.7, 0.7, (2, 2))
    frames, actions = [], []
    for _ in range(steps + 1):
        frames.append((hand.copy(), blocks.copy()))
        action = np.clip(4 * (blocks[seed % 2] - hand) + rng.normal(0, 0.3, 2), -1, 1)
        actions.append(action)
        hand = np.clip(hand + 0.2 * action, -1, 1)
        for block in blocks:
            if np.abs(block - hand).max() < 0.25:
                block += 0.2 * action
        blocks = blocks.clip(-0.8, 0.8)
    observation = {f"camera{i}": np.stack([picture(*one, wide=8 * i) for one in frames]) for i in range(cameras)}
    return Episode(
        observation={**observation, "hand": np.stack([one for one, _ in frames]).astype(np.float32)},
        action=np.stack(actions[:-1]).astype(np.float32),
        terminated=False,
        success=np.arange(steps + 1) >= steps - seed % 3 if seed % 4 else np.zeros(steps + 1, bool),
        instruction=f"push the {[*COLORS][seed % 2]} block",
        goal={name: part[-1] for name, part in observation.items()},
        labels={"pose": np.stack([blocks for _, blocks in frames]).astype(np.float32)} if labels else {},
        seed=seed,
        kind="play",
        task="push",
    )


def dataset(count: int = 16, cameras: int = 1, labels: bool = True, **changes: object) -> EpisodeDataset:
    episodes = [episode(i, cameras=cameras, labels=labels) for i in range(count)]
    return EpisodeDataset.stack(episodes, spec(cameras, **changes))
