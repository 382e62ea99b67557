"""World Models (Ha & Schmidhuber 2018): V encodes images, M remembers and predicts, C is the policy.

`dream_env.world_models.vae` is V and `dream_env.world_models.mdn_rnn` is M. C, the controller, can be any policy; its
observation is the code z as `embedding`, and the LSTM state of M as `hidden` and `cell`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.spec import WorldSpec
from dream_env.world_models.mdn_rnn import MDNRNN
from dream_env.world_models.normalization import action_size, center_and_scale, safe_std, unit_actions
from dream_env.world_models.pictures import displayed, resized
from dream_env.world_models.protocol import Prediction, State
from dream_env.world_models.vae import SIDE, VAE

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"latent": 64, "channels": (32, 64, 128, 256), "memory": 512, "mixtures": 5},
    "small": {"latent": 32, "channels": (16, 32, 64, 128), "memory": 256, "mixtures": 5},
}
"""Model sizes: "paper" is the paper's for Doom (for CarRacing it has `latent` 32 and `memory` 256), "small" suits two
CPU cores."""


@dataclass(frozen=True)
class VMCConfig:
    """Configuration of a `VMCModel`.

    Attributes:
        latent: Size Z of the latent code of an image.
        channels: Channels of V after each downsampling of an image.
        memory: Width H of the LSTM of M.
        mixtures: Number of components of a mixture.
        rewards: Whether the data contain rewards, so that the model predicts them.
        terminates: Whether recorded episodes terminate, so that the model predicts termination.

    Raises:
        ValueError: If a number is out of range.
    """

    latent: int = 32
    channels: tuple[int, int, int, int] = (16, 32, 64, 128)
    memory: int = 256
    mixtures: int = 5
    rewards: bool = True
    terminates: bool = True

    def __post_init__(self) -> None:
        """Validates the fields."""
        for name in ("latent", "memory", "mixtures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; accepted: at least 1")
        if len(self.channels) != 4 or min(self.channels) < 1:
            raise ValueError(f"channels={self.channels}; accepted: four numbers of at least 1")


class VMCModel(nn.Module):
    """World Models (2018); see the module docstring. Implements `dream_env.world_models.protocol.WorldModel`.

    The state holds `code` `(B, Z)`; `hidden` and `cell` `(B, H)`, which are 0 at the start of an episode; and
    `instruction` if it was given. The embedding is the code alone.

    Args:
        config: Configuration of the model.
        spec: Spec of the world.

    Raises:
        ValueError: If the observation is anything other than a single image.
    """

    kind = "vmc"
    config_class = VMCConfig

    observed: tuple[str, ...] = ("hidden", "cell")
    has_memory = True

    def __init__(self, config: VMCConfig, spec: WorldSpec) -> None:
        super().__init__()
        if len(spec.pictures) != 1 or spec.vectors:
            raise ValueError(
                f"model='vmc': {spec.name} shows {spec.observation}; accepted: one picture (uint8 Box of shape "
                "(H, W, 3)) and nothing else; `agents.collect --part NAME` records one part of a Dict, and "
                "model='dynamics' takes vectors"
            )
        self.config, self.spec = config, spec
        self.picture = spec.pictures[0]
        self.noise_dim = 2 * config.latent + config.terminates
        self.embedding_dim = config.latent
        actions = action_size(spec.action)
        self.vae = VAE(config.latent, config.channels)
        self.rnn = MDNRNN(config.latent, actions, config.memory, config.mixtures)
        mean, scale = torch.zeros(actions), torch.ones(actions)
        if isinstance(spec.action, spaces.Box):
            mean, scale = center_and_scale(spec.action, mean, scale)
        self.register_buffer("action_mean", mean)
        self.register_buffer("action_scale", scale)
        self.register_buffer("reward_mean", torch.zeros(1))
        self.register_buffer("reward_scale", torch.ones(1))
        self.register_buffer("end_shift", torch.zeros(1))

    action_mean: Tensor
    action_scale: Tensor
    reward_mean: Tensor
    reward_scale: Tensor
    end_shift: Tensor
    """Added to the termination logit, so that the predicted frequency of terminations matches the recorded episodes."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.action_mean.device

    @property
    def observed_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of the entries that `observed` names."""
        size = (self.config.memory,)
        return {
            "hidden": spaces.Box(-1.0, 1.0, size, np.float32),
            "cell": spaces.Box(-np.inf, np.inf, size, np.float32),
        }

    # --- the protocol

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes images as the means of their codes; the LSTM state is taken from `previous`.

        Args:
            observation: The image by its name, `(B, H, W, 3)` uint8.
            previous: The state predicted for this step; None at the start of an episode.

        Raises:
            ValueError: If the image is missing.
        """
        if self.picture not in observation:
            raise ValueError(f"observation has no {self.picture!r}; accepted: {list(self.spec.observation)}")
        state = self.start(self.vae.encode(resized(observation[self.picture], SIDE)).mean)
        if previous is not None:
            state |= {name: previous[name] for name in self.observed}
        if "instruction" in observation:
            state["instruction"] = observation["instruction"]
        return state

    def start(self, code: Tensor) -> State:
        """Returns the initial states of episodes that start at codes `(B, Z)`, with a zero LSTM state."""
        empty = code.new_zeros(len(code), self.config.memory)
        return {"code": code, "hidden": empty, "cell": empty.clone()}

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Rebuilds states from policy observations; the LSTM state is zero if they lack it, as in goals."""
        state = self.start(observation["embedding"])
        return state | {name: observation[name] for name in (*self.observed, "instruction") if name in observation}

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state.

        With noise, termination is sampled like the code, so `terminated` is exactly 0 or 1: most terminations are
        improbable in the step before, and a threshold of 0.5 would never detect them. As the temperature approaches 0,
        sampling becomes that threshold.

        Args:
            state: Current states.
            action: `(B, A)` float32, or `(B,)` int64 if actions are discrete.
            noise: `(B, noise_dim)` in [0, 1): 2 Z numbers for `Mixture.draw`, and one for termination if the model
                predicts it. None returns the mean of the most likely component, and the termination probability.
            temperature: Temperature of the mixtures, see `Mixture.draw`; it also divides the termination logits.
        """
        seen = torch.cat([state["code"], self.normalized(action)], -1)
        hidden, cell = self.rnn.cell(seen, state["hidden"], state["cell"])
        mixture, reward, end_logit = self.rnn.predict(hidden, state["code"])
        end_logit = end_logit + self.end_shift
        if noise is None or temperature <= 0:
            code, ended = mixture.likeliest(), end_logit.sigmoid()
        else:
            code = mixture.draw(noise[..., : 2 * self.config.latent], temperature)
            ended = (noise[..., -1] < (end_logit / temperature).sigmoid()).float()
        return {**state, "code": code, "hidden": hidden, "cell": cell}, Prediction(
            reward=reward * self.reward_scale + self.reward_mean if self.config.rewards else None,
            terminated=ended if self.config.terminates else None,
        )

    def embedding(self, state: State) -> Tensor:
        """Returns the codes `(B, Z)`."""
        return state["code"]

    def decode(self, state: State) -> dict[str, Tensor]:
        """Decodes states into images, `(B, H, W, 3)` uint8 by name."""
        shape = self.spec.observation[self.picture].shape
        assert shape is not None
        return {self.picture: displayed(self.vae.decode(state["code"]).float(), shape[:2])}

    # --- used by the fit

    def normalized(self, action: Tensor) -> Tensor:
        """Scales actions `(..., A)` to about unit size; discrete actions `(...)` become one-hot vectors."""
        return unit_actions(action, self.spec.action, self.action_mean, self.action_scale)

    @torch.no_grad()
    def measure_rewards(self, reward: Tensor) -> None:
        """Sets the mean and the scale of rewards from recorded rewards `(S,)`."""
        self.reward_mean.copy_(reward.mean()[None])
        self.reward_scale.copy_(safe_std(reward[:, None]))
