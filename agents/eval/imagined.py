"""Draws the future that a policy imagined next to the one that was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from dream_env.agents.clone.encoded_frames import encode
from dream_env.agents.eval.pictures import scaled
from dream_env.data.episodes import EpisodeDataset

GAP = 4
"""Distance between pictures, in pixels."""


def can_draw(model: Any) -> bool:
    """Returns whether a world model can decode pictures from an embedding, without further entries of its state."""
    return hasattr(model, "restore") and bool(model.spec.pictures) and not getattr(model, "state_spaces", ())


def moments(end: int, ahead: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps `(count,)` spread over an episode of `end` steps, and the steps `ahead` of them, up to the end."""
    rows = np.linspace(0, max(0, end - ahead), count).round().astype(int)
    return rows, np.minimum(rows + ahead, end)


@torch.no_grad()
def strip(
    policy: Any, model: Any, data: EpisodeDataset, episode: int, count: int = 6
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws steps of a recorded episode: the picture, the imagined picture some steps later, and the true later one.

    Args:
        policy: Policy with `imagine` and `config.ahead`.
        model: World model whose encoder the policy uses, with `restore`.
        data: Recorded episodes.
        episode: Index of the episode.
        count: Number of steps to draw, spread over the episode.

    Returns:
        Pictures `(count, H, W, 3)` uint8 by label, and the numbers of the drawn steps `(count,)`.

    Raises:
        ValueError: If the world model cannot decode pictures from an embedding.
    """
    if not can_draw(model):
        raise ValueError(
            f"world model {type(model).__name__} cannot draw an embedding; accepted: one with pictures, and `restore` "
            "of embeddings alone"
        )
    frames = encode(model, data.take(slice(episode, episode + 1)))
    end, ahead = int(frames.last[0]), policy.config.ahead
    rows, later = moments(end, ahead, count)
    obs = frames.observed(torch.from_numpy(rows))
    made = torch.from_numpy(policy.imagine({name: part.numpy() for name, part in obs.items()}))
    words = {"instruction": obs["instruction"]} if model.spec.instructions else {}
    state = model.restore({**{name: part.to(model.device) for name, part in obs.items()}, "embedding": made, **words})
    name, begin = model.spec.pictures[0], int(data.offsets[episode])
    drawn = model.decode(state)[name].cpu().numpy()
    seen = np.asarray(data.observation[name][begin : begin + end + 1])
    return {"seen": seen[rows], f"imagined\n{ahead} steps on": drawn, f"seen\n{ahead} steps on": seen[later]}, rows


def labelled(
    rows: Mapping[str, np.ndarray], steps: Sequence[int] | np.ndarray, said: str, side: int = 112
) -> Image.Image:
    """Arranges rows of pictures in one image, with a label per row, a step above each column, and the sentence on top.

    Args:
        rows: Pictures `(N, H, W, 3)` uint8 by label.
        steps: Step of each column.
        said: The sentence; "" for none.
        side: Height of a picture, in pixels.
    """
    font = ImageFont.load_default(15)
    parts = {name: [scaled(one, side) for one in pictures] for name, pictures in rows.items()}
    width = next(iter(parts.values()))[0].width
    measured = [font.getlength(line) for name in parts for line in name.split("\n")]
    left, top = int(max(measured)) + 16, 26 + 24 * bool(said)
    canvas = Image.new("RGB", (left + len(steps) * (width + GAP), top + len(parts) * (side + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    if said:
        draw.text((left, 4), f"“{said}”", "#1a202c", font)
    for column, step in enumerate(steps):
        draw.text((left + column * (width + GAP) + 2, top - 21), f"step {step}", "#4a5568", font)
    for row, (name, pictures) in enumerate(parts.items()):
        y = top + row * (side + GAP)
        draw.multiline_text((6, y + side // 2), name, "#1a202c", font, anchor="lm", spacing=3)
        for column, picture in enumerate(pictures):
            canvas.paste(picture, (left + column * (width + GAP), y))
    return canvas
