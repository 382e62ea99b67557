"""World model and policy in one network: the world model.

Encoder, decoder, embedding and success prediction come from a base model, so distances and goals do not change. Its
dynamics is replaced by one small transformer, whose second stream predicts actions
(`dream_env.agents.policies.unified`). Large unified video and action models are UVA (2503.00200), UWM (2504.02792) and
DUST (2510.27607); their streams share a trunk, as here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM
from dream_env.spec import WorldSpec
from dream_env.world_models.ensemble import picked
from dream_env.world_models.normalization import action_size, center_and_scale
from dream_env.world_models.protocol import Prediction, State, knows_success
from dream_env.world_models.slots.model import SlotModel
from dream_env.world_models.traced import Traceable
from dream_env.world_models.unified.config import UnifiedConfig
from dream_env.world_models.unified.net import ActionStream, DreamStream, Trunk
from dream_env.world_models.unified.tokens import base_config, check_base, take_over, tokens_of

TOKENS = "tokens"
"""Observation entry with the flattened tokens of a state, the input of the action stream."""


class UnifiedModel(Traceable, nn.Module):
    """Unified world model; see the module docstring. Implements `dream_env.world_models.protocol.WorldModel`.

    The state holds the entries of the base model's state, `memory` `(B, T, M)` and `tokens` `(B, T * n)`.

    Args:
        config: Configuration of the model.
        spec: Spec of the world.

    Raises:
        ValueError: If this kind of base model is not supported.
    """

    PURE = ("_foreseen", "_acted")
    RENAMED_WEIGHTS: ClassVar[dict[str, str]] = {
        "acts.": "action_stream.",
        **{f"base.{old}": f"base.{new}" for old, new in SlotModel.RENAMED_WEIGHTS.items()},
    }
    """Beginnings of weight names in older checkpoints, and what they are now."""
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
        action, actions = spec.action, action_size(spec.action)
        self.trunk = Trunk(config, tokens)
        self.dream = DreamStream(config, tokens, actions)
        self.action_stream: ActionStream | None = None
        if isinstance(action, spaces.Box) and len(action.shape) == 1 and action.is_bounded():
            self.action_stream = ActionStream(config, tokens.robot, actions, self._conditions())
            center, span = center_and_scale(action, torch.zeros(actions), torch.ones(actions))
            self.register_buffer("center", center, persistent=False)
            self.register_buffer("span", span, persistent=False)
        if hasattr(self.base, "success") and getattr(self.base.config, "success", True):
            self.success = self.base.success  # set per instance: not every base model has it

    center: Tensor
    span: Tensor
    success: Any
    """Returns the probability of success `(B,)` of states; absent if the base model does not predict success."""

    @classmethod
    def around(cls, base: Any, **sizes: Any) -> UnifiedModel:
        """Creates a model around a base model, whose weights are copied and frozen; the network is untrained.

        Args:
            base: World model of a kind of `dream_env.world_models.unified.tokens.BASES`.
            **sizes: Fields of `UnifiedConfig`.
        """
        check_base(base.kind)
        model = cls(cls.config_class(base=base.kind, base_config=base_config(base), **sizes), base.spec)
        take_over(model.base, base)
        model.base.requires_grad_(False)
        return model

    def _conditions(self) -> dict[str, int]:
        """Returns the names and sizes of the action stream's inputs other than the state."""
        words = {"instruction": INSTRUCTION_DIM} if self.spec.instructions else {}
        goal = {"goal": self.embedding_dim} if self.spec.goals and self.config.goal else {}
        return words | goal | ({"embedding": self.embedding_dim} if self.config.sees else {})

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.trunk.name.device

    @property
    def observed_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of the entries of `observed` that are not vectors of the world."""
        return {TOKENS: spaces.Box(-np.inf, np.inf, (self.tokens.count * self.tokens.numbers,), np.float32)}

    @property
    def state_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of the state entries that other observations do not contain, see `restore`."""
        return {"memory": spaces.Box(-1.0, 1.0, (self.tokens.count, self.config.memory), np.float32)}

    # --- the protocol

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations with the base model; the memory and hidden objects are taken from `previous`.

        Args:
            observation: See the base model.
            previous: The state predicted for this step; None at the start of an episode.
        """
        state = self.base.encode(observation, previous)
        tokens, _ = self.tokens.of(state)
        memory = tokens.new_zeros(*tokens.shape[:2], self.config.memory) if previous is None else previous["memory"]
        return {**state, "memory": memory, TOKENS: tokens.flatten(1)}

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Rebuilds states from observations of `obs_type="state"`.

        Args:
            observation: `tokens`, `memory`, the vectors in the base model's `observed`, and "instruction" and "goal"
                if present, `(B, ...)`.

        Raises:
            ValueError: If an entry is missing.
        """
        names = (*self.observed, *self.state_spaces)
        if missing := [name for name in names if name not in observation]:
            raise ValueError(f"observation has no {missing[0]!r}; accepted: {', '.join(names)}, see obs_type='state'")
        names = (*names, "instruction", *(["goal"] if self.success_by_goal else []))
        given = {name: observation[name] for name in names if name in observation}
        return {**self.tokens.state(*self.tokens.of(observation)), **given}

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state: the noise selects an output head of the dynamics stream.

        Args:
            state: Current states.
            action: `(B, A)` float32, or `(B,)` int64 if actions are discrete.
            noise: `(B, 1)` in [0, 1); None uses the mean of the heads.
            temperature: Scales the deviation from the mean of the heads.
        """
        tokens, own = self.tokens.of(state)
        unit_action = self.base.normalized(action)
        chance, strength = self._chance(tokens, noise, temperature)
        found = self._foreseen(tokens, own, state["memory"], unit_action, chance, strength)
        return self._prediction(state, unit_action, *found)

    def act_and_step(
        self, state: State, goal: Tensor | None = None, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[Tensor, State, Prediction]:
        """Predicts actions and the next states that they lead to, with a single pass of the trunk.

        Args:
            state: Current states; with `instruction` in a world with instructions.
            goal: Goal embeddings `(B, E)`, if the action stream takes them as input.
            noise: As in `step`.
            temperature: As in `step`.

        Returns:
            Actions `(B, A)`, and what `step` returns for them.
        """
        tokens, own = self.tokens.of(state)
        given = {"goal": goal, "instruction": state.get("instruction")}
        if self.config.sees:
            given["embedding"] = self.embedding(state)
        conditions: Any = [given[name] for name in self._conditions()]
        chance, strength = self._chance(tokens, noise, temperature)
        action, unit_action, *found = self._acted(tokens, own, state["memory"], chance, strength, *conditions)
        return action, *self._prediction(state, unit_action, *found)

    def embedding(self, state: State) -> Tensor:
        """Returns the embeddings `(B, E)` of the base model."""
        return self.base.embedding(state)

    def decode(self, state: State) -> dict[str, Tensor]:
        """Decodes states into observations with the base model."""
        return self.base.decode(state)

    # --- used by the policy and the fit

    def chunks(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Predicts action chunks `(B, chunk, A)`, in the units of `spec.action`.

        Args:
            observation: `tokens`, the vectors in the base model's `observed`, and the other inputs of the action
                stream (instruction, goal, embedding).

        Raises:
            ValueError: If actions are not bounded vectors, so that there is no action stream.
        """
        _, _, robot, scene = self.look(observation)
        return self.chunks_of(scene, robot, observation)

    def chunks_of(self, scene: Tensor, robot: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """Predicts action chunks like `chunks`, from the output of the trunk."""
        if self.action_stream is None:
            raise ValueError(f"{self.spec.name} has actions {self.spec.action}; accepted of a policy: a bounded Box")
        output = torch.tanh(self.action_stream(scene, robot, conditions)).unflatten(-1, (self.config.chunk, -1))
        return self.center + self.span * output

    def look(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Runs the trunk.

        Args:
            state: States, or observations that contain their tokens.

        Returns:
            Tokens `(B, T, n)`, robot state `(B, P)`, robot features `(B, robot)` and the trunk's output `(B, T, W)`.
        """
        tokens, own = self.tokens.of(state)
        robot = self.tokens.robot_of(own)
        return tokens, own, robot, self.trunk(self.tokens.related(tokens, robot), robot)

    def foresee(
        self, scene: Tensor, tokens: Tensor, memory: Tensor, own: Tensor, robot: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the outputs of the dynamics stream's heads, and the robot state after the action `(B, P)`.

        Args:
            scene: Output of the trunk, `(B, T, W)`.
            tokens: `(B, T, n)`.
            memory: `(B, T, M)`.
            own: Robot state, `(B, P)`.
            robot: Robot features, `(B, robot)`.
            action: Actions from `base.normalized`, `(B, A)`.
        """
        after = self.dream.own_after(own, action)
        moved = self.tokens.robot_of(after.detach())
        return self.dream(scene, self.tokens.related(tokens, moved), memory, robot, moved, action), after

    # --- the network, as functions of tensors, see `Traceable`

    def _foreseen(
        self, tokens: Tensor, own: Tensor, memory: Tensor, unit_action: Tensor, chance: Tensor, strength: Tensor
    ) -> tuple[Tensor, ...]:
        """Returns the results of `_after` for given actions."""
        robot = self.tokens.robot_of(own)
        scene = self.trunk(self.tokens.related(tokens, robot), robot)
        return self._after(scene, robot, tokens, own, memory, unit_action, chance, strength)

    def _acted(
        self, tokens: Tensor, own: Tensor, memory: Tensor, chance: Tensor, strength: Tensor, *conditions: Tensor
    ) -> tuple[Tensor, ...]:
        """Returns predicted actions, the same normalized, and the results of `_after` for them."""
        robot = self.tokens.robot_of(own)
        scene = self.trunk(self.tokens.related(tokens, robot), robot)
        action = self.chunks_of(scene, robot, dict(zip(self._conditions(), conditions, strict=True)))[:, 0]
        unit_action = self.base.normalized(action)
        return action, unit_action, *self._after(scene, robot, tokens, own, memory, unit_action, chance, strength)

    def _after(
        self,
        scene: Tensor,
        robot: Tensor,
        tokens: Tensor,
        own: Tensor,
        memory: Tensor,
        unit_action: Tensor,
        chance: Tensor,
        strength: Tensor,
    ) -> tuple[Tensor, ...]:
        """Returns tokens, memory and robot state after an action, and the disagreement of the heads."""
        heads, after = self.foresee(scene, tokens, memory, own, robot, unit_action)
        mean = heads.mean(0)
        change, kept = self.dream.parts(mean + strength * (picked(heads, chance[:, 0]) - mean))
        apart = heads[..., : change.shape[-1]].float().var(0, unbiased=False).mean((-1, -2))
        return self.tokens.moved(tokens, change), kept, after, apart

    def _chance(self, tokens: Tensor, noise: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
        """Returns the noise that selects a head, `(B, 1)`, and the scale of the deviation from the heads' mean."""
        if noise is None:
            return tokens.new_zeros(len(tokens), 1), tokens.new_zeros(())
        return noise, tokens.new_full((), temperature)

    def _prediction(
        self, state: State, unit_action: Tensor, tokens: Tensor, memory: Tensor, own: Tensor, disagreement: Tensor
    ) -> tuple[State, Prediction]:
        """Returns the next state, and its reward, termination, success and disagreement."""
        after = {**state, **self.tokens.state(tokens, own), "memory": memory, TOKENS: tokens.flatten(1)}
        reward, end_logit = self.tokens.reward_and_end(state, after, unit_action)
        knows = hasattr(self, "success") and knows_success(self, after)
        return after, Prediction(
            reward=reward,
            terminated=None if end_logit is None else end_logit.float().sigmoid(),
            success=self.success(after) if knows else None,
            disagreement=disagreement,
        )
