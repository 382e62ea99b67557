"""Prediction errors on held-out episodes, for `dream_env.world_models.dynamics` and other models with latent codes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from dream_env.agents.fit.constants import QUANTILE
from dream_env.agents.fit.recorded import Recorded, Window
from dream_env.world_models.protocol import Prediction, State, WorldModel

AHEAD = (1, 2, 5, 10, 20, 50)
"""Numbers of steps ahead for which errors are reported."""
RECALLED = 8
"""Number of recorded frames that a model with memory is given before it predicts."""
LIMIT = 2000
"""Maximum number of windows to measure on, about."""


class CodeModel(WorldModel, Protocol):
    """A world model whose state has an entry `code`, and possibly a memory."""

    config: Any

    def start(self, code: Tensor) -> State:
        """Returns the states for codes `(B, Z)` at the start of an episode."""
        ...


@torch.no_grad()
def open_loop(
    model: CodeModel, code: Tensor, window: Window, recall: int, noise: Tensor | None = None
) -> tuple[Tensor, list[Prediction]]:
    """Predicts the steps of windows `(B, W)` open loop, after their first frames.

    Args:
        model: The model.
        code: Codes of all frames, `(F, Z)`.
        window: Windows with the recorded actions.
        recall: Number of frames after the first whose recorded codes are given to the model.
        noise: Uniform random numbers `(B, W, noise_dim)`; None for the most likely prediction.

    Returns:
        Codes `(B, W - recall + 1, Z)`, of which the first is the last recorded one, and the predictions of the steps.
    """
    state = model.start(code[window.frame[:, 0]])
    for k in range(recall):
        state = model.step(state, window.action[:, k])[0] | {"code": code[window.frame[:, k + 1]]}
    found, predictions = [state["code"]], []
    for k in range(recall, window.action.shape[1]):
        state, prediction = model.step(state, window.action[:, k], None if noise is None else noise[:, k])
        found.append(state["code"])
        predictions.append(prediction)
    return torch.stack(found, 1), predictions


@torch.no_grad()
def figures(model: CodeModel, data: Recorded, code: Tensor) -> dict[str, Any]:
    """Measures the prediction errors of a model on held-out episodes.

    Returns:
        A dict with `open_loop_error`, by the number of steps ahead: mean squared error divided by the variance of the
        codes, of the prediction (`predicted`) and of repeating the last given code (`copied`); `reward_error`: root
        mean squared error of one step (`rms`), and the rewards' standard deviation (`std`); `terminated`: fraction of
        terminations that are predicted one step ahead (`foreseen`), and of other steps that are predicted to terminate
        (`false`); and, for an ensemble, `disagreement_quantile` over open-loop predictions under recorded actions.
    """
    recall, ahead = RECALLED if model.config.memory else 0, max(AHEAD)
    step = max(1, len(data.acted) // LIMIT)
    window = data.windows(data.acted[::step], recall + ahead)
    window = Window(*(part[window.known[:, recall]] for part in window))
    if not len(window.frame):  # episodes are too short for this
        recall, window = 0, data.windows(data.acted[::step], ahead)
    found, predictions = open_loop(model, code, window, recall)
    truth, known = code[window.frame[:, recall:]], window.known[:, recall:]
    variance = code.var(0).clamp(min=1e-6)
    error: dict[str, dict[str, float]] = {"predicted": {}, "copied": {}}
    for k in AHEAD:
        if (there := known[:, k - 1]).any():
            for name, guess in (("predicted", found[:, k]), ("copied", truth[:, 0])):
                wrong = ((guess - truth[:, k])[there] ** 2 / variance).mean()
                error[name][str(k)] = float(f"{wrong.item():.4g}")
    result: dict[str, Any] = {"open_loop_error": error}
    now, first = known[:, 0], predictions[0]
    if first.reward is not None:
        wrong = (first.reward - window.reward[:, recall])[now]
        result["reward_error"] = {
            "rms": float(f"{wrong.square().mean().sqrt().item():.4g}"),
            "std": float(f"{window.reward[:, recall][now].std().nan_to_num().item():.4g}"),
        }
    if first.terminated is not None:
        ends, said = window.terminated[:, recall][now] > 0.5, first.terminated[now] > 0.5
        result["terminated"] = {
            "foreseen": round((said & ends).sum().item() / max(1, int(ends.sum())), 4),
            "false": round((said & ~ends).sum().item() / max(1, int((~ends).sum())), 4),
        }
    if first.disagreement is not None:
        spread = torch.stack([each.disagreement for each in predictions], 1)[known]  # type: ignore[misc]
        result["disagreement_quantile"] = float(f"{spread.quantile(QUANTILE).item():.4g}")
    return result


@torch.no_grad()
def picture_strip(
    model: CodeModel, data: Recorded, code: Tensor, episode: int, steps: tuple[int, ...], seed: int | None = None
) -> Tensor:
    """Draws an episode in three rows, `(3 * S, S * len(steps), 3)` uint8.

    The rows are the recorded pictures, their reconstructions, and the open-loop prediction from the first frame.

    Args:
        model: A model of an environment with pictures; the first picture is drawn.
        data: Recorded episodes.
        code: Codes of their frames.
        episode: Index of the episode.
        steps: Steps to draw; steps after the end of the episode repeat its last frame.
        seed: Adds a fourth row, a prediction with noise from this seed; None for no such row.
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
