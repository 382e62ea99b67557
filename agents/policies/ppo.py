"""PPO that starts from a clone and stays close to it: in dreams on a CPU or a GPU, and in any env of SB3.

The whole algorithm (Schulman et al. 2017) is implemented here; the PPO class of stable-baselines3 provides saving,
loading, logging and callbacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from dream_env.agents.policies.actors import VLAPolicy
from dream_env.agents.policies.practice import PractisedPolicy
from dream_env.agents.policies.tensor_env import Obs, TensorVecEnv
from dream_env.world_models.batching import chunked, threads


class Rollout(NamedTuple):
    """N collected steps, on the learner's device.

    Attributes:
        obs: Observations `(N, ...)`.
        action: Sampled actions `(N, A)`, before clipping.
        log_prob: Log-probabilities of the actions `(N,)`.
        advantage: Advantages `(N,)`.
        target: Targets of the critic `(N,)`.
        value: Values estimated by the critic during the rollout `(N,)`.
    """

    obs: Obs
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    target: Tensor
    value: Tensor


class ClonePPO(PPO):
    """PPO for a pretrained policy in an approximate world.

    Two measures preserve the clone's skill. First, only the critic is trained for some rollouts: the advantages of an
    untrained critic are noise, and a few updates on noise undo a clone. Second, the loss contains `kl_coef` times the
    KL divergence to the clone on the visited states (KL-regularized RL: Galashov et al. 2019). The actor therefore
    leaves the clone, and the states that the world model has learned, only where the predicted gain is larger than this
    penalty.

    In a `TensorVecEnv`, rollouts stay on the device as tensors.

    Args:
        policy: A `VLAPolicy` or a `PractisedPolicy`; `policy_kwargs={"clone": FOLDER}` names the clone.
        env: Environment of stable-baselines3.
        kl_coef: Weight of the divergence, in standard deviations of the advantage per nat.
        critic_warmup: Number of first rollouts that train the critic only.
        critic_rate: Learning rate of the critic, as a multiple of the actor's. A large network that is fine-tuned takes
            small steps; its critic starts from random weights and has to learn faster.
        **kwargs: Further arguments of PPO.
    """

    policy: VLAPolicy | PractisedPolicy
    rollout: Rollout

    def __init__(
        self,
        policy: str | type[VLAPolicy | PractisedPolicy] = VLAPolicy,
        env: Any = None,
        kl_coef: float = 0.02,
        critic_warmup: int = 6,
        critic_rate: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.kl_coef, self.critic_warmup, self.critic_rate = kl_coef, critic_warmup, critic_rate
        super().__init__(policy, env, **kwargs)

    def _setup_model(self) -> None:
        """Builds the policy and its optimizer, with one parameter group for the actor and one for the critic."""
        super()._setup_model()
        policy = self.policy
        groups = [{"params": policy.actor_parameters()}, {"params": policy.critic_parameters()}]
        make: Any = policy.optimizer_class
        policy.optimizer = make(groups, lr=self.lr_schedule(1), **policy.optimizer_kwargs)

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Sets the actor's learning rate to that of the schedule, and the critic's to its multiple."""
        super()._update_learning_rate(optimizers)
        _, critic = optimizers.param_groups
        critic["lr"] *= self.critic_rate

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collects `n_rollout_steps` per environment into `rollout`; returns False if the callback stops training."""
        if isinstance(env, TensorVecEnv):
            return self._collect(env, callback, n_rollout_steps)
        if not super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps):
            return False
        assert isinstance(rollout_buffer, RolloutBuffer)
        data: Any = next(rollout_buffer.get(None))
        obs = dict(data.observations)
        self.rollout = Rollout(obs, data.actions, data.old_log_prob, data.advantages, data.returns, data.old_values)
        return True

    @torch.no_grad()
    def _collect(self, env: TensorVecEnv, callback: BaseCallback, steps: int) -> bool:
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        obs, std = env.obs, self.policy.log_std.exp()
        rows: list[tuple[Tensor, ...]] = []
        seen: list[Obs] = []
        for _ in range(steps):
            mean = self.policy.mean(obs)
            action = mean + std * torch.randn_like(mean)
            seen.append(obs)
            acted = self.policy.value(obs), action, log_prob(action, mean, std)
            step = env.move(action)
            reward = step.reward
            if step.cut is not None:  # bootstraps the value of truncated episodes
                late, where = step.cut
                reward = reward.index_add(0, where, self.gamma * self.policy.value(late))
            rows.append((*acted, reward, step.done.to(reward.dtype)))
            obs = step.obs
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
        value, action, logs, reward, done = (torch.stack(column) for column in zip(*rows, strict=True))
        advantage = advantages(reward, value, done, self.policy.value(obs), self.gamma, self.gae_lambda)
        flat = {name: torch.cat([each[name] for each in seen]) for name in obs}
        rest = (part.flatten(0, 1) for part in (action, logs, advantage, advantage + value, value))
        self.rollout = Rollout(flat, *rest)
        episodes = env.take_episodes()
        self._update_info_buffer(episodes, np.ones(len(episodes), bool))
        callback.on_rollout_end()
        return True

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Uses the progress at the start of the rollout, so a decaying learning rate is above zero in the last one."""
        super()._update_current_progress_remaining(num_timesteps - self.n_steps * self.n_envs, total_timesteps)

    @property
    def warming_up(self) -> bool:
        """Whether the current rollout trains the critic only."""
        return self.num_timesteps <= self.critic_warmup * self.n_steps * self.n_envs

    def train(self) -> None:
        """Updates the critic and, after the warm-up, the actor on the current rollout."""
        policy, data = self.policy, self.rollout
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        actor, critic = policy.actor_parameters(), policy.critic_parameters()
        std, logged = policy.log_std.detach().exp(), Figures()
        clip = float(self.clip_range(self._current_progress_remaining))  # type: ignore[operator]
        clone = self._clone_means(data.obs)

        def critic_gradients(rows: Tensor, obs: Obs) -> tuple[Any, ...]:
            loss = (policy.value(obs) - data.target[rows]).square().mean()
            return torch.autograd.grad(self.vf_coef * loss, critic), {"value_loss": loss.detach()}

        def actor_gradients(rows: Tensor, obs: Obs) -> tuple[Any, ...]:
            advantage = data.advantage[rows]
            if self.normalize_advantage and len(rows) > 1:
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            mean = policy.mean(obs)
            change = log_prob(data.action[rows], mean, std) - data.log_prob[rows]
            ratio = change.exp()
            gain = torch.min(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip)).mean()
            loss, figures = -gain, {"policy_gradient_loss": -gain.detach()}
            if clone is not None:  # KL divergence of two normal distributions with the same standard deviation
                apart = ((mean - clone[rows]) / std).square().sum(-1).mean() / 2
                loss, figures["kl_to_clone"] = loss + self.kl_coef * apart, apart.detach()
            figures["approx_kl"] = (ratio.detach() - 1 - change.detach()).mean()
            return torch.autograd.grad(loss, actor), figures

        warming_up, going = self.warming_up, True
        for _ in range(self.n_epochs):
            for rows in torch.randperm(len(data.action), device=data.action.device).split(self.batch_size):
                obs = {name: part[rows] for name, part in data.obs.items()}
                work = [critic_gradients] if warming_up else [critic_gradients, actor_gradients]
                (of_critic, figures), *rest = at_once(work, rows, obs)
                logged.add(figures)
                for _, more in rest:
                    logged.add(more)
                    going = self.target_kl is None or float(more["approx_kl"]) <= 1.5 * self.target_kl
                if not going:
                    break
                for weight, gradient in zip(critic, of_critic, strict=True):
                    weight.grad = gradient
                for of_actor, _ in rest:
                    for weight, gradient in zip(actor, of_actor, strict=True):
                        weight.grad = gradient
                for weights in [critic] if warming_up else [actor, critic]:  # apart: the critic's may be far larger
                    nn.utils.clip_grad_norm_(weights, self.max_grad_norm)
                policy.optimizer.step()
            self._n_updates += 1
            if not going:
                break
        policy.optimizer.zero_grad(set_to_none=True)
        unexplained = (data.target - data.value).var() / data.target.var()
        for name, value in {**logged.means(), "explained_variance": 1 - float(unexplained)}.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    @torch.no_grad()
    def _clone_means(self, obs: Obs) -> Tensor | None:
        """Returns the clone's actions `(N, A)` for a whole rollout; None without a clone or during the warm-up."""
        prior, names = self.policy.prior, list(obs)
        if prior is None or self.warming_up:
            return None
        return chunked(lambda *parts: prior(dict(zip(names, parts, strict=True))), *obs.values())

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "rollout"]


