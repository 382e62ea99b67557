"""How well a model foresees held-out episodes: of `dream_env.world_models.dynamics`, or another with codes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from dream_env.agents.fit.recorded import Recorded, Window
from dream_env.world_models.protocol import Prediction, State, WorldModel

AHEAD = (1, 2, 5, 10, 20, 50)
"""Steps ahead of which errors are told."""
RECALLED = 8
"""Frames that a model with memory has seen before it is asked."""
QUANTILE = 0.999
"""Share of recorded steps that agree better than the threshold of disagreement."""
LIMIT = 2000
"""Most windows that are measured on."""


class CodeModel(WorldModel, Protocol):
    """A world model whose state holds a `code`, and what it remembers beside."""

    config: Any

    def start(self, code: Tensor) -> State:
        """Returns the states of codes `(B, Z)` before which there was nothing."""
        ...


@torch.no_grad()
def open_loop(
    model: CodeModel, code: Tensor, window: Window, recall: int, noise: Tensor | None = None
) -> tuple[Tensor, list[Prediction]]:
    """Predicts the steps of a window `(B, W)` from its first frames on.

    Args:
        model: The model.
        code: Codes of all frames, `(F, Z)`.
        window: What was done.
        recall: Frames after the first whose recorded codes are seen.
        noise: Uniform random numbers `(B, W, noise_dim)`; None for the likeliest.

    Returns:
        Codes `(B, W - recall + 1, Z)` from the last recorded one on, and what was told of these steps.
    """
    state = model.start(code[window.frame[:, 0]])
    for k in range(recall):
        state = model.step(state, window.action[:, k])[0] | {"code": code[window.frame[:, k + 1]]}
    found, told = [state["code"]], []
    for k in range(recall, window.action.shape[1]):
        state, one = model.step(state, window.action[:, k], None if noise is None else noise[:, k])
        found.append(state["code"])
        told.append(one)
    return torch.stack(found, 1), told


@torch.no_grad()
def figures(model: CodeModel, data: Recorded, code: Tensor) -> dict[str, Any]:
    """Measures a model on episodes that it was not trained on.

    Returns:
        `open_loop_error`: by steps ahead, mean squared error over the variance of the codes, `predicted` and `copied`
        (the code of the last frame seen taken again); `reward_error`: of one step, root mean squared, and the rewards'
        standard deviation beside it; `terminated`: of one step, shares of ends foreseen and of other steps taken for
        one; `disagreement_quantile`, along predictions under recorded actions, of an ensemble.
    """
    recall, ahead = RECALLED if model.config.memory else 0, max(AHEAD)
    step = max(1, len(data.acted) // LIMIT)
    window = data.windows(data.acted[::step], recall + ahead)
    window = Window(*(part[window.known[:, recall]] for part in window))
    if not len(window.frame):  # episodes are too short to remember so much of
        recall, window = 0, data.windows(data.acted[::step], ahead)
    found, told = open_loop(model, code, window, recall)
    truth, known = code[window.frame[:, recall:]], window.known[:, recall:]
    variance = code.var(0).clamp(min=1e-6)
    error: dict[str, dict[str, float]] = {"predicted": {}, "copied": {}}
    for k in AHEAD:
        if (there := known[:, k - 1]).any():
            for name, guess in (("predicted", found[:, k]), ("copied", truth[:, 0])):
                wrong = ((guess - truth[:, k])[there] ** 2 / variance).mean()
                error[name][str(k)] = float(f"{wrong.item():.4g}")
    result: dict[str, Any] = {"open_loop_error": error}
    now, first = known[:, 0], told[0]
    if first.reward is not None:
        wrong = (first.reward - window.reward[:, recall])[now]
        result["reward_error"] = {
            "rms": float(f"{wrong.square().mean().sqrt().item():.4g}"),
            "std": float(f"{window.reward[:, recall][now].std().item():.4g}"),
        }
    if first.terminated is not None:
        ends, said = window.terminated[:, recall][now] > 0.5, first.terminated[now] > 0.5
        result["terminated"] = {
            "foreseen": round((said & ends).sum().item() / max(1, int(ends.sum())), 4),
            "false": round((said & ~ends).sum().item() / max(1, int((~ends).sum())), 4),
        }
    if first.disagreement is not None:
        spread = torch.stack([one.disagreement for one in told], 1)[known]  # type: ignore[misc]
        result["disagreement_quantile"] = float(f"{spread.quantile(QUANTILE).item():.4g}")
    return result


@torch.no_grad()
def picture_strip(
    model: CodeModel, data: Recorded, code: Tensor, episode: int, steps: tuple[int, ...], seed: int | None = None
) -> Tensor:
    """Draws an episode in three rows, `(3 * S, S * len(steps), 3)` uint8: recorded, coded, predicted from its start.

    Args:
        model: A model with a picture; the first one is drawn.
        data: Recorded episodes.
        code: Codes of their frames.
        episode: Which one.
        steps: Steps to draw; those after its end repeat its last frame.
        seed: Draws a fourth row: predicted with the noise of this seed.
    """
    window = data.windows(data.first[episode][None], max(steps))
    shape, generator = (1, max(steps), model.noise_dim), torch.Generator().manual_seed(seed or 0)
    noises = [None, *([] if seed is None else [torch.rand(shape, generator=generator)])]
    found = [open_loop(model, code, window, 0, noise)[0] for noise in noises]
    name, chosen = model.spec.pictures[0], torch.tensor(steps)
    frames = window.frame[0, chosen]
    rows = [data.observation[name][frames]]
    side = rows[0].shape[1:3]
    for codes in (code[frames], *(each[0, chosen] for each in found)):
        drawn = model.decode({"code": codes})[name]
        rows.append(drawn if drawn.shape[1:3] == side else rows[0])
    return torch.cat([torch.cat(list(row), 1) for row in rows], 0)
