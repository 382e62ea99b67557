"""Any policy of this package as the actor of stable-baselines3's PPO; it has to implement `protocol.Practicable`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from torch import Tensor, nn

from dream_env.agents.policies import registry
from dream_env.agents.policies.protocol import Practicable


class PractisedPolicy(MultiInputActorCriticPolicy):
    """An actor that starts from a clone, the critic that the clone creates, and the frozen clone.

    Args:
        observation_space: Observation space of the dream or of the real environment.
        action_space: Box of the actions.
        lr_schedule: Learning rate as a function of the remaining progress.
        clone: Folder of the policy to start from.
        **kwargs: Further policy arguments of stable-baselines3.

    Raises:
        ValueError: If the policy is not `Practicable`, or reads observations that the environment does not have.
    """

    prior: Any
    """The frozen clone, to which the learner stays close."""
    actor: Any

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        lr_schedule: Any,
        clone: str,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.clone_folder = str(clone)
        kwargs = {"ortho_init": False, "optimizer_kwargs": optimizer_kwargs or {"eps": 1e-5, "fused": True}, **kwargs}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Any) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        clone = load(self.clone_folder)
        if missing := [name for name in clone.inputs if name not in self.observation_space.spaces]:
            raise ValueError(f"the policy {self.clone_folder!r} reads {missing}; this environment has "
                             f"{[*self.observation_space.spaces]}")  # fmt: skip
        self.actor, self.critic = clone, clone.critic(self.observation_space)
        self.log_std = nn.Parameter(torch.zeros(self.action_space.shape or ()), requires_grad=False)
        shown: dict[str, Any] = dict(self.observation_space.spaces)
        used = self._reached({name: torch.zeros(1, *space.shape) for name, space in shown.items()})
        for weight in self.actor.parameters():  # freezes weights that do not affect the mean action
            weight.requires_grad_(id(weight) in used)
        trained: Any = [*self.actor_parameters(), *self.critic_parameters()]
        self.optimizer = self.optimizer_class(trained, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]
        # Frozen, and not in the optimizer, although `parameters` of the whole policy includes it.
        self.prior = copy.deepcopy(clone).requires_grad_(False)

    def _reached(self, obs: Mapping[str, Tensor]) -> set[int]:
        """Returns the ids of the weights that the mean action depends on, and copies the standard deviation."""
        weights = [weight for weight in self.actor.parameters() if weight.requires_grad]
        with torch.inference_mode(False), torch.enable_grad():
            mean, std = self.actor.distribution(obs)
            found = torch.autograd.grad(mean.sum(), weights, allow_unused=True)
        self.log_std.copy_(std.detach().log())
        return {id(weight) for weight, gradient in zip(weights, found, strict=True) if gradient is not None}

    def actor_parameters(self) -> list[nn.Parameter]:
        """Returns the trainable weights of the actor."""
        return [weight for weight in self.actor.parameters() if weight.requires_grad]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Returns the trainable weights of the critic."""
        return [weight for weight in self.critic.parameters() if weight.requires_grad]

    def mean(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns mean actions `(B, A)`."""
        return self.actor(obs)

    def value(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns values `(B,)`."""
        return self.critic(obs)

    def vla(self) -> Any:
        """Returns a copy of the trained policy, which executes one action per observation, as in training."""
        return practised(copy.deepcopy(self.actor).requires_grad_(True)).eval()

    # --- interface of stable-baselines3

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Returns actions, values `(B, 1)` and log-probabilities."""
        distribution = self.get_distribution(obs)
        action = distribution.get_actions(deterministic=deterministic)
        return action, self.predict_values(obs), distribution.log_prob(action)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns values, log-probabilities of actions and entropies."""
        distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: Any) -> Distribution:
        """Returns the Gaussian distribution of the next action."""
        assert isinstance(self.action_dist, DiagGaussianDistribution)
        return self.action_dist.proba_distribution(self.mean(obs), self.log_std)

    def predict_values(self, obs: Any) -> Tensor:
        """Returns values `(B, 1)`."""
        return self.value(obs)[:, None]

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        return self.get_distribution(observation).get_actions(deterministic=deterministic)


def load(folder: str) -> Any:
    """Loads a policy to improve by reinforcement learning.

    Raises:
        ValueError: If it is not `Practicable`.
    """
    policy = registry.load(folder)
    if not isinstance(policy, Practicable):
        raise ValueError(
            f"init={folder!r} is a policy of kind {policy.kind!r}; accepted: a clone of `agents.clone`, or what "
            "`agents.train` made of one. To go on with a policy of stable-baselines3, train longer into its own folder"
        )
    return policy


def practised(policy: Any) -> Any:
    """Sets a policy to execute one action of a chunk before choosing again, and returns it."""
    from dataclasses import replace

    if getattr(policy.config, "execute", 1) > 1:
        policy.config = replace(policy.config, execute=1)
    return policy
