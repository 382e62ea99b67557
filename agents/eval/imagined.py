"""Draws what a policy imagined beside what then happened."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from dream_env.agents.clone.encoded_frames import encode
from dream_env.data.episodes import EpisodeDataset

GAP = 4
"""Pixels between pictures."""


def can_draw(model: Any) -> bool:
    """Tells whether a world model can draw what an embedding stands for, with nothing else told of its state."""
    return hasattr(model, "restore") and bool(model.spec.pictures) and not getattr(model, "state_spaces", ())


@torch.no_grad()
def strip(policy: Any, model: Any, data: EpisodeDataset, episode: int, count: int = 6) -> np.ndarray:
    """Draws moments of a recorded episode: what was seen, what was imagined for later, and what was seen then.

    Args:
        policy: One with `imagine` and `config.ahead`.
        model: World model that it sees through, with `restore`.
        data: Recorded episodes.
        episode: Which of them.
        count: Moments, spread over the episode.

    Returns:
        A picture `(H, W, 3)` uint8: three rows, a column for each moment.

    Raises:
        ValueError: If the world model cannot draw an embedding.
    """
    if not can_draw(model):
        raise ValueError(
            f"world model {type(model).__name__} cannot draw an embedding; accepted: one with pictures, and `restore` "
            "of embeddings alone"
        )
    frames = encode(model, data.take(slice(episode, episode + 1)))
    end = int(frames.last[0])
    rows = torch.linspace(0, max(0, end - policy.config.ahead), count).round().long()
    obs = frames.observed(rows)
    made = torch.from_numpy(policy.imagine({name: part.numpy() for name, part in obs.items()}))
    told = {"instruction": obs["instruction"]} if model.spec.instructions else {}
    state = model.restore({**{name: part.to(model.device) for name, part in obs.items()}, "embedding": made, **told})
    name, begin = model.spec.pictures[0], int(data.offsets[episode])
    drawn = model.decode(state)[name].cpu().numpy()
    seen = np.asarray(data.observation[name][begin : begin + end + 1])
    later = np.minimum(rows.numpy() + policy.config.ahead, end)
    return _grid([seen[rows.numpy()], drawn, seen[later]])


def save(picture: np.ndarray, path: Any, scale: int = 2) -> None:
    """Writes a picture `(H, W, 3)` uint8 as PNG, so many times as large."""
    image = Image.fromarray(picture)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)


def _grid(rows: list[np.ndarray]) -> np.ndarray:
    """Puts rows of pictures `(N, H, W, 3)` under one another, with white between them."""

    def joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
        shape = list(parts[0].shape)
        shape[axis] = GAP
        white = np.full(shape, 255, np.uint8)
        return np.concatenate([each for part in parts for each in (part, white)][:-1], axis)

    return joined([joined(list(row), 1) for row in rows], 0)
