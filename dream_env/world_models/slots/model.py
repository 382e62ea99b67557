"""A world model without labels: from pictures, states, actions and sentences alone, for any robot.

Pictures become slots of consistent identity, a network shared by all slots moves them, and the embedding of what the
sentence names is trained by time: the squared distance to the goal's embedding is about the control steps to go.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.language import INSTRUCTION_DIM, embed_in_order
from dream_env.spec import WorldSpec
from dream_env.world_models.dynamics import resized
from dream_env.world_models.protocol import Prediction, State, knows_success
from dream_env.world_models.slots.config import SlotConfig
from dream_env.world_models.slots.distance import StepEmbedding
from dream_env.world_models.slots.dynamics import MOVING, Layers, SlotDynamics
from dream_env.world_models.slots.own import OwnReader, Place
from dream_env.world_models.slots.painter import Painter
from dream_env.world_models.slots.position import Position
from dream_env.world_models.slots.reader import FEATURES, SEEN, SIZE, SlotReader

BOUND = 1.5
"""Slots stay within so many halves of a picture's side from its middle."""


class SlotModel(nn.Module):
    """See the module; meets `dream_env.world_models.protocol.WorldModel`.

    The state holds the robot's own vectors by name, `slots` `(B, K, C * FEATURES)`, `memory` `(B, K, E * M)`, each
    member's of the ensemble its own, and `instruction` if it was given. A slot that is hidden stays where it was
    predicted to be (`previous`).

    Args:
        config: Its shape.
        spec: The world; it has a picture.

    Raises:
        ValueError: If the world has no picture.
    """

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
        self.cameras, self.own = len(spec.pictures), sum(_length(spec, name) for name in spec.vectors)
        self.embedding_dim = config.nets * config.net_dim
        if config.word_order:
            self.instruction = embed_in_order  # of this object, as others read sentences as all models do
        self.related_dim = (FEATURES + 2) * self.cameras + config.position
        if config.pointing:
            self.embedding_dim += self.embedded_slots * self.related_dim
        action = spec.action
        choices = int(action.n) if isinstance(action, spaces.Discrete) else action.shape[0]
        slots, cameras, own, side = config.slots, self.cameras, self.own, config.picture_size
        self.reader = SlotReader(slots, config.colours, side)
        self.own_reader = OwnReader(cameras, own, side) if own and spec.goals else None
        self.place = Place(own, cameras)
        self.dynamics = SlotDynamics(
            slots,
            cameras,
            own,
            choices,
            config.members,
            config.width,
            config.depth,
            config.memory,
            config.message,
            config.outcomes,
        )
        self.phi = StepEmbedding(
            slots,
            self.related_dim,
            own + 2 * cameras,
            INSTRUCTION_DIM if spec.instructions else 0,
            config.queries,
            config.code,
            config.nets,
            config.net_dim,
            config.net_width,
        )
        inputs = self.phi.net.weights[0].shape[1] + config.success_by_goal * config.net_dim
        self.success_net = Layers(config.nets, [inputs, 64, 64, 1]) if config.success else None
        about = 2 * (slots * cameras * FEATURES + own) + choices
        telling = config.rewards or config.terminates
        self.told = nn.Sequential(nn.Linear(about, 128), nn.SiLU(), nn.Linear(128, 2)) if telling else None
        self.painter = Painter(slots, cameras, own, side)
        told = (FEATURES * cameras, own, config.position, config.nets)
        self.position = Position(*told) if config.position else None
        for name, numbers, value in (
            ("own_mean", own, 0.0),
            ("own_scale", own, 1.0),
            ("action_mean", choices, 0.0),
            ("action_scale", choices, 1.0),
            ("reward_mean", 1, 0.0),
            ("reward_scale", 1, 1.0),
        ):
            self.register_buffer(name, torch.full((numbers,), value))

    own_mean: Tensor
    own_scale: Tensor
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
        """Whether success is told of a state together with its goal's embedding."""
        return self.config.success and self.config.success_by_goal

    @property
    def remembered(self) -> int:
        """Numbers that a slot remembers, those of all members: none of them can read what another one wrote."""
        return self.config.members * self.config.memory

    @property
    def embedded_slots(self) -> int:
        """Number of slots that the embedding is of: those that a sentence names, or all."""
        return self.config.queries if self.spec.instructions else self.config.slots

    @property
    def state_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of what an embedding does not tell of a state, see `restore`."""
        slots, numbers = self.config.slots, {"slots": self.cameras * FEATURES, "memory": self.remembered}
        return {name: spaces.Box(-np.inf, np.inf, (slots, size), np.float32) for name, size in numbers.items()}

    # --- the protocol

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations; what is hidden is where `previous` has it.

        Args:
            observation: The parts by name, `(B, ...)`; vectors that are missing, as in goals, are read from pictures,
                and a camera that is missing sees nothing.
            previous: The state predicted for this moment; None at a start.

        Raises:
            ValueError: If there is no picture.
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
        slots = torch.stack([self.reader(one) for one in pictures], 2)  # (B, K, C, FEATURES)
        memory = slots.new_zeros(*slots.shape[:2], self.remembered)
        if previous is not None:
            before = previous["slots"].unflatten(-1, (self.cameras, FEATURES))
            gone = before.clone()
            gone[..., SIZE] = 0
            slots = torch.where(slots[..., SEEN:] > 0, slots, gone)
            memory = previous["memory"]
        state |= {"slots": slots.flatten(2), "memory": memory}
        if "instruction" in observation:
            state["instruction"] = observation["instruction"]
        return state

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Returns the states that observations with `state_spaces` in them stand for.

        Args:
            observation: `slots`, `memory`, the world's vectors, and "instruction" and "goal" if there are, `(B, ...)`.

        Raises:
            ValueError: If one is missing: the embedding is too short to tell them.
        """
        names = (*self.spec.vectors, *self.state_spaces)
        if missing := [name for name in names if name not in observation]:
            raise ValueError(f"observation has no {missing[0]!r}; accepted: {', '.join(names)}, see obs_type='state'")
        names = (*names, "instruction", *(["goal"] if self.success_by_goal else []))
        return {name: observation[name] for name in names if name in observation}

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state: noise picks a member of the ensemble and one of its outcomes.

        Every member remembers of what happened what its own outcome that is nearest to it would have it remember.

        Args:
            state: Current states.
            action: `(B, A)` float32, or `(B,)` int64 where they are discrete.
            noise: `(B, 1)` in [0, 1); None gives the mean of the members' likeliest outcomes.
            temperature: Factor of the distance of members to their mean, and divisor of the logits of outcomes: at 0
                it is the likeliest.
        """
        members = self.config.members
        own, done = self.own_of(state), self.normalized(action)
        slots = state["slots"].expand(members, *state["slots"].shape)
        memory = state["memory"].unflatten(-1, (members, -1)).movedim(-2, 0)
        own_every, done_every = (part.expand(members, *part.shape) for part in (own, done))
        outcomes, own_afters = self.dynamics(slots, memory, own_every, done_every, self.place(own_every), self.place)
        modes, _ = outcomes.pick(outcomes.likeliest())
        change, own_after = modes.mean(0), own_afters.mean(0)
        if noise is not None:
            rows, scaled = torch.arange(len(own), device=own.device), noise[:, 0] * members
            member = scaled.long().clamp(max=members - 1)
            drawn = modes if outcomes.number == 1 else outcomes.pick(outcomes.drawn(scaled - member, temperature))[0]
            apart = modes[member, rows] - change
            change = change + temperature * apart + (drawn - modes)[member, rows]
            own_after = own_after + temperature * (own_afters[member, rows] - own_after)
        _, memory = outcomes.pick(outcomes.nearest(change))
        means = outcomes.mean()
        after = {**state, **self.vectors(own_after), "slots": self.moved(state["slots"], change)}
        after["memory"] = memory.movedim(0, -2).flatten(-2)
        reward, ends = None, None
        if self.told is not None:
            told = self.tell(state, after, done)
            reward = told[..., 0] * self.reward_scale + self.reward_mean if self.config.rewards else None
            ends = told[..., 1].float().sigmoid() if self.config.terminates else None
        return after, Prediction(
            reward=reward,
            terminated=ends,
            success=self.success(after) if self.success_net is not None and knows_success(self, after) else None,
            disagreement=means.float().var(0, unbiased=False).mean((-1, -2)),
        )

    def embedding(self, state: State) -> Tensor:
        """Returns `(B, E)`; the sum of squares of the difference of two is about the control steps between them.

        With `pointing` the last numbers tell where what the sentence names is, too small to count in that sum.

        Raises:
            ValueError: If the world has sentences and the state has none.
        """
        slots, own = self.related(state)
        words = state.get("instruction")
        embedded = self.phi(slots, own, words)
        if not self.config.pointing:
            return embedded
        return torch.cat([embedded, self.config.pointing * self.phi.named(slots, words)], -1)

    def success(self, state: State) -> Tensor:
        """Returns the probability `(B,)` that an episode which ended so would count as a success; 0 if unknown.

        Raises:
            ValueError: If the state has no "goal" and success is told by it.
        """
        if self.success_net is None:
            return self.own_mean.new_zeros(len(state["slots"]))
        if self.success_by_goal and "goal" not in state:
            raise ValueError("the state has no 'goal'; accepted: states of `with_goal`, with their goal's embedding")
        slots, own = self.related(state)
        inputs = self.success_inputs(self.phi.inputs(slots, own, state.get("instruction")), state.get("goal"))
        return self.success_net(inputs)[..., 0].mean(0).float().sigmoid()

    def positions(self, state: State) -> Tensor:
        """Returns where the things of all slots are, `(B, K, D)` in meters as they were labelled; unseen ones NaN.

        Raises:
            ValueError: If it was fitted without labelled episodes.
        """
        if self.position is None:
            raise ValueError("this world model tells no positions; accepted: one of `agents.fit --labelled N`")
        told = self.position.meters(self.position(state["slots"], self.own_of(state)))
        return told.where(self.there(state["slots"]), torch.nan)

    def decode(self, state: State) -> dict[str, Tensor]:
        """Returns the observations that states stand for, within their spaces."""
        own = self.own_of(state)
        drawn = self.painter(state["slots"].unflatten(-1, (self.cameras, FEATURES)), own)
        result = self.vectors(own)
        for camera, name in enumerate(self.spec.pictures):
            height, width = (self.spec.observation[name].shape or ())[:2]
            one = drawn[:, camera].permute(0, 3, 1, 2)
            if (height, width) != one.shape[2:]:
                one = F.interpolate(one, (height, width), mode="bilinear", antialias=True)
            result[name] = (255 * one).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        return {name: result[name] for name in self.spec.observation.spaces}

    # --- its parts, for the fit

    def own_of(self, state: Mapping[str, Tensor]) -> Tensor:
        """Returns the robot's own state, standardized, `(..., P)`."""
        some = state[self.spec.vectors[0] if self.own else "slots"]
        parts = [state[name].float() for name in self.spec.vectors]
        return (torch.cat(parts, -1) - self.own_mean) / self.own_scale if parts else some.new_zeros(len(some), 0)

    def normalized(self, action: Tensor) -> Tensor:
        """Returns actions `(..., A)` of about unit size; those that are discrete `(...)` as one of n."""
        if isinstance(self.spec.action, spaces.Discrete):
            return F.one_hot(action.long() - int(self.spec.action.start), int(self.spec.action.n)).float()
        return (action.float() - self.action_mean) / self.action_scale

    def moved(self, slots: Tensor, change: Tensor) -> Tensor:
        """Returns slots `(..., K, C * FEATURES)` after changes `(..., K, C * MOVING)` in pixels; unseen ones stay."""
        numbers = slots.unflatten(-1, (self.cameras, FEATURES))
        seen, change = numbers[..., SEEN:], change.unflatten(-1, (self.cameras, MOVING))
        after = numbers[..., :SEEN] + change * (2 / self.config.picture_size) * seen
        bounded = torch.cat([after[..., :SIZE].clamp(-BOUND, BOUND), after[..., SIZE:].clamp(0, BOUND), seen], -1)
        return bounded.flatten(-2)

    def related(self, state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns slots with their way from the hand `(B, K, n)`, and the own state with the place of the hand.

        Where positions were learned, they stand last among a slot's numbers, standardized.
        """
        own, slots = self.own_of(state), state["slots"]
        hand = self.place(own)
        related = self.from_hand(slots, hand)
        if self.position is not None:
            related = torch.cat([related, self.position(slots, own) * self.there(slots)], -1)
        return related, torch.cat([own, hand], -1)

    def there(self, slots: Tensor) -> Tensor:
        """Returns which of slots `(..., K, C * FEATURES)` any camera has seen, `(..., K, 1)` bool."""
        return (slots[..., SEEN::FEATURES] > 0).any(-1, keepdim=True)

    def from_hand(self, slots: Tensor, hand: Tensor) -> Tensor:
        """Returns slots `(..., K, C * FEATURES)` with their way from the hand `(..., C * 2)` in the picture."""
        numbers = slots.unflatten(-1, (self.cameras, FEATURES))
        away = (numbers[..., :2] - hand[..., None, :].unflatten(-1, (self.cameras, 2))) * numbers[..., SEEN:]
        return torch.cat([numbers, away], -1).flatten(-2)

    def success_inputs(self, inputs: Tensor, goal: Tensor | None) -> Tensor:
        """Returns what success is told by: what is embedded, `(N, B, inputs)`, and how it differs from goals `(B, E)`.

        The embedding was trained to tell ends that reached their goal from others, so where goals are near one another
        little is left to be learned.
        """
        if not self.success_by_goal:
            return inputs
        assert goal is not None
        return torch.cat([inputs, self.phi.apart(inputs, goal)], -1)

    def tell(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor], action: Tensor) -> Tensor:
        """Returns standardized reward and logit of the end of steps with normalized actions, `(B, 2)`."""
        parts = [part for state in (before, after) for part in (state["slots"].flatten(-2), self.own_of(state))]
        assert self.told is not None
        return self.told(torch.cat([*parts, action], -1))

    def _own_of(self, observation: Mapping[str, Tensor], pictures: list[Tensor]) -> State:
        """Returns the vectors of observations, those that are missing as pictures show them."""
        if all(name in observation for name in self.spec.vectors):
            return {name: observation[name].float() for name in self.spec.vectors}
        found = self.own_mean.new_zeros(len(pictures[0]), self.own)
        if self.own_reader is not None:
            found = self.own_reader(self.seen(torch.stack(pictures, 1)))
        return self.vectors(found) | {n: observation[n].float() for n in self.spec.vectors if n in observation}

    def seen(self, pictures: Tensor) -> Tensor:
        """Returns how pictures `(B, C, S, S, 3)` uint8 differ from the background, floats."""
        return pictures.float() / 255 - self.painter.background

    def vectors(self, own: Tensor) -> State:
        """Returns vectors by name of standardized states `(B, P)`, within their spaces."""
        values, result, begin = own * self.own_scale + self.own_mean, {}, 0
        for name in self.spec.vectors:
            space, size = self.spec.observation[name], _length(self.spec, name)
            assert isinstance(space, spaces.Box)
            low, high = (torch.as_tensor(bound, device=own.device) for bound in (space.low, space.high))
            result[name] = torch.minimum(torch.maximum(values[:, begin : begin + size], low), high)
            begin += size
        return result


def _length(spec: WorldSpec, name: str) -> int:
    shape = spec.observation[name].shape
    assert shape is not None
    return shape[0]
