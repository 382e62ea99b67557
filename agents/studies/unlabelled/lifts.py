"""Tries to lift a cube that failed, and how many of them a dream lifts: told by labels which the model never saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dream_env.agents.studies.unlabelled.probe import Fitted, watch
from dream_env.data.episodes import EpisodeDataset
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import SEEN

ASIDE, ABOVE = 5.0, 4.0
"""A hand that closes so near to a cube's middle (cm) tries to take it, if it then rises by as much as `ABOVE`."""
RISEN = 2.7
"""Height above its start (cm) from which on a cube is lifted at an episode's end."""
DRAWS = 4
"""Dreams of each episode under noise."""


def tries(data: EpisodeDataset, rows: np.ndarray) -> np.ndarray:
    """Returns which cubes of episodes a hand tried to lift, `(N, 3)` bool."""
    frames = data.offsets[rows][:, None] + np.arange(EPISODE_STEPS + 1)
    cubes = 100 * data.labels["objects"][frames].reshape(*frames.shape, 3, 3)
    hand = 100 * data.labels["hand"][frames][:, :, None]
    closing = data.observation["proprio"][frames][..., 3:] > 0
    away = hand - cubes
    near = (np.linalg.norm(away[..., :2], axis=-1) < ASIDE) & (np.abs(away[..., 2]) < ABOVE)
    return (near & closing & (hand[:, -1:, :, 2] - hand[..., 2] > ABOVE)).any(1)


def figures(model: SlotModel, data: EpisodeDataset, rows: np.ndarray, fitted: Fitted) -> dict[str, Any]:
    """Measures whether dreams under recorded actions end with those cubes lifted that physics has lifted.

    Args:
        model: The world model.
        data: Episodes with the labels of NICOL's simulator.
        rows: Those that are measured on, which the model was not fitted to.
        fitted: What tells a cube's height.

    Returns:
        `tries`, `failed`: their numbers; `false`: the share of dreams under noise in which one that failed is lifted,
        `missed`: in which one that was lifted is not; `false_likeliest`, `missed_likeliest`: without noise.
    """
    seen = watch(model, data, rows, fitted.slot_of, DRAWS)
    tried = torch.from_numpy(tries(data, rows)) & (seen.slots[:, 0, :, SEEN] > 0)

    def up(height: Tensor) -> Tensor:
        return height[..., -1, :] - height[..., 0, :] > RISEN

    lifted = up(seen.cubes[..., 2])
    drawn, likeliest = (up(fitted.probe(part)[..., 2]) for part in (seen.drawn, seen.dreamt))
    failed, taken = tried & ~lifted, tried & lifted
    return {
        "tries": int(tried.sum()),
        "failed": int(failed.sum()),
        "false": _share(drawn[:, failed]),
        "missed": _share(~drawn[:, taken]),
        "false_likeliest": _share(likeliest[failed]),
        "missed_likeliest": _share(~likeliest[taken]),
    }


def _share(some: Tensor) -> float | None:
    return round(some.float().mean().item(), 3) if some.numel() else None
