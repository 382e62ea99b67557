"""Draws what a policy imagined beside what then happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from dream_env.agents.clone.encoded_frames import encode
from dream_env.agents.eval.pictures import enlarge
from dream_env.data.episodes import EpisodeDataset

GAP = 4
"""Pixels between pictures."""


def can_draw(model: Any) -> bool:
    """Tells whether a world model can draw what an embedding stands for, with nothing else told of its state."""
    return hasattr(model, "restore") and bool(model.spec.pictures) and not getattr(model, "state_spaces", ())


def moments(end: int, ahead: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps `(count,)` spread over an episode of `end` steps, and the ones that many steps ahead of them."""
    rows = np.linspace(0, max(0, end - ahead), count).round().astype(int)
    return rows, np.minimum(rows + ahead, end)


@torch.no_grad()
def strip(
    policy: Any, model: Any, data: EpisodeDataset, episode: int, count: int = 6
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws moments of a recorded episode: what was seen, what was imagined for later, and what was seen then.

    Args:
        policy: One with `imagine` and `config.ahead`.
        model: World model that it sees through, with `restore`.
        data: Recorded episodes.
        episode: Which of them.
        count: Moments, spread over the episode.

    Returns:
        Pictures `(count, H, W, 3)` uint8 by what they are, and the steps of the moments `(count,)`.

    Raises:
        ValueError: If the world model cannot draw an embedding.
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
    told = {"instruction": obs["instruction"]} if model.spec.instructions else {}
    state = model.restore({**{name: part.to(model.device) for name, part in obs.items()}, "embedding": made, **told})
    name, begin = model.spec.pictures[0], int(data.offsets[episode])
    drawn = model.decode(state)[name].cpu().numpy()
    seen = np.asarray(data.observation[name][begin : begin + end + 1])
    return {"seen": seen[rows], f"imagined\n{ahead} steps on": drawn, f"seen\n{ahead} steps on": seen[later]}, rows


def labelled(
    rows: Mapping[str, np.ndarray], steps: Sequence[int] | np.ndarray, said: str, side: int = 112
) -> Image.Image:
    """Puts rows of pictures under one another, with their names, the steps above, and the sentence on top.

    Args:
        rows: Pictures `(N, H, W, 3)` uint8 by name.
        steps: Step of each column.
        said: The sentence; "" for none.
        side: Height of a picture.
    """
    font = ImageFont.load_default(15)
    parts = {name: [enlarge(one, side) for one in pictures] for name, pictures in rows.items()}
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
