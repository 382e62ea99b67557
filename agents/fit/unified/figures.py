"""Compares the token predictions of a unified model and its base model on held-out episodes, without labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dream_env.agents.fit.constants import QUANTILE
from dream_env.agents.fit.recorded import Recorded
from dream_env.agents.fit.slots.figures import FAR_MOVED, LIMIT, median
from dream_env.agents.fit.unified.frames import KINDS
from dream_env.world_models.protocol import State
from dream_env.world_models.slots.reader import FEATURES
from dream_env.world_models.unified.model import TOKENS, UnifiedModel

AHEAD = (1, 6, 12, 24)
"""Prediction horizons, in steps, for which errors are reported."""


@torch.no_grad()
def figures(model: UnifiedModel, base: Any, data: Recorded) -> dict[str, Any]:
    """Measures the error of open-loop predictions from the first frames.

    Args:
        model: The unified model.
        base: Its base world model, with its own dynamics.
        data: Held-out episodes as tokens.

    Returns:
        `open_loop`: by prediction horizon, the median token errors of `unified` and `base`; for slots also the errors
        in pixels from `_pixels`. `disagreement_quantile`: the calibrated disagreement threshold.
    """
    longest = int((data.last - data.first).max())
    ahead = sorted({min(k, longest) for k in AHEAD})
    first = data.first[:LIMIT]
    window = data.windows(first, max(ahead))
    tokens, own = (data.observation[name][first] for name in (TOKENS, "own"))
    frames, rows, spread = KINDS[model.config.base], {}, torch.zeros(0)
    for name, world in (("unified", model), ("base", base)):
        state = start(model, world, tokens, own)
        for k in range(max(ahead)):
            state, prediction = world.step(state, window.action[:, k])
            if name == "unified":
                assert prediction.disagreement is not None
                spread = torch.cat([spread, prediction.disagreement[window.known[:, k]]])
            if k + 1 in ahead:
                rows[name, k + 1] = model.tokens.of(state)[0]
    result: dict[str, Any] = {}
    for k in ahead:
        there, frame = window.known[:, k - 1], window.frame[:, k]
        truth = data.observation[TOKENS][frame]
        both = torch.stack([tokens, truth], 1)
        row: dict[str, Any] = {}
        for name in ("unified", "base"):
            found, seen = rows[name, k], data.observation["visible"][frame]
            row[name] = median(frames.wrong(model, found, both, seen)[there], 4)
        if model.config.base == "slots":
            row |= _pixels(model, {name: rows[name, k] for name in ("unified", "base")}, tokens, truth, seen, there)
        result[str(k)] = row
    quantile = spread[:1_000_000].quantile(QUANTILE).item() if len(spread) else 0.0
    return {"open_loop": result, "disagreement_quantile": float(f"{quantile:.4g}")}


def start(model: UnifiedModel, world: Any, tokens: Tensor, own: Tensor) -> State:
    """Returns states of the unified model or its base for tokens and robot states, with an empty memory."""
    state = model.tokens.state(tokens, own)
    if world is model:
        state |= {TOKENS: tokens.flatten(1)}
    if getattr(world, "has_memory", False):
        numbers = getattr(world, "remembered", world.config.memory)
        state["memory"] = tokens.new_zeros(*tokens.shape[:2], numbers)
    return state


def _pixels(
    model: UnifiedModel, found: dict[str, Tensor], start: Tensor, truth: Tensor, visible: Tensor, there: Tensor
) -> dict[str, Any]:
    """Returns median errors of slot positions in pixels, for each model in `found`.

    Returns:
        `moved_NAME` and `resting_NAME`: errors of slots that moved by more than `FAR_MOVED`, and of the others;
        `moved_if_still`: error for moved slots with a prediction of no motion.
    """
    half = model.base.config.picture_size / 2

    def place(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (-1, FEATURES))[..., :2] * half

    way = (place(start) - place(truth)).norm(dim=-1)
    seen = visible & there[:, None, None] & model_seen(start)
    moved, rest = seen & (way > FAR_MOVED), seen & (way <= FAR_MOVED)
    row: dict[str, Any] = {"moved_if_still": median(way[moved], 4)}
    for name, tokens in found.items():
        off = (place(tokens) - place(truth)).norm(dim=-1)
        row |= {f"moved_{name}": median(off[moved], 4), f"resting_{name}": median(off[rest], 4)}
    return row


def model_seen(tokens: Tensor) -> Tensor:
    """Returns which slots in tokens `(B, T, n)` are visible, i.e. have a positive size, `(B, T, C)`."""
    return tokens.unflatten(-1, (-1, FEATURES))[..., 2] > 0
