"""Slot world model: learned without labels from images, robot states, actions and instructions, for any robot.

Images are encoded as slots of consistent identity, and a network shared by all slots predicts their motion. The
embedding of the slots that the instruction refers to is trained on time: its squared distance to the embedding of the
goal is about the number of control steps to go.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM, embed_in_order
from dream_env.spec import WorldSpec
from dream_env.world_models.ensemble import EnsembleMLP
from dream_env.world_models.normalization import action_size, unit_actions
from dream_env.world_models.pictures import displayed, resized
from dream_env.world_models.protocol import Prediction, State, knows_success
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.distance import StepEmbedding
from dream_env.world_models.slots.dynamics import MOVING, SlotDynamics
from dream_env.world_models.slots.outcomes import drawn
from dream_env.world_models.slots.own import OwnReader, Place
from dream_env.world_models.slots.painter import Painter
from dream_env.world_models.slots.position import Position
from dream_env.world_models.slots.reader import FEATURES, SEEN, SIZE, SlotReader
from dream_env.world_models.traced import Traceable

BOUND = 1.5
"""Slots stay within this distance from the image center, in units of half the image side."""


class SlotModel(Traceable, nn.Module):
    """Slot world model; see the module docstring. Implements `dream_env.world_models.protocol.WorldModel`.

    The state holds the robot's vectors by name, `slots` `(B, K, C * FEATURES)`, `memory` `(B, K, E * M)` with a
    separate part for each ensemble member, and `instruction` if it was given. A hidden slot stays at its predicted
    position (`previous`).

    Args:
        config: Configuration of the model.
        spec: Spec of the world, with at least one image.

    Raises:
        ValueError: If the world has no image.
    """

    PURE = ("_predicted", "_embedded", "_succeeds")
    RENAMED_WEIGHTS: ClassVar[dict[str, str]] = {"reader.colours": "reader.colors", "told.": "head."}
    """Beginnings of weight names in older checkpoints, and what they are now."""
    kind = "slots"
    config_class = SlotConfig
    has_memory = True
    noise_dim = 1
    sentence_in_embedding = True

    def __init__(self, config: SlotConfig, spec: WorldSpec) -> None:
        super().__init__()
        if not spec.pictures:
            raise ValueError(
                f"spec: {spec.name} has no picture to find slots in; accepted: a world with pictures, or "
                "`agents.fit --model dynamics`"
            )
        self.config, self.spec, self.observed = config, spec, spec.vectors
        boxes: list[Any] = [spec.observation[name] for name in spec.vectors]
        self.lengths = [len(box.low) for box in boxes]
        self.cameras, self.own = len(spec.pictures), sum(self.lengths)
        self.embedding_dim = config.nets * config.net_dim
        if config.word_order:  # set per instance: without it, the model does not meet `HasWords`
            self.instruction = partial(embed_in_order, unknown=spec.unknown_words)
        self.related_dim = (FEATURES + 2) * self.cameras + config.position
        if config.pointing:
            self.embedding_dim += self.embedded_slots * self.related_dim
        actions = action_size(spec.action)
        slots, cameras, own, side = config.slots, self.cameras, self.own, config.picture_size
        self.reader = SlotReader(slots, config.colors, side)
        self.own_reader = OwnReader(cameras, own, side) if own and spec.goals else None
        self.place = Place(own, cameras)
        self.dynamics = SlotDynamics(config, cameras, own, actions)
        instruction = INSTRUCTION_DIM if spec.instructions else 0
        self.phi = StepEmbedding(config, self.related_dim, own + 2 * cameras, instruction)
        inputs = self.phi.net.weights[0].shape[1] + config.success_by_goal * config.net_dim
        self.success_net = EnsembleMLP(config.nets, [inputs, 64, 64, 1]) if config.success else None
        transition = 2 * (slots * cameras * FEATURES + own) + actions
        predicts = config.rewards or config.terminates
        self.head = nn.Sequential(nn.Linear(transition, 128), nn.SiLU(), nn.Linear(128, 2)) if predicts else None
        self.painter = Painter(slots, cameras, own, side)
        sizes = (FEATURES * cameras, own, config.position, config.nets)
        self.position = Position(*sizes) if config.position else None
        for name, numbers in (("own", own), ("action", actions), ("reward", 1)):
            self.register_buffer(f"{name}_mean", torch.zeros(numbers))
            self.register_buffer(f"{name}_scale", torch.ones(numbers))
        for bound in ("low", "high"):
            parts = [torch.from_numpy(getattr(box, bound)) for box in boxes]
            self.register_buffer(f"own_{bound}", torch.cat([torch.zeros(0), *parts]), persistent=False)

    own_mean: Tensor
    own_scale: Tensor
    own_low: Tensor
    own_high: Tensor
    action_mean: Tensor
    action_scale: Tensor
    reward_mean: Tensor
    reward_scale: Tensor

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.own_mean.device

    @property
    def success_by_goal(self) -> bool:
        """Whether the success prediction needs the embedding of the goal in the state."""
        return self.config.success and self.config.success_by_goal

    @property
    def remembered(self) -> int:
        """Memory size of a slot over all ensemble members; each member reads and writes only its own part."""
        return self.config.members * self.config.memory

    @property
    def embedded_slots(self) -> int:
        """Number of slots in the embedding: those that the instruction refers to, or all without instructions."""
        return self.config.queries if self.spec.instructions else self.config.slots

    @property
    def state_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of the state entries that cannot be recovered from the embedding, see `restore`."""
        slots, numbers = self.config.slots, {"slots": self.cameras * FEATURES, "memory": self.remembered}
        return {name: spaces.Box(-np.inf, np.inf, (slots, size), np.float32) for name, size in numbers.items()}

    # --- the protocol

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations; hidden slots keep their position in `previous`.

        Args:
            observation: Observation parts by name, `(B, ...)`. Missing vectors, as in goals, are estimated from the
                images; a missing camera is replaced by its background.
            previous: The state predicted for this step; None at the start of an episode.

        Raises:
            ValueError: If the observation has no image.
        """
        shown = [name for name in self.spec.pictures if name in observation]
        if not shown:
            raise ValueError(f"observation has no picture; accepted: {list(self.spec.pictures)}")
        empty = (255 * self.painter.background).round().to(torch.uint8)
        pictures = [
            resized(observation[name], self.config.picture_size)
            if name in shown
            else empty[camera].expand(len(observation[shown[0]]), -1, -1, -1)
            for camera, name in enumerate(self.spec.pictures)
        ]
        state = self._own_of(observation, pictures)
        slots = torch.stack([self.reader(picture) for picture in pictures], 2)  # (B, K, C, FEATURES)
        memory = slots.new_zeros(*slots.shape[:2], self.remembered)
        if previous is not None:
            before = previous["slots"].unflatten(-1, (self.cameras, FEATURES))
            hidden = before.clone()
            hidden[..., SIZE] = 0
            slots = torch.where(slots[..., SEEN:] > 0, slots, hidden)
            memory = previous["memory"]
        state |= {"slots": slots.flatten(2), "memory": memory}
        if "instruction" in observation:
            state["instruction"] = observation["instruction"]
        return state

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Rebuilds states from observations that contain the entries of `state_spaces`.

        Args:
            observation: `slots`, `memory`, the world's vectors, and "instruction" and "goal" if present, `(B, ...)`.

        Raises:
            ValueError: If an entry is missing; the embedding is too short to recover it.
        """
        names = (*self.spec.vectors, *self.state_spaces)
        if missing := [name for name in names if name not in observation]:
            raise ValueError(f"observation has no {missing[0]!r}; accepted: {', '.join(names)}, see obs_type='state'")
        names = (*names, "instruction", *(["goal"] if self.success_by_goal else []))
        return {name: observation[name] for name in names if name in observation}

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state: the noise selects an ensemble member and one of its outcomes.

        Each member's memory is updated by its own outcome that best explains the change that was selected.

        Args:
            state: Current states.
            action: `(B, A)` float32, or `(B,)` int64 if actions are discrete.
            noise: `(B, 1)` in [0, 1); None uses the mean of the members' most likely outcomes.
            temperature: Scales the deviation of the member from the mean of the members, and divides the outcome
                logits; at 0 the result is that of `noise=None`.
        """
        slots, unit_action = state["slots"], self.normalized(action)
        chance = slots.new_zeros(len(slots), 1) if noise is None else noise
        strength = slots.new_full((), 0.0 if noise is None else temperature)
        moved, memory, own, disagreement = self._predicted(
            slots, state["memory"], self.own_of(state), unit_action, chance, strength
        )
        after = {**state, **self.vectors(own), "slots": moved, "memory": memory}
        reward, end_logit = self.reward_and_end(state, after, unit_action)
        return after, Prediction(
            reward=reward,
            terminated=None if end_logit is None else end_logit.float().sigmoid(),
            success=self.success(after) if self.success_net is not None and knows_success(self, after) else None,
            disagreement=disagreement,
        )

    def embedding(self, state: State) -> Tensor:
        """Returns embeddings `(B, E)`; the squared distance of two is about the number of control steps between them.

        With `pointing`, the last elements are the scaled slots that the instruction refers to; they are too small to
        change the distance much.

        Raises:
            ValueError: If the world has instructions and the state has none.
        """
        return self._embedded(*self.related(state), *self._words(state))

    def success(self, state: State) -> Tensor:
        """Returns the probability `(B,)` that an episode that ends in this state is a success; 0 if not predicted.

        Raises:
            ValueError: If the prediction needs the goal and the state has no "goal".
        """
        if self.success_net is None:
            return self.own_mean.new_zeros(len(state["slots"]))
        if self.success_by_goal and "goal" not in state:
            raise ValueError("the state has no 'goal'; accepted: states of `with_goal`, with their goal's embedding")
        goal = [state["goal"]] if self.success_by_goal else []
        return self._succeeds(*self.related(state), *goal, *self._words(state))

    def positions(self, state: State) -> Tensor:
        """Returns the positions of all slots, `(B, K, D)` in meters, in the frame of the labels; NaN if never seen.

        Raises:
            ValueError: If the model was fitted without labelled episodes.
        """
        if self.position is None:
            raise ValueError("this world model predicts no positions; accepted: a model of `agents.fit --labelled N`")
        meters = self.position.meters(self.position(state["slots"], self.own_of(state)))
        return meters.where(self.there(state["slots"]), torch.nan)

    def decode(self, state: State) -> dict[str, Tensor]:
        """Decodes states into observations, clipped to the observation spaces."""
        own = self.own_of(state)
        drawn = self.painter(state["slots"].unflatten(-1, (self.cameras, FEATURES)), own)
        result = self.vectors(own)
        for camera, name in enumerate(self.spec.pictures):
            result[name] = displayed(drawn[:, camera], (self.spec.observation[name].shape or ())[:2])
        return {name: result[name] for name in self.spec.observation.spaces}

    # --- the networks, as functions of tensors, see `Traceable`

    def _predicted(
        self, slots: Tensor, memory: Tensor, own: Tensor, action: Tensor, chance: Tensor, strength: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the next slots, memory and standardized robot state, and the members' disagreement."""
        members = self.config.members
        split = memory.unflatten(-1, (members, -1)).movedim(-2, 0)
        slots_all, own_all, action_all = (part.expand(members, *part.shape) for part in (slots, own, action))
        outcomes, owns = self.dynamics(slots_all, split, own_all, action_all, self.place(own_all), self.place)
        change, own_after = drawn(outcomes, owns, chance[:, 0], strength)
        _, kept = outcomes.pick(outcomes.nearest(change))
        means = outcomes.mean().float()
        disagreement = (means - means.mean(0)).square().mean((0, -1, -2))  # `Tensor.var` takes ten times as long
        return self.moved(slots, change), kept.movedim(0, -2).flatten(-2), own_after, disagreement

    def _embedded(self, slots: Tensor, own: Tensor, words: Tensor | None = None) -> Tensor:
        embedded = self.phi(slots, own, words)
        if not self.config.pointing:
            return embedded
        return torch.cat([embedded, self.config.pointing * self.phi.named(slots, words)], -1)

    def _succeeds(self, slots: Tensor, own: Tensor, *given: Tensor) -> Tensor:
        """Returns the probability of success, given the goal if it is needed, and the instruction if there are any."""
        count = int(self.success_by_goal)
        goal, words = given[0] if count else None, given[count] if len(given) > count else None
        assert self.success_net is not None
        inputs = self.success_inputs(self.phi.inputs(slots, own, words), goal)
        return self.success_net(inputs)[..., 0].mean(0).float().sigmoid()

    def _words(self, state: Mapping[str, Tensor]) -> list[Tensor]:
        """Returns the instruction's embedding, if the world has instructions and the state has one."""
        return [state["instruction"]] if self.spec.instructions and "instruction" in state else []

    # --- used by the fit

    def own_of(self, state: Mapping[str, Tensor]) -> Tensor:
        """Returns the standardized robot state, `(..., P)`."""
        like = state[self.spec.vectors[0] if self.own else "slots"]
        parts = [state[name].float() for name in self.spec.vectors]
        return (torch.cat(parts, -1) - self.own_mean) / self.own_scale if parts else like.new_zeros(len(like), 0)

    def normalized(self, action: Tensor) -> Tensor:
        """Scales actions `(..., A)` to about unit size; discrete actions `(...)` become one-hot vectors."""
        return unit_actions(action, self.spec.action, self.action_mean, self.action_scale)

    def moved(self, slots: Tensor, change: Tensor) -> Tensor:
        """Adds changes `(..., K, C * MOVING)` in pixels to slots `(..., K, C * FEATURES)`; never-seen slots stay."""
        numbers = slots.unflatten(-1, (self.cameras, FEATURES))
        seen, change = numbers[..., SEEN:], change.unflatten(-1, (self.cameras, MOVING))
        after = numbers[..., :SEEN] + change * (2 / self.config.picture_size) * seen
        bounded = torch.cat([after[..., :SIZE].clamp(-BOUND, BOUND), after[..., SIZE:].clamp(0, BOUND), seen], -1)
        return bounded.flatten(-2)

    def related(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns slots with their offset from the hand, `(B, K, n)`, and the robot state with the hand's position.

        If positions were learned, the standardized position is appended to each slot.
        """
        own, slots = self.own_of(state), state["slots"]
        hand = self.place(own)
        related = self.from_hand(slots, hand)
        if self.position is not None:
            related = torch.cat([related, self.position(slots, own) * self.there(slots)], -1)
        return related, torch.cat([own, hand], -1)

    def there(self, slots: Tensor) -> Tensor:
        """Returns which slots `(..., K, C * FEATURES)` have been seen by any camera, `(..., K, 1)` bool."""
        return (slots[..., SEEN::FEATURES] > 0).any(-1, keepdim=True)

    def from_hand(self, slots: Tensor, hand: Tensor) -> Tensor:
        """Appends to slots `(..., K, C * FEATURES)` their image offset from the hand, given as `(..., C * 2)`."""
        numbers = slots.unflatten(-1, (self.cameras, FEATURES))
        away = (numbers[..., :2] - hand[..., None, :].unflatten(-1, (self.cameras, 2))) * numbers[..., SEEN:]
        return torch.cat([numbers, away], -1).flatten(-2)

    def success_inputs(self, inputs: Tensor, goal: Tensor | None) -> Tensor:
        """Returns the inputs of the success prediction: `(N, B, inputs)`, and the embedding's difference to the goal.

        The embedding is already trained to separate final states that reached their goal from others, so little is left
        to learn from the difference to the goal `(B, E)` where goals are close to each other.
        """
        if not self.success_by_goal:
            return inputs
        assert goal is not None
        return torch.cat([inputs, self.phi.apart(inputs, goal)], -1)

    def head_outputs(
        self, slots: Tensor, own: Tensor, next_slots: Tensor, next_own: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the standardized reward and the termination logit, `(...)` each, of steps with normalized actions."""
        assert self.head is not None
        both = self.head(torch.cat([slots.flatten(-2), own, next_slots.flatten(-2), next_own, action], -1))
        return both[..., 0], both[..., 1]

    def reward_and_end(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor], action: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Predicts the reward and the termination logit, `(B,)` each, of steps; None for what the data lack."""
        if self.head is None:
            return None, None
        own, next_own = self.own_of(before), self.own_of(after)
        reward, end_logit = self.head_outputs(before["slots"], own, after["slots"], next_own, action)
        return (
            reward * self.reward_scale + self.reward_mean if self.config.rewards else None,
            end_logit if self.config.terminates else None,
        )

    def _own_of(self, observation: Mapping[str, Tensor], pictures: list[Tensor]) -> State:
        """Returns the vectors of observations; missing ones are estimated from the images."""
        if all(name in observation for name in self.spec.vectors):
            return {name: observation[name].float() for name in self.spec.vectors}
        found = self.own_mean.new_zeros(len(pictures[0]), self.own)
        if self.own_reader is not None:
            found = self.own_reader(self.seen(torch.stack(pictures, 1)))
        return self.vectors(found) | {n: observation[n].float() for n in self.spec.vectors if n in observation}

    def seen(self, pictures: Tensor) -> Tensor:
        """Returns the difference of images `(B, C, S, S, 3)` uint8 to the background, float in [-1, 1]."""
        return pictures.float() / 255 - self.painter.background

    def vectors(self, own: Tensor) -> State:
        """Converts standardized robot states `(B, P)` to vectors by name, clipped to their spaces."""
        values = (own * self.own_scale + self.own_mean).clamp(self.own_low, self.own_high)
        return dict(zip(self.spec.vectors, values.split(self.lengths, -1), strict=True)) if self.own else {}
