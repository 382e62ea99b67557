"""World model and policy in one network: the policy, which is loaded from the folder of the world model.

It reads the world model's tokens, the part `tokens` of the observations of dreams and of `dream_env.wrappers`. It
therefore runs with that world model, or with another one that has the same encoder and provides tokens. Reinforcement
learning trains the action stream only: the trunk and the prediction stream stay fixed, and with them the dream.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dream_env.agents.policies import encoder_id
from dream_env.spec import WorldSpec
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import insulated
from dream_env.world_models.unified.config import UnifiedConfig
from dream_env.world_models.unified.model import TOKENS, UnifiedModel


@dataclass(frozen=True)
class UnifiedPolicyConfig(UnifiedConfig):
    """Config of the world model, with the attributes of policies."""

    obs_type = "embedding"
    """Which observations it takes, see `dream_env.observations.ObservationBuilder`."""

    def check_encoder(self, world_model: str) -> None:
        """Raises ValueError if a world model provides no tokens, or has another encoder."""
        shown = checkpoint.load(world_model).observed
        if TOKENS not in shown:
            raise ValueError(
                f"world_model={world_model!r} provides {shown} besides its embedding, and no {TOKENS!r}; accepted: the "
                "folder of this policy, which is a world model too, or another one of kind 'unified'"
            )
        if self.encoder_id is not None:
            encoder_id.check(self.encoder_id, "the one that it is part of", world_model)


class UnifiedPolicy(UnifiedModel):
    """The policy, see the module; implements `dream_env.agents.policies.protocol.Policy` and `Practicable`.

    Args:
        config: Config of the network.
        spec: The world that it was fitted to.

    Raises:
        ValueError: If the action space is not a bounded `Box`, or the network was not trained to act.
    """

    config_class = UnifiedPolicyConfig
    config: UnifiedPolicyConfig

    def __init__(self, config: UnifiedPolicyConfig, spec: WorldSpec | None = None) -> None:
        if spec is None:
            raise ValueError("there is no spec.json in the policy's folder; accepted: a folder of `agents.fit`")
        super().__init__(config, spec)
        if self.action_stream is None:
            raise ValueError(f"{spec.name} has actions {spec.action}; accepted of a policy: a bounded Box")
        if not config.is_policy:
            raise ValueError(
                "it was fitted with --action-weight 0, so its actions were not trained: it is a world model only; "
                "accepted of a policy: `agents.fit --model unified` with demonstrations or --teacher-policy"
            )
        self.requires_grad_(False)
        self.action_stream.requires_grad_(True)
        self.reset()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parts of an observation that it reads."""
        assert self.action_stream is not None
        return (*self.observed, *self.action_stream.names)

    def requires_grad_(self, requires_grad: bool = True) -> UnifiedPolicy:
        """Sets whether the action stream is trainable; all other weights stay frozen."""
        super().requires_grad_(False)
        if self.action_stream is not None:
            self.action_stream.requires_grad_(requires_grad)
        return self

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Maps a batch of observations to the first actions `(B, A)` of the most likely chunks."""
        return self.chunks(obs)[:, 0]

    # --- reinforcement learning, see `dream_env.agents.policies.protocol.Practicable`

    def distribution(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns mean `(B, A)` and standard deviation `(A,)` of a Gaussian over the first action."""
        return self(obs), self.config.std * self.span

    def critic(self, space: spaces.Dict) -> nn.Module:
        """Creates a critic for observations of a space, which starts with the policy's weights where they fit."""
        return UnifiedCritic(self, space)

    # --- acting

    def reset(self) -> None:
        """Discards the rest of the current chunks."""
        self._left: list[np.ndarray] = []

    def _tensors(self, observation: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        if missing := [name for name in self.inputs if name not in observation]:
            raise ValueError(
                f"observation lacks {missing}; a policy of this kind reads {self.inputs}, which a world model of kind "
                "'unified' provides"
            )
        arrays = {name: np.asarray(observation[name], np.float32) for name in self.inputs}
        if wrong := [name for name, array in arrays.items() if array.ndim != 2]:
            raise ValueError(f"observation[{wrong[0]!r}] has shape {arrays[wrong[0]].shape}; accepted: (B, n)")
        return {name: torch.from_numpy(array.copy()).to(self.device) for name, array in arrays.items()}

    @insulated
    @torch.no_grad()
    def act(self, observation: Mapping[str, np.ndarray], deterministic: bool = True) -> np.ndarray:
        """Returns actions `(B, A)`, see `dream_env.agents.policies.protocol.Policy`.

        Samples with torch's global generator.
        """
        if not self._left or len(self._left[0]) != len(observation[TOKENS]):
            chunk = self.chunks(self._tensors(observation))
            if not deterministic:
                drawn = chunk + self.config.std * self.span * torch.randn(chunk.shape, device=chunk.device)
                chunk = torch.minimum(torch.maximum(drawn, self.center - self.span), self.center + self.span)
            self._left = list(chunk.cpu().numpy().swapaxes(0, 1)[: self.config.execute])
        return self._left.pop(0)


class UnifiedCritic(nn.Module):
    """Estimates the values `(B,)` of observations with its own trunk and action stream, which also read the embedding.

    Args:
        policy: Policy whose weights it starts with.
        space: Observation space; the critic reads the goal if the space has one.
    """

    def __init__(self, policy: UnifiedPolicy, space: spaces.Dict) -> None:
        super().__init__()
        config = replace(policy.config, goal="goal" in space.spaces, sees=True, chunk=1, execute=1)
        self.model = UnifiedModel(config, policy.spec)
        del self.model.dream
        self.model.base.load_state_dict(policy.base.state_dict())
        self.model.trunk = copy.deepcopy(policy.trunk)
        stream = self.model.action_stream
        assert stream is not None and policy.action_stream is not None
        known, fresh = policy.action_stream.state_dict(), stream.state_dict()
        stream.load_state_dict({n: known[n] if part.shape == known[n].shape else part for n, part in fresh.items()})
        seen = len(policy.action_stream.shift)  # the embedding comes last
        with torch.no_grad():
            for own, its in ((stream.shift, policy.action_stream.shift), (stream.factor, policy.action_stream.factor)):
                own[:seen] = its
            if stream.about is not None and policy.action_stream.about is not None:
                stream.about.weight[:, :seen] = policy.action_stream.about.weight
        self.model.requires_grad_(False)
        for module in (self.model.trunk, stream):
            module.requires_grad_(True)
        stream.head = nn.Linear(stream.head.in_features, 1)

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns the values."""
        model = self.model
        _, _, robot, scene = model.look(obs)
        assert model.action_stream is not None
        return model.action_stream(scene, robot, obs)[:, 0]
