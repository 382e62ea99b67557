"""Open-loop rollouts: what a world model predicts of actions that were recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.world_models.protocol import Prediction, State, with_goal

Step = Callable[[State, Tensor, int], tuple[State, Prediction]]
"""Predicts a step from a state `(B, ...)`, actions `(B, A)` and the number of the step."""


@torch.inference_mode()
def open_loop(
    model: Any, state: State, actions: Tensor, noise: Tensor | None = None, step: Step | None = None
) -> tuple[State, Prediction]:
    """Predicts K steps from states of B rows.

    Args:
        model: A `WorldModel`.
        state: Where the predictions begin.
        actions: `(B, K, A)`.
        noise: Uniform random numbers `(B, K, noise_dim)`; None for the likeliest.
        step: Takes the place of `model.step`.

    Returns:
        The states, `(B, K + 1, ...)` in every entry, with maps (entries of three axes) in float16; and the predictions
        of the steps, `(B, K)` each, None where the model cannot tell.
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
    # Clones leave inference mode.
    return {name: _stack([one[name] for one in states]).clone() for name in state}, Prediction(*parts)


def _stack(parts: list[Tensor]) -> Tensor:
    return torch.stack([part.half() if part.dim() > 2 else part for part in parts], dim=1)


def at(states: State, step: int) -> State:
    """Returns the states `(B, ...)` at one step of those that `open_loop` stacked."""
    return {name: part[:, step].float() for name, part in states.items()}


@torch.inference_mode()
def each_step(function: Callable[[State], Tensor], states: State) -> Tensor:
    """Returns what a function makes of states `(B, F, ...)`, `(B, F, ...)`, one step after the other."""
    frames = next(iter(states.values())).shape[1]
    return torch.stack([function(at(states, step)) for step in range(frames)], dim=1).clone()


def encoded_state(model: Any, tokens: Tensor, proprio: Tensor, instruction: Tensor) -> State:
    """Makes the states of encoded pictures `(B, T, C)`, set-points and sentences."""
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
        episodes: The episodes.
        frames: Which of their frames.
        goal: Embeddings of their goals `(N, E)`, for models that tell success by them.
    """
    parts = (episodes.tokens[:, frames].unbind(1), episodes.proprio[:, frames].unbind(1))
    states = [
        with_goal(model, encoded_state(model, *one, episodes.instruction), goal) for one in zip(*parts, strict=True)
    ]
    return {name: _stack([one[name] for one in states]).clone() for name in states[0]}
