"""World Models (Ha & Schmidhuber 2018) as one of this package's: V codes a picture, M remembers and predicts.

`dream_env.world_models.vae` is V, `dream_env.world_models.mdn_rnn` is M. C, the controller, is any policy; what it sees
is the code z as `embedding`, and M's memory as `hidden` and `cell` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.spec import WorldSpec
from dream_env.world_models.dynamics import resized
from dream_env.world_models.mdn_rnn import MDNRNN
from dream_env.world_models.protocol import Prediction, State
from dream_env.world_models.vae import SIDE, VAE

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"latent": 64, "channels": (32, 64, 128, 256), "memory": 512, "mixtures": 5},
    "small": {"latent": 32, "channels": (16, 32, 64, 128), "memory": 256, "mixtures": 5},
}
"""Sizes: those of the paper for Doom (for CarRacing `latent` is 32 and `memory` 256), and some for two cores."""


@dataclass(frozen=True)
class VMCConfig:
    """Shape of a model.

    Attributes:
        latent: Numbers Z that a picture is coded by.
        channels: Channels of V after each halving of a picture.
        memory: Width H of M's LSTM.
        mixtures: Components of a mixture.
        rewards: Whether rewards were recorded.
        terminates: Whether recorded episodes end by themselves.

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
        """Checks the numbers."""
        for name in ("latent", "memory", "mixtures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; accepted: at least 1")
        if len(self.channels) != 4 or min(self.channels) < 1:
            raise ValueError(f"channels={self.channels}; accepted: four numbers of at least 1")


class VMCModel(nn.Module):
    """See the module; meets `dream_env.world_models.protocol.WorldModel`.

    The state holds `code` `(B, Z)`; `hidden` and `cell` `(B, H)`, which are 0 at a start; and `instruction` if it was
    given. The embedding is the code alone.

    Args:
        config: Its shape.
        spec: The world.

    Raises:
        ValueError: If an observation is anything else than one picture.
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
        space = spec.action
        choices = int(space.n) if isinstance(space, spaces.Discrete) else space.shape[0]
        self.vae = VAE(config.latent, config.channels)
        self.rnn = MDNRNN(config.latent, choices, config.memory, config.mixtures)
        middle, half = np.zeros(choices, np.float32), np.ones(choices, np.float32)
        if isinstance(space, spaces.Box):
            bounded = space.bounded_below & space.bounded_above
            middle = np.where(bounded, (space.low + space.high) / 2, 0).astype(np.float32)
            half = np.where(bounded, (space.high - space.low) / 2, 1).astype(np.float32)
        self.register_buffer("action_mean", torch.from_numpy(middle))
        self.register_buffer("action_scale", torch.from_numpy(half))
        self.register_buffer("reward_mean", torch.zeros(1))
        self.register_buffer("reward_scale", torch.ones(1))
        self.register_buffer("end_shift", torch.zeros(1))

    action_mean: Tensor
    action_scale: Tensor
    reward_mean: Tensor
    reward_scale: Tensor
    end_shift: Tensor
    """Added to the logit of an end, so that ends are as probable as they are frequent in the recorded episodes."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.action_mean.device

    @property
    def observed_spaces(self) -> dict[str, spaces.Box]:
        """Spaces of what `observed` names."""
        size = (self.config.memory,)
        return {
            "hidden": spaces.Box(-1.0, 1.0, size, np.float32),
            "cell": spaces.Box(-np.inf, np.inf, size, np.float32),
        }

    # --- the protocol

    def encode(self, observation: Mapping[str, Tensor], previous: State | None = None) -> State:
        """Encodes pictures by the means of their codes; what was remembered until now is taken from `previous`.

        Args:
            observation: The picture by its name, `(B, H, W, 3)` uint8.
            previous: The state predicted for this moment; None at a start.

        Raises:
            ValueError: If the picture is missing.
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
        """Returns the states of codes `(B, Z)` before which there was nothing."""
        empty = code.new_zeros(len(code), self.config.memory)
        return {"code": code, "hidden": empty, "cell": empty.clone()}

    def restore(self, observation: Mapping[str, Tensor]) -> State:
        """Returns the states that policies' observations show; without a memory in them, as in goals, it is empty."""
        state = self.start(observation["embedding"])
        return state | {name: observation[name] for name in (*self.observed, "instruction") if name in observation}

    def step(
        self, state: State, action: Tensor, noise: Tensor | None = None, temperature: float = 1.0
    ) -> tuple[State, Prediction]:
        """Predicts the next state.

        With noise, an end is drawn as the code is, so that its probability is 0 or 1: most ends are improbable in the
        step before, and a threshold of 0.5 would never tell them. Towards temperature 0 it is that threshold.

        Args:
            state: Current states.
            action: `(B, A)` float32, or `(B,)` int64 where they are discrete.
            noise: `(B, noise_dim)` in [0, 1): 2 Z numbers for `Mixture.draw`, and one for the end if there are ends;
                None gives the mean of the likeliest component, and the probability of an end.
            temperature: Of the mixtures, see `Mixture.draw`; divides the logits of an end, too.
        """
        seen = torch.cat([state["code"], self.normalized(action)], -1)
        hidden, cell = self.rnn.cell(seen, state["hidden"], state["cell"])
        mixture, paid, ends = self.rnn.told(hidden, state["code"])
        ends = ends + self.end_shift
        if noise is None or temperature <= 0:
            code, ended = mixture.likeliest(), ends.sigmoid()
        else:
            code = mixture.draw(noise[..., : 2 * self.config.latent], temperature)
            ended = (noise[..., -1] < (ends / temperature).sigmoid()).float()
        return {**state, "code": code, "hidden": hidden, "cell": cell}, Prediction(
            reward=paid * self.reward_scale + self.reward_mean if self.config.rewards else None,
            terminated=ended if self.config.terminates else None,
        )

    def embedding(self, state: State) -> Tensor:
        """Returns the codes `(B, Z)`."""
        return state["code"]

    def decode(self, state: State) -> dict[str, Tensor]:
        """Returns the pictures that states stand for."""
        drawn = self.vae.decode(state["code"]).float()
        shape = self.spec.observation[self.picture].shape
        assert shape is not None
        if shape[:2] != (SIDE, SIDE):
            drawn = F.interpolate(drawn.permute(0, 3, 1, 2), shape[:2], mode="bilinear", antialias=True)
            drawn = drawn.permute(0, 2, 3, 1)
        return {self.picture: (255 * drawn).round().clamp(0, 255).to(torch.uint8)}

    # --- for the fit

    def normalized(self, action: Tensor) -> Tensor:
        """Returns actions `(..., A)` of about unit size; those that are discrete `(...)` as one of n."""
        if isinstance(self.spec.action, spaces.Discrete):
            return F.one_hot(action.long() - int(self.spec.action.start), int(self.spec.action.n)).float()
        return (action.float() - self.action_mean) / self.action_scale

    @torch.no_grad()
    def measure_rewards(self, reward: Tensor) -> None:
        """Takes the scale of rewards `(S,)`."""
        spread = reward.std() if len(reward) > 1 else torch.zeros(())
        self.reward_mean.copy_(reward.mean()[None])
        self.reward_scale.copy_(torch.where(spread > 1e-6, spread, torch.ones(()))[None])
