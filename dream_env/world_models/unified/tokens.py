"""Converts states of base world models to tokens, and applies predicted token changes.

Each class wraps a base model of one kind without its dynamics. Tokens `(..., T, n)` and the robot state `(..., P)` are
all of a state that the network takes as input, and all that it predicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dream_env.spec import WorldSpec
from dream_env.world_models.dynamics import DynamicsConfig, DynamicsModel
from dream_env.world_models.protocol import State
from dream_env.world_models.slots.dynamics import MOVING
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.slots.reader import FEATURES
from dream_env.world_models.weights import config_of


class Tokens(Protocol):
    """Conversion between states of a base model and tokens.

    Attributes:
        base: The base model, without its dynamics.
        count: Number T of tokens.
        numbers: Size n of a token.
        seen: Size of a token's features: the token, and its relation to the robot.
        own: Size P of the robot state, which is predicted separately from the tokens; 0 for none.
        robot: Size of the robot features.
        changes: Size of a token's change.
    """

    base: Any
    count: int
    numbers: int
    seen: int
    own: int
    robot: int
    changes: int

    def of(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the tokens `(B, T, n)` and the standardized robot state `(B, P)` of states."""

    def state(self, tokens: Tensor, own: Tensor) -> State:
        """Returns the state entries for tokens and a robot state."""

    def robot_of(self, own: Tensor) -> Tensor:
        """Returns the robot features that the network takes as input, `(..., robot)`."""

    def related(self, tokens: Tensor, robot: Tensor) -> Tensor:
        """Returns the token features that the network takes as input, `(..., T, seen)`; `robot` is from `robot_of`."""

    def moved(self, tokens: Tensor, change: Tensor) -> Tensor:
        """Adds changes `(..., T, changes)`, which are of about unit size, to tokens."""

    def reward_and_end(self, before: State, after: State, action: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Predicts the reward `(B,)` and the termination logit `(B,)` of steps; None if the base model does not.

        Args:
            before: States before the step.
            after: States after the step.
            action: Normalized actions, `(B, A)`.
        """


NEAR = 8.0
"""Factor on the offset from the hand before it is squashed by tanh and added to the features of a slot; gives a fine
resolution near the hand, where things happen."""


class SlotTokens:
    """Tokens of `dream_env.world_models.slots`: the slots, with their offset from the robot's hand as features."""

    def __init__(self, config: Mapping[str, Any], spec: WorldSpec) -> None:
        slot_config = config_of(SlotModel.config_class, {**config, "members": 1})
        self.base = SlotModel(slot_config, spec)
        del self.base.dynamics
        cameras = self.base.cameras
        self.count, self.numbers, self.changes = slot_config.slots, cameras * FEATURES, cameras * MOVING
        self.own = self.base.own
        self.seen, self.robot = self.numbers + 4 * cameras, self.own + 2 * cameras

    def of(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Tokens`."""
        tokens = state["slots"] if "slots" in state else state["tokens"].unflatten(-1, (self.count, -1))
        return tokens, self.base.own_of({**state, "slots": tokens})

    def state(self, tokens: Tensor, own: Tensor) -> State:
        """See `Tokens`."""
        return {**self.base.vectors(own), "slots": tokens}

    def robot_of(self, own: Tensor) -> Tensor:
        """See `Tokens`: the robot state, and the image position of the hand."""
        return torch.cat([own, self.base.place(own)], -1)

    def related(self, tokens: Tensor, robot: Tensor) -> Tensor:
        """See `Tokens`: the slots with their offset from the hand, plain and scaled by `NEAR`."""
        found = self.base.from_hand(tokens, robot[..., self.own :])
        away = found.unflatten(-1, (self.base.cameras, -1))[..., FEATURES:].flatten(-2)
        return torch.cat([found, (NEAR * away).tanh()], -1)

    def moved(self, tokens: Tensor, change: Tensor) -> Tensor:
        """See `Tokens`."""
        return self.base.moved(tokens, change)

    def reward_and_end(self, before: State, after: State, action: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See `Tokens`."""
        return self.base.reward_and_end(before, after, action)


class CodeTokens:
    """Tokens of `dream_env.world_models.dynamics`: the code as a single token.

    The base model must have no memory, because the network of the unified model has its own.
    """

    count, own, robot = 1, 0, 0

    def __init__(self, config: Mapping[str, Any], spec: WorldSpec) -> None:
        code_config = config_of(DynamicsConfig, {**config, "members": 1})
        if code_config.memory:
            raise ValueError(
                f"base: its memory is {code_config.memory}; accepted: `agents.fit --model dynamics --memory 0`"
            )
        self.base = DynamicsModel(code_config, spec)
        del self.base.ensemble
        self.numbers = self.seen = self.changes = self.base.noise_dim - 1

    def of(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Tokens`."""
        code = state["code"] if "code" in state else state["tokens"]
        return code.unsqueeze(-2), code[..., :0]

    def state(self, tokens: Tensor, own: Tensor) -> State:
        """See `Tokens`."""
        return {"code": tokens.squeeze(-2)}

    def robot_of(self, own: Tensor) -> Tensor:
        """See `Tokens`."""
        return own

    def related(self, tokens: Tensor, robot: Tensor) -> Tensor:
        """See `Tokens`."""
        return tokens

    def moved(self, tokens: Tensor, change: Tensor) -> Tensor:
        """See `Tokens`."""
        return self.base.moved(tokens, change)

    def reward_and_end(self, before: State, after: State, action: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See `Tokens`."""
        context, _ = self.base.context(before, action)
        return self.base.reward_and_end(context, after["code"])


BASES: dict[str, type[SlotTokens] | type[CodeTokens]] = {"slots": SlotTokens, "dynamics": CodeTokens}
"""Supported kinds of base models, and the token class of each."""


def tokens_of(kind: str, config: Mapping[str, Any], spec: WorldSpec) -> Tokens:
    """Creates the token conversion of a kind, with an untrained base model that has no dynamics.

    Raises:
        ValueError: If this kind of base model is not supported, or its config does not fit.
    """
    check_base(kind)
    return BASES[kind](config, spec)


def check_base(kind: str) -> None:
    """Raises ValueError if a kind of world model is not supported as a base."""
    if kind not in BASES:
        raise ValueError(f"base is a world model of kind {kind!r}; accepted: {', '.join(BASES)}")


def base_config(base: nn.Module) -> dict[str, Any]:
    """Returns the config of a base model in the form of `UnifiedConfig.base_config`."""
    config: Any = replace(base.config, members=1)  # type: ignore[type-var]
    return {field.name: getattr(config, field.name) for field in fields(config)}


@torch.no_grad()
def take_over(own: nn.Module, base: nn.Module) -> None:
    """Copies the weights of a base model, except those of its dynamics, into the base model of `tokens_of`."""
    known = base.state_dict()
    own.load_state_dict({name: known[name] for name in own.state_dict()})
