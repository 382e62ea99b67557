"""The VLA as the actor of stable-baselines3's algorithms.

Every policy here holds exactly one VLA: it can start from a saved clone (`clone=`), and `vla()`
gives the trained one back.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from dream_env.agents.policies.critic import GoalTrunk
from dream_env.agents.policies.vla import VLA, Trunk, VLAConfig, load


class _VLAActor:
    """What all policies here share; stands before stable-baselines3's class among the bases.

    Args:
        observation_space: Space of either world.
        action_space: `dream_env.contract.action_space()`.
        lr_schedule: Learning rate by remaining progress.
        config: Sizes; a clone brings its own.
        clone: Saved VLA to start from, see `dream_env.agents.policies.vla.load`; None for random weights.
        **kwargs: stable-baselines3's further policy arguments.
    """

    FIXED: Mapping[str, Any] = {}
    """Arguments of stable-baselines3's class that the form of the VLA settles."""

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
        if vla:
            self.imitate(vla)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,  # type: ignore[attr-defined]
            "action_space": self.action_space,  # type: ignore[attr-defined]
            "lr_schedule": self._dummy_schedule,  # type: ignore[attr-defined]
            **self.arguments,
        }

    def obs_to_tensor(self, observation: Any) -> Any:
        """As in stable-baselines3, but tells which wrapper shows what a policy has learned from.

        Raises:
            ValueError: If a part of the observation is missing.
        """
        wanted = self.observation_space.spaces  # type: ignore[attr-defined]
        if isinstance(observation, dict) and (missing := [name for name in wanted if name not in observation]):
            raise ValueError(
                f"observation lacks {missing}; accepted: those of an env in dream_env.agents.policies.object_state.ObjectStateVecEnv. "
                "dream_env.agents.policies.vla.load(FOLDER) acts on any env of the contract"
            )
        return super().obs_to_tensor(observation)  # type: ignore[misc]

    @abstractmethod
    def parts(self) -> tuple[Any, Any]:
        """Returns the actor's trunk and the linear layer that makes actions."""

    def actor_parameters(self) -> Iterator[nn.Parameter]:
        """Yields the parameters of the VLA inside."""
        for part in self.parts():
            yield from part.parameters()

    def imitate(self, vla: VLA) -> None:
        """Takes over the weights of `vla`; critics read as it does."""
        trunk, action = self.parts()
        trunk.load_state_dict(vla.trunk.state_dict())
        action.load_state_dict(vla.action.state_dict())
        for part in self.modules():  # type: ignore[attr-defined]
            if isinstance(part, GoalTrunk):
                part.ground(vla.trunk)

    def vla(self) -> VLA:
        """Returns a copy of the VLA inside."""
        trunk, action = self.parts()
        vla = VLA(self.config)
        vla.trunk.load_state_dict(trunk.state_dict())
        vla.action.load_state_dict(action.state_dict())
        return vla.eval()


class VLAPolicy(_VLAActor, MultiInputActorCriticPolicy):
    """The VLA with a critic, for PPO, A2C and TRPO.

    With a clone, `evaluate_actions` returns minus the KL divergence to the clone where
    stable-baselines3 expects the entropy. An entropy bonus is, up to a constant, minus the KL
    divergence to a uniform prior; here the prior is the clone, so `ent_coef` becomes the strength of
    the anchor (KL-regularized RL: Galashov et al. 2019) for every algorithm that has one.

    Args:
        observation_space: Space of either world, with `goal`.
        action_space: `dream_env.contract.action_space()`.
        lr_schedule: Learning rate by remaining progress.
        learn_std: Whether the actions' standard deviation is learned; else it stays `config.std`.
        **kwargs: `config`, `clone` and stable-baselines3's further policy arguments.
    """

    FIXED = {"ortho_init": False}
    prior: VLA | None
    """The clone, frozen."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        lr_schedule: Any,
        learn_std: bool = False,
        **kwargs: Any,
    ) -> None:
        self.learn_std = learn_std
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)
        self.arguments["learn_std"] = learn_std

    def _build(self, lr_schedule: Any) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        self.net_arch = {"pi": [], "vf": [self.config.hidden]}
        self.log_std_init = math.log(self.config.std)
        self.vf_features_extractor = GoalTrunk(self.observation_space, self.config)
        super()._build(lr_schedule)
        self.action_net = nn.Sequential(self.action_net, nn.Tanh())
        self.log_std.requires_grad_(self.learn_std)
        self.prior = None

    def parts(self) -> tuple[Any, Any]:
        """Returns the actor's trunk and the linear layer that makes actions."""
        assert isinstance(self.action_net, nn.Sequential)
        return self.pi_features_extractor, self.action_net[0]

    def imitate(self, vla: VLA) -> None:
        """Takes over the weights of `vla` and stays anchored to it."""
        super().imitate(vla)
        self.prior = vla.requires_grad_(False).to(self.device)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns values `(B, 1)`, log-probabilities `(B,)`, and minus the KL to the clone `(B,)`."""
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        if self.prior is not None:
            current, prior = self.action_dist.distribution, Normal(self.prior(obs), self.config.std)
            assert isinstance(current, Normal)
            entropy = -kl_divergence(current, prior).sum(dim=-1)
        return values, log_prob, entropy


class _OffPolicyActor(_VLAActor):
    """Off-policy form: nothing between trunk and action, and Q-functions that see the goal."""

    FIXED = {"net_arch": {"pi": [], "qf": [128, 128]}}

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Builds the Q-functions upon a trunk that sees the goal."""
        trunk = GoalTrunk(self.observation_space, self.config)  # type: ignore[attr-defined]
        return super().make_critic(features_extractor or trunk)  # type: ignore[misc]


