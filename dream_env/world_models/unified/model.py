"""World model and policy in one network: the world model.

Encoder, decoder, embedding and what tells success are those of a base model, so distances and goals stay what they
were; its dynamics is replaced by one small transformer, whose other stream chooses actions
(`dream_env.agents.policies.unified`). Unified models of pictures and actions at scale are UVA (2503.00200), UWM
(2504.02792) and DUST (2510.27607); their streams share a trunk, as here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM
from dream_env.spec import WorldSpec
from dream_env.world_models.protocol import Prediction, State, knows_success
from dream_env.world_models.traced import Traced
from dream_env.world_models.unified.config import UnifiedConfig
from dream_env.world_models.unified.net import ActionStream, DreamStream, Trunk
from dream_env.world_models.unified.tokens import base_config, check_base, take_over, tokens_of

TOKENS = "tokens"
"""Entry of observations that shows a state's tokens, flattened: what the action stream looks at."""


class UnifiedModel(nn.Module):
    """See the module; meets `dream_env.world_models.protocol.WorldModel`.

    The state holds that of the base model, `memory` `(B, T, M)` and `tokens` `(B, T * n)`.

    Args:
        config: Its shape.
        spec: The world.

    Raises:
        ValueError: If there are no tokens for the kind of the base model.
    """

    kind = "unified"
    config_class = UnifiedConfig
    has_memory = True
    noise_dim = 1

    def __init__(self, config: UnifiedConfig, spec: WorldSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.tokens = tokens = tokens_of(config.base, config.base_config, spec)
        self.base = tokens.base
        self.embedding_dim, self.observed = self.base.embedding_dim, (*self.base.observed, TOKENS)
        self.sentence_in_embedding = bool(getattr(self.base, "sentence_in_embedding", False))
        if getattr(self.base.config, "word_order", False):
            self.instruction = self.base.instruction
        self.success_by_goal = bool(getattr(self.base, "success_by_goal", False))
        action = spec.action
        choices = int(action.n) if isinstance(action, spaces.Discrete) else action.shape[0]
        shape = (config.width, config.heads, config.hidden)
        self.trunk = Trunk(tokens.count, tokens.seen, tokens.robot, *shape, config.trunk)
        about = (tokens.seen, tokens.own, tokens.robot, choices, tokens.changes, config.memory, config.members)
        self.dream = DreamStream(*about, *shape, config.layers)
        self.acts: ActionStream | None = None
        if isinstance(action, spaces.Box) and len(action.shape) == 1 and action.is_bounded():
            numbers = config.chunk * choices
            self.acts = ActionStream(
                tokens.robot, self._asked(), numbers, config.queries, config.features, *shape, config.layers
            )
            low, high = torch.from_numpy(action.low).float(), torch.from_numpy(action.high).float()
            self.register_buffer("center", (low + high) / 2, persistent=False)
            self.register_buffer("span", (high - low) / 2, persistent=False)
        if hasattr(self.base, "success") and getattr(self.base.config, "success", True):
            self.success = self.base.success  # of this object, as others have none

    center: Tensor
    span: Tensor
    success: Any
    """Tells the probability of success `(B,)` of states; there is none where the base model has none."""

    @classmethod
    def around(cls, base: Any, **sizes: Any) -> UnifiedModel:
        """Makes a model of a base model, whose weights are copied; the network is untrained.

        Args:
            base: World model of a kind of `dream_env.world_models.unified.tokens.BASES`.
            **sizes: Fields of `UnifiedConfig`.
        """
        check_base(base.kind)
        made = cls(cls.config_class(base=base.kind, base_config=base_config(base), **sizes), base.spec)
        take_over(made.base, base)
        made.base.requires_grad_(False)
        return made

    def _asked(self) -> dict[str, int]:
        """Returns what the action stream is told beside the state, and its lengths."""
        told = {"instruction": INSTRUCTION_DIM} if self.spec.instructions else {}
        goal = {"goal": self.embedding_dim} if self.spec.goals and self.config.goal else {}
        return told | goal | ({"embedding": self.embedding_dim} if self.config.sees else {})

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.trunk.name.device

    @property
    def observed_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of what `observed` names beside the world's vectors."""
        return {TOKENS: spaces.Box(-np.inf, np.inf, (self.tokens.count * self.tokens.numbers,), np.float32)}

    @property
    def state_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of what observations do not tell of a state otherwise, see `restore`."""
        return {"memory": spaces.Box(-1.0, 1.0, (self.tokens.count, self.config.memory), np.float32)}

    # --- the protocol

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations as the base model does; memory, and what is hidden, come from `previous`.

        Args:
            observation: See the base model.
            previous: The state predicted for this moment; None at a start.
        """
        state = self.base.encode(observation, previous)
        tokens, _ = self.tokens.of(state)
        memory = tokens.new_zeros(*tokens.shape[:2], self.config.memory) if previous is None else previous["memory"]
        return {**state, "memory": memory, TOKENS: tokens.flatten(1)}

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Returns the states that observations of `obs_type="state"` stand for.

        Args:
            observation: `tokens`, `memory`, the world's vectors that the base model shows, and "instruction" and
                "goal" if there are, `(B, ...)`.

        Raises:
            ValueError: If one is missing.
        """
        names = (*self.observed, *self.state_spaces)
        if missing := [name for name in names if name not in observation]:
            raise ValueError(f"observation has no {missing[0]!r}; accepted: {', '.join(names)}, see obs_type='state'")
        names = (*names, "instruction", *(["goal"] if self.success_by_goal else []))
        told = {name: observation[name] for name in names if name in observation}
        return {**self.tokens.state(*self.tokens.of(observation)), **told}

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state: noise picks a head of the dream stream.

        Args:
            state: Current states.
            action: `(B, A)` float32, or `(B,)` int64 where they are discrete.
            noise: `(B, 1)` in [0, 1); None gives the mean of the heads.
            temperature: Factor of the distance to the mean of the heads.
        """
        tokens, own = self.tokens.of(state)
        done = self.base.normalized(action)
        chance, strength = self._chance(tokens, noise, temperature)
        found = self._foreseen(tokens, own, state["memory"], done, chance, strength)
        return self._told(state, done, *found)

    def act_and_step(
        self, state: State, goal: Tensor | None = None, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, State, Prediction]:
        """Chooses actions and predicts what they lead to, with one look of the trunk at the state.

        Args:
            state: Current states; with `instruction` in a world with sentences.
            goal: Embeddings of goals `(B, E)`, where actions are told them.
            noise: As in `step`.
            temperature: As in `step`.

        Returns:
            Actions `(B, A)`, and what `step` returns of them.
        """
        tokens, own = self.tokens.of(state)
        given = {"goal": goal, "instruction": state.get("instruction")}
        if self.config.sees:
            given["embedding"] = self.embedding(state)
        asked: Any = [given[name] for name in self._asked()]
        chance, strength = self._chance(tokens, noise, temperature)
        action, done, *found = self._acted(tokens, own, state["memory"], chance, strength, *asked)
        return action, *self._told(state, done, *found)

    def embedding(self, state: State) -> Tensor:
        """Returns `(B, E)`, the base model's."""
        return self.base.embedding(state)

    def decode(self, state: State) -> dict[str, Tensor]:
        """Returns the observations that states stand for, as the base model draws them."""
        return self.base.decode(state)

    # --- its parts, for policy and fit

    def chunks(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Returns chunks of actions `(B, chunk, A)`, in their units, for what observations show.

        Args:
            observation: `tokens`, the world's vectors that the base model shows, and what was asked for.

        Raises:
            ValueError: If actions are no bounded vectors, so that there is no action stream.
        """
        _, _, robot, scene = self.look(observation)
        return self.chunks_of(scene, robot, observation)

    def chunks_of(self, scene: Tensor, robot: Tensor, asked: Mapping[str, Tensor]) -> Tensor:
        """Returns `chunks`, of what the trunk has seen."""
        if self.acts is None:
            raise ValueError(f"{self.spec.name} has actions {self.spec.action}; accepted of a policy: a bounded Box")
        told = torch.tanh(self.acts(scene, robot, asked)).unflatten(-1, (self.config.chunk, -1))
        return self.center + self.span * told

    def look(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns tokens `(B, T, n)`, own numbers `(B, P)`, the robot `(B, robot)` and what the trunk sees `(B, T, W)`.

        Args:
            state: States, or observations that show their tokens.
        """
        tokens, own = self.tokens.of(state)
        robot = self.tokens.robot_of(own)
        return tokens, own, robot, self.trunk(self.tokens.related(tokens, robot), robot)

    def foresee(
        self, scene: Tensor, tokens: Tensor, memory: Tensor, own: Tensor, robot: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns what the heads of the dream stream say, and the robot's own numbers after the action `(B, P)`.

        Args:
            scene: What the trunk sees, `(B, T, W)`.
            tokens: `(B, T, n)`.
            memory: `(B, T, M)`.
            own: `(B, P)`.
            robot: `(B, robot)`.
            action: From `base.normalized`, `(B, A)`.
        """
        after = self.dream.own_after(own, action)
        moved = self.tokens.robot_of(after.detach())
        return self.dream(scene, self.tokens.related(tokens, moved), memory, robot, moved, action), after

    # --- the network, as functions of tensors alone, so that they can be recorded

    def traced(self) -> UnifiedModel:
        """Returns the model with its network recorded, see `dream_env.world_models.traced.Traced`."""
        for name in ("_foreseen", "_acted"):
            setattr(self, name, Traced(getattr(self, name)))
        return self

    def _foreseen(
        self, tokens: Tensor, own: Tensor, memory: Tensor, done: Tensor, chance: Tensor, strength: Tensor
    ) -> tuple[Tensor, ...]:
        robot = self.tokens.robot_of(own)
        scene = self.trunk(self.tokens.related(tokens, robot), robot)
        return self._after(scene, robot, tokens, own, memory, done, chance, strength)

    def _acted(
        self, tokens: Tensor, own: Tensor, memory: Tensor, chance: Tensor, strength: Tensor, *asked: Tensor
    ) -> tuple[Tensor, ...]:
        robot = self.tokens.robot_of(own)
        scene = self.trunk(self.tokens.related(tokens, robot), robot)
        action = self.chunks_of(scene, robot, dict(zip(self._asked(), asked, strict=True)))[:, 0]
        done = self.base.normalized(action)
        return action, done, *self._after(scene, robot, tokens, own, memory, done, chance, strength)

    def _after(
        self,
        scene: Tensor,
        robot: Tensor,
        tokens: Tensor,
        own: Tensor,
        memory: Tensor,
        done: Tensor,
        chance: Tensor,
        strength: Tensor,
    ) -> tuple[Tensor, ...]:
        """Returns tokens, memory and own numbers after an action, and the disagreement of the heads."""
        heads, after = self.foresee(scene, tokens, memory, own, robot, done)
        mean, members = heads.mean(0), self.config.members
        member = (chance[:, 0] * members).long().clamp(max=members - 1)
        drawn = heads[member, torch.arange(len(tokens), device=tokens.device)]
        change, kept = self.dream.parts(mean + strength * (drawn - mean))
        apart = heads[..., : change.shape[-1]].float().var(0, unbiased=False).mean((-1, -2))
        return self.tokens.moved(tokens, change), kept, after, apart

    def _chance(self, tokens: Tensor, noise: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
        """Returns what picks a head, `(B, 1)`, and how far it leads from the mean of the heads."""
        if noise is None:
            return tokens.new_zeros(len(tokens), 1), tokens.new_zeros(())
        return noise, tokens.new_full((), temperature)

    def _told(
        self, state: State, done: Tensor, tokens: Tensor, memory: Tensor, own: Tensor, apart: Tensor
    ) -> tuple[State, Prediction]:
        found = {**state, **self.tokens.state(tokens, own), "memory": memory, TOKENS: tokens.flatten(1)}
        reward, ends = self.tokens.told(state, found, done)
        knows = hasattr(self, "success") and knows_success(self, found)
        return found, Prediction(
            reward=reward,
            terminated=None if ends is None else ends.float().sigmoid(),
            success=self.success(found) if knows else None,
            disagreement=apart,
        )