class Figures:
    """Averages logged values over updates; values stay on the device until the end, to avoid synchronization."""

    def __init__(self) -> None:
        self.found: dict[str, list[Tensor]] = {}

    def add(self, figures: dict[str, Tensor]) -> None:
        """Stores the values of an update."""
        for name, value in figures.items():
            self.found.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """Returns the mean of each value."""
        return {name: float(torch.stack(values).mean()) for name, values in self.found.items()}


def log_prob(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Returns the log-probabilities `(B,)` of actions `(B, A)` under diagonal normal distributions."""
    return -(((action - mean) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2).sum(-1)


def advantages(reward: Tensor, value: Tensor, done: Tensor, last: Tensor, gamma: float, lambda_: float) -> Tensor:
    """Returns generalized advantage estimates `(T, B)` (Schulman et al. 2016).

    Args:
        reward: `(T, B)`.
        value: Values of the states before each step, `(T, B)`.
        done: 1 where an episode ended with the step, `(T, B)`.
        last: Values of the states after the last step, `(B,)`.
        gamma: Discount factor.
        lambda_: Trade-off between bias (0) and variance (1) of the estimate.
    """
    result, following, ahead = torch.zeros_like(reward), last, torch.zeros_like(last)
    for t in range(len(reward) - 1, -1, -1):
        going = 1 - done[t]
        ahead = reward[t] + gamma * going * following - value[t] + gamma * lambda_ * going * ahead
        result[t], following = ahead, value[t]
    return result


def at_once(work: list[Callable[..., Any]], rows: Tensor, obs: Obs) -> list[Any]:
    """Calls functions with the same inputs, in parallel threads on a CPU with several cores.

    Torch's own threads synchronize after every layer, which takes longer than layers of this size.
    """
    if rows.device.type != "cpu" or threads() == 1 or len(work) == 1:
        return [each(rows, obs) for each in work]
    others = [_pool().submit(each, rows, obs) for each in work[1:]]
    return [work[0](rows, obs), *(other.result() for other in others)]


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "learner", initializer=torch.set_num_threads, initargs=(1,))
