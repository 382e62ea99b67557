"""States of other kinds of world models as tokens, and what changes of tokens mean.

Each class wraps a base model of one kind, whose own dynamics is left out: tokens `(..., T, n)` and the robot's own
numbers `(..., P)` are all that the network sees of a state, and all that it moves.
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


class Tokens(Protocol):
    """A base model's states as tokens.

    Attributes:
        base: The base model, without its dynamics.
        count: Tokens T.
        numbers: Numbers n of a token.
        seen: Numbers that the network sees of a token, with those that relate it to the robot.
        own: The robot's own numbers P, which move by themselves; 0 for none.
        robot: Numbers that the network sees of the robot.
        changes: Numbers of a token's change.
    """

    base: Any
    count: int
    numbers: int
    seen: int
    own: int
    robot: int
    changes: int

    def of(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns tokens `(B, T, n)` and own numbers `(B, P)`, standardized, of states."""

    def state(self, tokens: Tensor, own: Tensor) -> State:
        """Returns the entries of states that tokens and own numbers stand for."""

    def robot_of(self, own: Tensor) -> Tensor:
        """Returns what the network sees of the robot, `(..., robot)`."""

    def related(self, tokens: Tensor, robot: Tensor) -> Tensor:
        """Returns what the network sees of tokens, `(..., T, seen)`; `robot` is from `robot_of`."""

    def moved(self, tokens: Tensor, change: Tensor) -> Tensor:
        """Returns tokens after changes `(..., T, changes)`, which are of about unit size."""

    def told(self, before: State, after: State, action: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Returns reward `(B,)` and logit of the end of steps with normalized actions; None where nobody knows."""


NEAR = 8.0
"""Slots see their way from the hand times this, too, squashed: what happens, happens near the hand."""


class SlotTokens:
    """The slots of `dream_env.world_models.slots`; each sees how far it is from the robot's hand."""

    def __init__(self, config: Mapping[str, Any], spec: WorldSpec) -> None:
        made = SlotModel.config_class(**{**config, "members": 1})
        self.base = SlotModel(made, spec)
        del self.base.dynamics
        cameras = self.base.cameras
        self.count, self.numbers, self.changes = made.slots, cameras * FEATURES, cameras * MOVING
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
        """See `Tokens`: own numbers, and where the hand shows."""
        return torch.cat([own, self.base.place(own)], -1)

    def related(self, tokens: Tensor, robot: Tensor) -> Tensor:
        """See `Tokens`: with their way from the hand."""
        found = self.base.from_hand(tokens, robot[..., self.own :])
        away = found.unflatten(-1, (self.base.cameras, -1))[..., FEATURES:].flatten(-2)
        return torch.cat([found, (NEAR * away).tanh()], -1)

    def moved(self, tokens: Tensor, change: Tensor) -> Tensor:
        """See `Tokens`."""
        return self.base.moved(tokens, change)

    def told(self, before: State, after: State, action: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See `Tokens`."""
        base, paid, ends = self.base, None, None
        if base.told is not None:
            told = base.tell(before, after, action)
            paid = told[..., 0] * base.reward_scale + base.reward_mean if base.config.rewards else None
            ends = told[..., 1] if base.config.terminates else None
        return paid, ends


class CodeTokens:
    """The code of `dream_env.world_models.dynamics`, one token; without a memory, which the network has itself."""

    count, own, robot = 1, 0, 0

    def __init__(self, config: Mapping[str, Any], spec: WorldSpec) -> None:
        made = DynamicsConfig(**{**config, "members": 1})
        if made.memory:
            raise ValueError(f"base: its memory is {made.memory}; accepted: `agents.fit --model dynamics --memory 0`")
        self.base = DynamicsModel(made, spec)
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

    def told(self, before: State, after: State, action: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See `Tokens`."""
        base = self.base
        context, _ = base.context(before, action)
        paid, ends = base.told(context, after["code"])
        return (
            paid * base.reward_scale + base.reward_mean if base.config.rewards else None,
            ends if base.config.terminates else None,
        )


BASES: dict[str, type[SlotTokens] | type[CodeTokens]] = {"slots": SlotTokens, "dynamics": CodeTokens}
"""Kinds of base models, and what makes tokens of their states."""


def tokens_of(kind: str, config: Mapping[str, Any], spec: WorldSpec) -> Tokens:
    """Makes an untrained base model of a kind, without its dynamics, and what makes tokens of its states.

    Raises:
        ValueError: If there are no tokens of that kind, or its config does not fit.
    """
    check_base(kind)
    return BASES[kind]({name: tuple(v) if isinstance(v, list) else v for name, v in config.items()}, spec)


def check_base(kind: str) -> None:
    """Raises ValueError for a kind of world model whose states have no tokens here."""
    if kind not in BASES:
        raise ValueError(f"base is a world model of kind {kind!r}; accepted: {', '.join(BASES)}")


def base_config(base: nn.Module) -> dict[str, Any]:
    """Returns the config of a base model as `UnifiedConfig.base_config` has it."""
    config: Any = replace(base.config, members=1)  # type: ignore[type-var]
    return {one.name: getattr(config, one.name) for one in fields(config)}


@torch.no_grad()
def take_over(own: nn.Module, base: nn.Module) -> None:
    """Copies the weights of a base model into one of `tokens_of`, all but its dynamics'."""
    known = base.state_dict()
    own.load_state_dict({name: known[name] for name in own.state_dict()})
