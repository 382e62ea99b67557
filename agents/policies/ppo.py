"""PPO that starts from a clone and does not throw it away."""

from __future__ import annotations

from typing import Any

from stable_baselines3 import PPO

from dream_env.agents.policies.actors import VLAPolicy


class AnchoredPPO(PPO):
    """PPO for a policy that can already do something, in a world that is only nearly true.

    Two things keep the clone's skill. At first the actor rests while the critic learns what the
    clone is worth: a fresh critic's advantages are noise, and a few updates on noise undo a clone.
    Then the loss holds `anchor` times the KL divergence to the clone on the visited states, so the
    actor leaves the clone, and the states that the world model knows, only where the dream promises
    more than that costs (see `VLAPolicy`). Without a clone the anchor is PPO's entropy bonus,
    which does something only for a policy that learns its standard deviation.

    Args:
        policy: A `VLAPolicy`; `policy_kwargs={"clone": FOLDER}` names the clone.
        env: Env of stable-baselines3.
        anchor: Strength of the anchor, in standard deviations of the advantage per nat.
        warmup: Rollouts that train the critic only.
        **kwargs: PPO's further arguments.
    """

    policy: VLAPolicy

    def __init__(
        self,
        policy: str | type[VLAPolicy] = VLAPolicy,
        env: Any = None,
        anchor: float = 0.02,
        warmup: int = 6,
        **kwargs: Any,
    ) -> None:
        self.warmup = warmup
        super().__init__(policy, env, ent_coef=anchor, **kwargs)

    def train(self) -> None:
        """Updates the critic and, after the warm-up, the actor on the rollout in the buffer."""
        rests = self._n_updates < self.warmup * self.n_epochs
        for parameter in self.policy.actor_parameters():
            parameter.requires_grad_(not rests)
        super().train()
        if self.policy.prior is not None:
            divergence = self.logger.name_to_value["train/entropy_loss"]
            self.logger.record("train/kl_to_clone", divergence)
