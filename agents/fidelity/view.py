"""World models without token maps as the report knows them: slots, or a code, are the tokens.

The report reads positions off `tokens` `(B, T, C)`, set-points and sentences, of which a state can be made again. A
world model of NICOL that reads object states keeps exactly that. Others are looked at through `TokenView`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dream_env.world_models.protocol import Prediction, State


class TokenView:
    """A world model of kind "slots" or "unified" whose states show their slots, or their code, as `tokens`.

    Args:
        model: The world model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        """Returns what the model has."""
        return getattr(self.model, name)

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes as the model does."""
        return self._shown(self.model.encode(observation, previous))

    def step(self, state: State, action: Tensor, *rest: Any, **how: Any) -> tuple[State, Prediction]:
        """Predicts as the model does."""
        after, told = self.model.step(state, action, *rest, **how)
        return self._shown(after), told

    def watch(self, pictures: Tensor, proprio: Tensor) -> Tensor:
        """Returns the tokens `(F, T, C)` of an episode's frames; what is hidden stays where it was seen last.

        Args:
            pictures: `(F, H, W, 3)` uint8.
            proprio: `(F, P)`.
        """
        found: list[State] = []
        for frame, own in zip(pictures.split(1), proprio.split(1), strict=True):
            found.append(self.encode({"pixels": frame, "proprio": own}, found[-1] if found else None))
        return torch.cat([one["tokens"] for one in found])

    def state_of(self, tokens: Tensor, proprio: Tensor, instruction: Tensor) -> State:
        """Makes states of tokens `(B, T, C)`, set-points and sentences; nothing is remembered in them."""
        own = "slots" if "slots" in self.model.state_spaces else "tokens"
        told = {"proprio": proprio, "instruction": instruction, own: tokens if own == "slots" else tokens.flatten(1)}
        hidden = self.model.state_spaces.items()
        empty = {name: tokens.new_zeros(len(tokens), *space.shape) for name, space in hidden if name not in told}
        return self._shown(self.model.restore({**told, **empty}))

    def _shown(self, state: State) -> State:
        return {**state, "tokens": state["slots"] if "slots" in state else state["code"][:, None]}


def viewed(model: Any) -> Any:
    """Returns what the report looks at of a world model.

    Raises:
        ValueError: If its states have no tokens, or no set-points, to look at.
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
