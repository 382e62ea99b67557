"""The VLA as the actor of stable-baselines3's PPO and SAC.

Every policy here contains exactly one VLA: it can start from a saved clone (`clone=`), and `vla()` returns the trained
VLA.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from dream_env.agents.nicol.critic import GoalTrunk
from dream_env.agents.nicol.vla import VLA, Trunk, VLAConfig, load


class _VLAActor:
    """Mixin with the code shared by all policies here; precedes the class of stable-baselines3 among the bases.

    Args:
        observation_space: Observation space of the dream or of the real environment.
        action_space: Box of the actions.
        lr_schedule: Learning rate as a function of the remaining progress.
        config: Sizes of the VLA; not used with a clone, which has its own.
        clone: Saved VLA to start from, see `dream_env.agents.nicol.vla.load`; None for random weights.
        **kwargs: Further policy arguments of stable-baselines3.
    """

    FIXED: Mapping[str, Any] = {}
    """Arguments of the class of stable-baselines3 that are determined by the architecture of the VLA."""
    prior: VLA | None
    """The frozen clone, to which the learner stays close; None without a clone."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        lr_schedule: Any,
        config: VLAConfig | None = None,
        clone: str | None = None,
        **kwargs: Any,
    ) -> None:
        vla = load(clone) if clone else None
        self.config = vla.config if vla else config or VLAConfig()
        self.arguments = {"config": self.config, "clone": clone, **kwargs}
        super().__init__(  # type: ignore[call-arg]
            observation_space,
            action_space,
            lr_schedule,
            activation_fn=nn.GELU,
            features_extractor_class=Trunk,
            features_extractor_kwargs={"config": self.config},
            share_features_extractor=False,
            **self.FIXED,
            **kwargs,
        )
        self.prior = None
        if vla:
            self.imitate(vla)
            self.prior = vla.requires_grad_(False).to(self.device)  # type: ignore[attr-defined]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,  # type: ignore[attr-defined]
            "action_space": self.action_space,  # type: ignore[attr-defined]
            "lr_schedule": self._dummy_schedule,  # type: ignore[attr-defined]
            **self.arguments,
        }

    def obs_to_tensor(self, observation: Any) -> Any:
        """As in stable-baselines3, but the error for a missing part names the wrapper that provides it.

        Raises:
            ValueError: If a part of the observation is missing.
        """
        wanted = self.observation_space.spaces  # type: ignore[attr-defined]
        if isinstance(observation, dict) and (missing := [name for name in wanted if name not in observation]):
            raise ValueError(
                f"observation lacks {missing}; accepted: those of an env in "
                "dream_env.agents.nicol.object_state.ObjectStateVecEnv. "
                "dream_env.agents.nicol.vla.load(FOLDER) acts on any env of the contract"
            )
        return super().obs_to_tensor(observation)  # type: ignore[misc]

    @abstractmethod
    def parts(self) -> tuple[Any, Any]:
        """Returns the actor's trunk and the linear layer that outputs actions."""

    def imitate(self, vla: VLA) -> None:
        """Copies the weights of `vla`; critics get its state estimator and its target selector, too."""
        trunk, action = self.parts()
        trunk.load_state_dict(vla.trunk.state_dict())
        action.load_state_dict(vla.action.state_dict())
        for part in self.modules():  # type: ignore[attr-defined]
            if isinstance(part, GoalTrunk):
                part.ground(vla.trunk)

    def vla(self) -> VLA:
        """Returns a copy of the trained VLA."""
        trunk, action = self.parts()
        vla = VLA(self.config)
        vla.trunk.load_state_dict(trunk.state_dict())
        vla.action.load_state_dict(action.state_dict())
        return vla.eval()


class VLAPolicy(_VLAActor, MultiInputActorCriticPolicy):
    """The VLA as PPO's actor, with a critic that reads the goal; the standard deviation stays `config.std`.

    Args:
        observation_space: Observation space of the dream or of the real environment, with `goal`.
        action_space: Box of the actions.
        lr_schedule: Learning rate as a function of the remaining progress.
        **kwargs: `config`, `clone` and further policy arguments of stable-baselines3.
    """

    FIXED = {"ortho_init": False}

    def __init__(self, *args: Any, optimizer_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, optimizer_kwargs=optimizer_kwargs or {"eps": 1e-5, "fused": True}, **kwargs)

    def _build(self, lr_schedule: Any) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        self.net_arch = {"pi": [], "vf": [self.config.hidden]}
        self.log_std_init = math.log(self.config.std)
        self.vf_features_extractor = GoalTrunk(self.observation_space, self.config)
        super()._build(lr_schedule)
        self.action_net = nn.Sequential(self.action_net, nn.Tanh())
        self.log_std.requires_grad_(False)

    def parts(self) -> tuple[Any, Any]:
        """Returns the actor's trunk and the linear layer that outputs actions."""
        assert isinstance(self.action_net, nn.Sequential)
        return self.pi_features_extractor, self.action_net[0]

    def actor_parameters(self) -> list[nn.Parameter]:
        """Returns the trainable weights of the VLA."""
        return [weight for part in self.parts() for weight in part.parameters() if weight.requires_grad]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Returns the trainable weights of the critic."""
        parts = (self.vf_features_extractor, self.mlp_extractor.value_net, self.value_net)
        return [weight for part in parts for weight in part.parameters() if weight.requires_grad]

    def mean(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns mean actions `(B, 4)`."""
        return self.action_net(self.pi_features_extractor(obs))

    def value(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns values `(B,)`."""
        return self.value_net(self.mlp_extractor.forward_critic(self.vf_features_extractor(obs))).squeeze(-1)


class VLASACPolicy(_VLAActor, SACPolicy):
    """The VLA as SAC's actor, with Q-functions that read the goal.

    The mode of the squashed Gaussian is the action of the VLA.
    """

    FIXED = {"net_arch": {"pi": [], "qf": [128, 128]}}
    actor: Actor

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Builds the Q-functions on a trunk that reads the goal."""
        assert isinstance(self.observation_space, spaces.Dict)
        return super().make_critic(features_extractor or GoalTrunk(self.observation_space, self.config))

    def parts(self) -> tuple[Any, Any]:
        """Returns the actor's trunk and the linear layer that outputs actions."""
        return self.actor.features_extractor, self.actor.mu

    def imitate(self, vla: VLA) -> None:
        """Copies the weights of `vla`, and sets the standard deviation of the actor to that of `vla`."""
        super().imitate(vla)
        log_std: Any = self.actor.log_std
        nn.init.zeros_(log_std.weight)
        nn.init.constant_(log_std.bias, math.log(vla.config.std))

    def drawn(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Samples actions `(B, 4)`, and returns them with the KL divergence `(B,)` to the clone, 0 without a clone.

        The divergence is computed before squashing, because squashing both distributions the same way does not change
        it.
        """
        mean, log_std, _ = self.actor.get_action_dist_params(obs)
        squashed: Any = self.actor.action_dist
        action = squashed.actions_from_params(mean, log_std)
        if self.prior is None:
            return action, torch.zeros(len(action), device=action.device)
        with torch.no_grad():
            prior = Normal(self.prior.action(self.prior.trunk(obs)), self.prior.config.std)
        return action, kl_divergence(Normal(mean, log_std.exp()), prior).sum(dim=-1)
