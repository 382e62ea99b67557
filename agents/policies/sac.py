"""SAC that starts from a clone and stays close to it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from stable_baselines3 import SAC
from stable_baselines3.common.utils import polyak_update

from dream_env.agents.policies.actors import VLASACPolicy


class CloneSAC(SAC):
    """SAC in which a penalty on the KL divergence to the clone replaces the entropy bonus.

    The actor's loss and the critics' targets subtract `kl_coef` times the divergence from the values (KL-regularized
    RL: Galashov et al. 2019).

    Args:
        policy: A `VLASACPolicy`; `policy_kwargs={"clone": FOLDER}` names the clone.
        env: Environment of stable-baselines3.
        kl_coef: Weight of the divergence, in units of reward per nat.
        critic_warmup: Number of first updates that train the critics only: the values of untrained critics are noise,
            which would undo the clone.
        **kwargs: Further arguments of SAC.
    """

    policy: VLASACPolicy

    def __init__(
        self,
        policy: str | type[VLASACPolicy] = VLASACPolicy,
        env: Any = None,
        kl_coef: float = 0.02,
        critic_warmup: int = 2_000,
        **kwargs: Any,
    ) -> None:
        self.kl_coef, self.critic_warmup = kl_coef, critic_warmup
        super().__init__(policy, env, **{"ent_coef": 0.0, **kwargs})

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Updates the critics and, after the warm-up, the actor on batches from the replay buffer."""
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        divergence = loss = torch.zeros(())
        for _ in range(gradient_steps):
            data = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            with torch.no_grad():
                action, apart = self.policy.drawn(data.next_observations)
                value = torch.cat(self.critic_target(data.next_observations, action), dim=1).amin(1, keepdim=True)
                value = value - self.kl_coef * apart[:, None]
                target = data.rewards + (1 - data.dones) * self.gamma * value
            values = self.critic(data.observations, data.actions)
            loss = sum((F.mse_loss(each, target) for each in values), torch.zeros((), device=self.device)) / 2
            self._step(self.critic.optimizer, loss)
            if self._n_updates >= self.critic_warmup:
                action, apart = self.policy.drawn(data.observations)
                worth = torch.cat(self.critic(data.observations, action), dim=1).amin(1)
                self._step(self.actor.optimizer, (self.kl_coef * apart - worth).mean())
                divergence = apart.detach().mean()
            self._n_updates += 1
            if self._n_updates % self.target_update_interval == 0:
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/critic_loss", loss.item())
        self.logger.record("train/kl_to_clone", divergence.item())

    def _step(self, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
