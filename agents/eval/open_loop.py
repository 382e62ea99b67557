"""Open-loop rollouts: predictions of a world model under recorded actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.world_models.protocol import Prediction, State, with_goal

Step = Callable[[State, Tensor, int], tuple[State, Prediction]]
"""Predicts one step from states `(B, ...)`, actions `(B, A)` and the number of the step."""


@torch.inference_mode()
def open_loop(
    model: Any, state: State, actions: Tensor, noise: Tensor | None = None, step: Step | None = None
) -> tuple[State, Prediction]:
    """Predicts K steps from states of B rows.

    Args:
        model: A `WorldModel`.
        state: Initial states.
        actions: `(B, K, A)`.
        noise: Uniform random numbers `(B, K, noise_dim)`; None for the most likely future.
        step: Function to use instead of `model.step`.

    Returns:
        The states, `(B, K + 1, ...)` in every entry, where entries of a state with three or more axes, such as feature
        maps, are float16; and the predictions of the steps, `(B, K)` each, None where the model predicts none.
    """
    states, predictions = [state], list[Prediction]()
    for k, action in enumerate(actions.unbind(1)):
        if step is not None:
            state, prediction = step(state, action, k)
        else:
            state, prediction = model.step(state, action, *(() if noise is None else (noise[:, k],)))
        states.append(state)
        predictions.append(prediction)
    parts = (None if part[0] is None else torch.stack(part, dim=1).clone() for part in zip(*predictions, strict=True))
    return {name: _stack([one[name] for one in states]).clone() for name in state}, Prediction(*parts)


def _stack(parts: list[Tensor]) -> Tensor:
    return torch.stack([part.half() if part.dim() > 2 else part for part in parts], dim=1)


def at(states: State, step: int) -> State:
    """Returns the states `(B, ...)` at one step of stacked states, as returned by `open_loop`."""
    return {name: part[:, step].float() for name, part in states.items()}


@torch.inference_mode()
def each_step(function: Callable[[State], Tensor], states: State) -> Tensor:
    """Applies a function to stacked states `(B, F, ...)` step by step; returns the stacked results `(B, F, ...)`."""
    frames = next(iter(states.values())).shape[1]
    return torch.stack([function(at(states, step)) for step in range(frames)], dim=1).clone()


def encoded_state(model: Any, tokens: Tensor, proprio: Tensor, instruction: Tensor) -> State:
    """Returns the states of encoded pictures `(B, T, C)`, set-points and sentence embeddings."""
    if hasattr(model, "state_of"):
        return model.state_of(tokens.float(), proprio, instruction)
    return {"tokens": tokens.float(), "proprio": proprio, "instruction": instruction}


@torch.inference_mode()
def recorded_states(
    model: Any, episodes: EncodedDataset, frames: slice = slice(None), goal: Tensor | None = None
) -> State:
    """Returns the states of recorded frames, `(N, F, ...)` in every entry.

    Args:
        model: A `WorldModel`.
        episodes: Encoded episodes.
        frames: Which of their frames to use.
        goal: Goal embeddings `(N, E)`, for models that predict success from them.
    """
    parts = (episodes.tokens[:, frames].unbind(1), episodes.proprio[:, frames].unbind(1))
    states = [
        with_goal(model, encoded_state(model, *one, episodes.instruction), goal) for one in zip(*parts, strict=True)
    ]
    return {name: _stack([one[name] for one in states]).clone() for name in states[0]}
