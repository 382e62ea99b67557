"""Adapts world models without token maps to the fidelity report, by using their slots or code as tokens.

The report reads positions from `tokens` `(B, T, C)`, set-points and sentences, and rebuilds states from them. NICOL's
world model of kind "state_grounded" stores exactly these. Others are wrapped in `TokenView`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dream_env.world_models.protocol import Prediction, State


class TokenView:
    """Wraps a world model of kind "slots" or "unified" so that its states contain the slots or the code as `tokens`.

    Args:
        model: The world model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the model."""
        return getattr(self.model, name)

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes as the model does, and adds `tokens`."""
        return self._shown(self.model.encode(observation, previous))

    def step(self, state: State, action: Tensor, *rest: Any, **how: Any) -> tuple[State, Prediction]:
        """Predicts as the model does, and adds `tokens`."""
        after, prediction = self.model.step(state, action, *rest, **how)
        return self._shown(after), prediction

    def watch(self, pictures: Tensor, proprio: Tensor) -> Tensor:
        """Encodes the frames of an episode into tokens `(F, T, C)`; hidden objects stay where they were last visible.

        Args:
            pictures: Frames, `(F, H, W, 3)` uint8.
            proprio: Set-points, `(F, P)`.
        """
        found: list[State] = []
        for frame, own in zip(pictures.split(1), proprio.split(1), strict=True):
            found.append(self.encode({"pixels": frame, "proprio": own}, found[-1] if found else None))
        return torch.cat([one["tokens"] for one in found])

    def state_of(self, tokens: Tensor, proprio: Tensor, instruction: Tensor) -> State:
        """Builds states from tokens `(B, T, C)`, set-points and sentences, with an empty memory."""
        own = "slots" if "slots" in self.model.state_spaces else "tokens"
        known = {"proprio": proprio, "instruction": instruction, own: tokens if own == "slots" else tokens.flatten(1)}
        hidden = self.model.state_spaces.items()
        empty = {name: tokens.new_zeros(len(tokens), *space.shape) for name, space in hidden if name not in known}
        return self._shown(self.model.restore({**known, **empty}))

    def _shown(self, state: State) -> State:
        return {**state, "tokens": state["slots"] if "slots" in state else state["code"][:, None]}


def viewed(model: Any) -> Any:
    """Returns a world model in the form that the report reads, wrapped in `TokenView` if needed.

    Raises:
        ValueError: If the states of the world model have no tokens or no set-points.
    """
    kind = getattr(model, "kind", "")
    if kind not in ("slots", "unified", "dynamics", "vmc"):
        return model
    if kind not in ("slots", "unified") or "proprio" not in model.spec.vectors:
        raise ValueError(
            f"world_model is of kind {kind!r}, fitted to {model.spec.name}; accepted: a world model of NICOL of kind "
            "state_grounded, slots or unified, whose states show where things are"
        )
    return TokenView(model)
