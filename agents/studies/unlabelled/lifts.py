"""Counts failed attempts to lift a cube, and how many of them succeed in a dream, with labels unseen in the fit."""

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
"""Largest horizontal and vertical distance (cm) of a closing hand from a cube's center in an attempt to lift it. The
hand must also rise by more than `ABOVE` afterwards."""
RISEN = 2.7
"""Height above its start (cm) above which a cube counts as lifted at the end of an episode."""
DRAWS = 4
"""Number of dreams with noise per episode."""


def tries(data: EpisodeDataset, rows: np.ndarray) -> np.ndarray:
    """Returns which cubes the hand tried to lift, `(N, 3)` bool."""
    frames = data.offsets[rows][:, None] + np.arange(EPISODE_STEPS + 1)
    cubes = 100 * data.labels["objects"][frames].reshape(*frames.shape, 3, 3)
    hand = 100 * data.labels["hand"][frames][:, :, None]
    closing = data.observation["proprio"][frames][..., 3:] > 0
    away = hand - cubes
    near = (np.linalg.norm(away[..., :2], axis=-1) < ASIDE) & (np.abs(away[..., 2]) < ABOVE)
    return (near & closing & (hand[:, -1:, :, 2] - hand[..., 2] > ABOVE)).any(1)


def figures(model: SlotModel, data: EpisodeDataset, rows: np.ndarray, fitted: Fitted) -> dict[str, Any]:
    """Measures whether dreams with the recorded actions end with the same cubes lifted as physics.

    Args:
        model: The world model.
        data: Episodes with the labels of NICOL's simulator.
        rows: Indices of the episodes to measure on, which the model was not fitted to.
        fitted: Probe that reads the height of a cube.

    Returns:
        `tries` and `failed`, the numbers of attempts and of failed attempts; `false`, the fraction of failed attempts
        that succeed in dreams with noise; `missed`, the fraction of successful attempts that fail in dreams with noise;
        `false_likeliest` and `missed_likeliest`, the same without noise.
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
