"""World model for any environment with vector or image observations: an ensemble over a latent code.

The code is the concatenation of the standardized vectors and one auto-encoder latent per image. A probabilistic
ensemble predicts how an action changes the code; each member outputs a Gaussian (PETS, Chua et al. 2018; MBPO, Janner
et al. 2019). A single image shows no velocities, so an optional recurrent network carries memory between steps (World
Models, Ha & Schmidhuber 2018). No privileged data is needed: the model learns from observations, actions, rewards and
terminations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.spec import WorldSpec
from dream_env.world_models.autoencoder import AutoEncoder
from dream_env.world_models.ensemble import GaussianEnsemble, picked
from dream_env.world_models.normalization import action_size, center_and_scale, safe_std, unit_actions
from dream_env.world_models.pictures import displayed, resized
from dream_env.world_models.protocol import Prediction, State

MARGIN = 0.1
"""Predicted codes are clamped to the range of recorded codes, widened by this share of the range on each side."""


@dataclass(frozen=True)
class DynamicsConfig:
    """Configuration of a `DynamicsModel`.

    Attributes:
        members: Number of ensemble members.
        width: Width of hidden layers.
        depth: Number of hidden layers.
        memory: Size of the recurrent memory; 0 if a single observation contains the full state.
        latent: Size of the latent vector of each image.
        channels: Channels of the auto-encoder after each downsampling of an image.
        picture_size: Side length in pixels to which images are resized, a multiple of 8.
        rewards: Whether the data contain rewards, so that the model predicts them.
        terminates: Whether recorded episodes terminate, so that the model predicts termination.
        disagreement_threshold: Value used for `max_disagreement="calibrated"`.

    Raises:
        ValueError: If a number is out of range.
    """

    members: int = 5
    width: int = 200
    depth: int = 3
    memory: int = 0
    latent: int = 32
    channels: tuple[int, int, int] = (16, 32, 64)
    picture_size: int = 64
    rewards: bool = True
    terminates: bool = True
    disagreement_threshold: float | None = None

    def __post_init__(self) -> None:
        """Validates the fields."""
        for name in ("members", "width", "depth", "latent"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; accepted: at least 1")
        if self.memory < 0:
            raise ValueError(f"memory={self.memory}; accepted: at least 0")
        if self.picture_size < 8 or self.picture_size % 8:
            raise ValueError(f"picture_size={self.picture_size}; accepted: a multiple of 8")


class DynamicsModel(nn.Module):
    """Ensemble world model; see the module docstring. Implements `dream_env.world_models.protocol.WorldModel`.

    The state holds `code` `(B, Z)`, `memory` `(B, M)` if the model has one, and `instruction` if it was given. The
    embedding is the code and the memory, which is all that a policy needs. In a world with goals it is the code alone,
    so that distances to a goal compare observable quantities only.

    Args:
        config: Configuration of the model.
        spec: Spec of the world.

    Raises:
        ValueError: If the world has no observation.
    """

    kind = "dynamics"
    config_class = DynamicsConfig

    observed: tuple[str, ...] = ()

    def __init__(self, config: DynamicsConfig, spec: WorldSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.numbers = sum(self._box(name).shape[0] for name in self.spec.vectors)
        size = self.numbers + config.latent * len(self.spec.pictures)
        if not size:
            raise ValueError(f"spec: {self.spec.name} has no observation; accepted: vectors, pictures or both")
        self.noise_dim = 1 + size
        self.has_memory = config.memory > 0
        self.embedding_dim = size + (0 if self.spec.goals else config.memory)
        actions = action_size(spec.action)
        self.autoencoders = nn.ModuleList(
            AutoEncoder(config.latent, config.channels, config.picture_size, grid=1) for _ in self.spec.pictures
        )
        self.recurrent = nn.GRUCell(size + actions, config.memory) if config.memory else None
        context = size + config.memory + actions
        self.ensemble = GaussianEnsemble(context, size, config.members, config.width, config.depth)
        self.head = nn.Sequential(
            nn.Linear(context + size, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, 2),
        )
        for name, numbers, value in (
            ("vector_mean", self.numbers, 0.0),
            ("vector_scale", self.numbers, 1.0),
            ("code_low", size, -1e6),
            ("code_high", size, 1e6),
            ("change_scale", size, 1.0),
            ("action_mean", actions, 0.0),
            ("action_scale", actions, 1.0),
            ("reward_mean", 1, 0.0),
            ("reward_scale", 1, 1.0),
        ):
            self.register_buffer(name, torch.full((numbers,), value))

    vector_mean: Tensor
    vector_scale: Tensor
    code_low: Tensor
    code_high: Tensor
    change_scale: Tensor
    action_mean: Tensor
    action_scale: Tensor
    reward_mean: Tensor
    reward_scale: Tensor

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.change_scale.device

    @property
    def state_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of the state entries that the embedding does not contain: the memory, in a world with goals."""
        if not (self.has_memory and self.spec.goals):
            return {}
        return {"memory": spaces.Box(-np.inf, np.inf, (self.config.memory,), np.float32)}

    # --- the protocol

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes observations; the memory is taken from `previous`.

        Args:
            observation: Observation parts by name, `(B, ...)`. Missing vectors, as in goal observations, are replaced
                by their mean.
            previous: The state predicted for this step; None at the start of an episode.

        Raises:
            ValueError: If an image is missing, or the observation has no known part at all.
        """
        if missing := [name for name in self.spec.pictures if name not in observation]:
            raise ValueError(f"observation has no {missing[0]!r}; accepted: {list(self.spec.observation)}")
        if not any(name in observation for name in self.spec.observation):
            raise ValueError(f"observation={list(observation)}; accepted: {list(self.spec.observation)}")
        count = len(next(iter(observation.values())))
        parts = [observation.get(name, self._mean(name).expand(count, -1)).float() for name in self.spec.vectors]
        codes = [(torch.cat(parts, -1) - self.vector_mean) / self.vector_scale] if parts else []
        for name, autoencoder in zip(self.spec.pictures, self.autoencoders, strict=True):
            codes.append(autoencoder.encode(resized(observation[name], self.config.picture_size))[:, 0])  # type: ignore
        state = self.start(torch.cat(codes, -1))
        if self.has_memory and previous is not None:
            state["memory"] = previous["memory"]
        if "instruction" in observation:
            state["instruction"] = observation["instruction"]
        return state

    def start(self, code: Tensor) -> State:
        """Returns the initial states of episodes that start at codes `(B, Z)`, with an empty (zero) memory."""
        return {"code": code} | ({"memory": code.new_zeros(len(code), self.config.memory)} if self.has_memory else {})

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Rebuilds states from policy observations: "embedding" `(B, E)`, and "instruction" if present.

        In a world with goals the embedding does not contain the memory; it is then taken from "memory" if the
        observation has it, and zero otherwise.
        """
        embedding = observation["embedding"]
        state = {"code": embedding[..., : self.noise_dim - 1]}
        if self.has_memory:
            memory = embedding[..., self.noise_dim - 1 :]
            state["memory"] = memory if memory.shape[-1] else memory.new_zeros(len(memory), self.config.memory)
            state |= {"memory": observation["memory"]} if self.spec.goals and "memory" in observation else {}
        if "instruction" in observation:
            state["instruction"] = observation["instruction"]
        return state

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state.

        The first noise value selects an ensemble member; the others are turned into its Gaussian noise.

        Args:
            state: Current states.
            action: `(B, A)` float32, or `(B,)` int64 if actions are discrete.
            noise: Uniform random numbers `(B, noise_dim)` in [0, 1); None uses the mean of the members.
            temperature: Scales the deviation of the sample from the mean of the members.
        """
        context, memory = self.context(state, self.normalized(action))
        mean, log_std = self.ensemble(context)
        change = middle = mean.mean(0)
        if noise is not None:
            normal = torch.special.ndtri(noise[:, 1:].clamp(1e-6, 1 - 1e-6))
            drawn = picked(mean, noise[:, 0]) + picked(log_std, noise[:, 0]).exp() * normal
            change = middle + temperature * (drawn - middle)
        code = self.moved(state["code"], change)
        reward, end_logit = self.reward_and_end(context, code)
        after = {**state, "code": code} | ({} if memory is None else {"memory": memory})
        return after, Prediction(
            reward=reward,
            terminated=None if end_logit is None else end_logit.float().sigmoid(),
            disagreement=mean.float().var(0, unbiased=False).mean(-1),
        )

    def embedding(self, state: State) -> Tensor:
        """Returns embeddings `(B, E)`: the code, and also the memory in a world without goals."""
        code_only = not self.has_memory or self.spec.goals
        return state["code"] if code_only else torch.cat([state["code"], state["memory"]], -1)

    def decode(self, state: State) -> dict[str, Tensor]:
        """Decodes states into observations, clipped to the observation spaces."""
        code, result, begin = state["code"], {}, 0
        values = code[:, : self.numbers] * self.vector_scale + self.vector_mean
        for name in self.spec.vectors:
            space = self._box(name)
            size = space.shape[0]
            low, high = (torch.as_tensor(bound, device=code.device) for bound in (space.low, space.high))
            result[name] = values[:, begin : begin + size].clamp(low, high)
            begin += size
        for name, autoencoder in zip(self.spec.pictures, self.autoencoders, strict=True):
            drawn = autoencoder.decode(code[:, None, begin : begin + self.config.latent])  # type: ignore
            begin += self.config.latent
            result[name] = displayed(drawn, self._box(name).shape[:2])
        return {name: result[name] for name in self.spec.observation.spaces}

    # --- used by the fit

    def normalized(self, action: Tensor) -> Tensor:
        """Scales actions `(..., A)` to about unit size; discrete actions `(...)` become one-hot vectors."""
        return unit_actions(action, self.spec.action, self.action_mean, self.action_scale)

    def context(self, state: State, action: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the input of the ensemble `(..., C)`, and the memory after the step (None without memory).

        Args:
            state: Code and memory, `(..., Z)` and `(..., M)`.
            action: Actions from `normalized`, `(..., A)`.
        """
        inputs = torch.cat([state["code"], action], -1)
        if self.recurrent is None:
            return inputs, None
        lead, before = inputs.shape[:-1], state["memory"]
        memory = self.recurrent(inputs.flatten(0, -2), before.flatten(0, -2)).unflatten(0, lead)
        return torch.cat([inputs, memory], -1), memory

    def moved(self, code: Tensor, change: Tensor) -> Tensor:
        """Adds changes, in units of `change_scale`, to codes, and clamps the result to the range of recorded codes."""
        return (code + self.change_scale * change).clamp(self.code_low, self.code_high)

    def head_outputs(self, context: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the standardized reward and the termination logit, `(...)` each, of steps that lead to `code`."""
        both = self.head(torch.cat([context, code], -1))
        return both[..., 0], both[..., 1]

    def reward_and_end(self, context: Tensor, code: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Predicts the reward and the termination logit of steps that lead to `code`; None for what the data lack."""
        reward, end_logit = self.head_outputs(context, code)
        return (
            reward * self.reward_scale + self.reward_mean if self.config.rewards else None,
            end_logit if self.config.terminates else None,
        )

    @torch.no_grad()
    def measure_data(self, vectors: Tensor, action: Tensor, reward: Tensor | None) -> None:
        """Sets the normalization of vectors `(F, V)`, actions `(S, A)` and rewards `(S,)` from recorded data."""
        self.vector_mean.copy_(vectors.mean(0))
        self.vector_scale.copy_(safe_std(vectors))
        space = self.spec.action
        if isinstance(space, spaces.Box):
            center, scale = center_and_scale(space, action.mean(0), safe_std(action))
            self.action_mean.copy_(center)
            self.action_scale.copy_(scale)
        if reward is not None:
            self.reward_mean.copy_(reward.mean()[None])
            self.reward_scale.copy_(safe_std(reward[:, None]))

    @torch.no_grad()
    def measure_codes(self, codes: Tensor, changes: Tensor) -> None:
        """Sets the range of codes `(F, Z)` and the scale of their changes `(S, Z)` from recorded data."""
        low, high = codes.min(0).values, codes.max(0).values
        self.code_low.copy_(low - MARGIN * (high - low))
        self.code_high.copy_(high + MARGIN * (high - low))
        begin = 0
        for name in self.spec.vectors:  # vectors also stay within the bounds of their space
            space = self._box(name)
            size = space.shape[0]
            part = slice(begin, begin + size)
            for bound, kept, pick in (
                (space.low, self.code_low, torch.maximum),
                (space.high, self.code_high, torch.minimum),
            ):
                limit = (torch.from_numpy(bound) - self.vector_mean[part]) / self.vector_scale[part]
                kept[part] = pick(kept[part], limit.float())
            begin += size
        self.change_scale.copy_(safe_std(changes))

    def _box(self, name: str) -> spaces.Box:
        space = self.spec.observation[name]
        assert isinstance(space, spaces.Box)
        return space

    def _mean(self, name: str) -> Tensor:
        begin = sum(self._box(other).shape[0] for other in self.spec.vectors[: self.spec.vectors.index(name)])
        return self.vector_mean[begin : begin + self._box(name).shape[0]]