class AnchoredActor(Actor):
    """SAC's actor that gives the KL divergence to a clone where SAC expects the logarithm of the probability.

    SAC takes `ent_coef` times that off what an action and what follows it are worth, in the actor's loss and in the
    critics' targets: with a divergence it is KL-regularized RL (Galashov et al. 2019). Squashing both distributions
    alike does not change how far they are apart, so that can be computed before.
    """

    prior: VLA | None
    """The clone, frozen; without one this is SAC."""
    rest: Tensor
    """Updates that are left to the critics alone: a fresh critic's opinion is noise, and would undo the clone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prior = None
        self.register_buffer("rest", torch.tensor(0))  # saved with a run, which goes on where it was

    def action_log_prob(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Returns drawn actions `(B, 4)` and divergences `(B,)`, without a clone log-probabilities."""
        if self.prior is None:
            return super().action_log_prob(obs)
        mean, log_std, _ = self.get_action_dist_params(obs)
        with torch.no_grad():
            prior = Normal(self.prior.action(self.prior.trunk(obs)), self.prior.config.std)
        apart = kl_divergence(Normal(mean, log_std.exp()), prior).sum(dim=-1)
        squashed: Any = self.action_dist
        drawn = squashed.actions_from_params(mean, log_std)
        if not (torch.is_grad_enabled() and self.rest):
            return drawn, apart
        self.rest -= 1
        return drawn.detach(), apart.detach()


class VLASACPolicy(_OffPolicyActor, SACPolicy):
    """The VLA as SAC's actor; the mode of the squashed Gaussian is the VLA's action.

    Args:
        *args: As for all policies here.
        rest: Updates of the critics alone, before those of a clone.
        **kwargs: As for all policies here.
    """

    actor: AnchoredActor

    def __init__(self, *args: Any, rest: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arguments["rest"] = rest
        self.actor.rest.fill_(rest)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> AnchoredActor:
        """Builds the actor."""
        return AnchoredActor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    def parts(self) -> tuple[Any, Any]:
        """Returns the actor's trunk and the linear layer that makes actions."""
        return self.actor.features_extractor, self.actor.mu

    def imitate(self, vla: VLA) -> None:
        """Takes over the weights of `vla`, acts as near to it as it did itself, and stays anchored to it."""
        super().imitate(vla)
        log_std: Any = self.actor.log_std
        nn.init.zeros_(log_std.weight)
        nn.init.constant_(log_std.bias, math.log(vla.config.std))
        self.actor.prior = vla.requires_grad_(False).to(self.device)


class VLATD3Policy(_OffPolicyActor, TD3Policy):
    """The VLA as the actor of TD3 and DDPG."""

    def parts(self) -> tuple[Any, Any]:
        """Returns the actor's trunk and the linear layer that makes actions."""
        return self.actor.features_extractor, self.actor.mu[0]

    def imitate(self, vla: VLA) -> None:
        """Takes over the weights of `vla`, in the target network too."""
        super().imitate(vla)
        self.actor_target.load_state_dict(self.actor.state_dict())
