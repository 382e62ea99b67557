"""Hyperparameters of PPO for rl_zoo3: `--conf-file dream_env.agents.run.zoo_ppo`.

    python -m rl_zoo3.train --algo ppo --env NicoLDream-v0 --gym-packages dream_env
        --conf-file dream_env.agents.run.zoo_ppo

This makes the zoo's `ppo` stand for `dream_env.agents.policies.ppo.ClonePPO`. The zoo reads one configuration file per
algorithm; that of SAC is `dream_env.agents.run.zoo_sac`.
"""

from __future__ import annotations

from typing import Any

from rl_zoo3 import ALGOS

from dream_env.agents.policies.ppo import ClonePPO
from dream_env.agents.train.arguments import usual_terms
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.rewards import DEFAULT_REWARD

ALGOS["ppo"] = ClonePPO  # PPO with the KL divergence from the clone in its loss

TERMS = usual_terms(DEFAULT_REWARD, "ppo", EPISODE_STEPS)
BATCHED = "dream_env.adapters.sb3.BatchedDream"
"""Replaces `n_envs` single environments by one batched dream."""
PREPARED = {"dream_env.agents.nicol.object_state.ObjectStateVecEnv": {"clone": "state_grounded"}}
"""Replaces embedding and goal by the object state that the VLA estimates from them, once instead of in every epoch."""
DREAM: dict[str, Any] = {
    "monitor_kwargs": {"info_keywords": ("is_success",)},
    "env_kwargs": {"world_model": "state_grounded", "task": "all", "starts": "any", "reward": DEFAULT_REWARD},
    "kl_coef": 0.02,
}
"""Settings that PPO and SAC share."""

hyperparams: dict[str, dict[str, Any]] = {
    "NicoLDream-v0": {
        **DREAM,
        "vec_env_wrapper": [
            BATCHED,
            {"dream_env.adapters.sb3.RewardWeighting": TERMS.reward_weights._asdict()},
            PREPARED,
        ],
        "gamma": TERMS.discount,
        "policy": "dream_env.agents.policies.actors.VLAPolicy",
        "policy_kwargs": {"clone": "state_grounded"},
        "n_timesteps": 3_000_000,
        "n_envs": 256,
        "n_steps": EPISODE_STEPS,
        "batch_size": 512,
        "n_epochs": 2,
        "gae_lambda": 0.95,
        "learning_rate": "lin_3e-4",  # falls to zero
        "target_kl": 0.03,
    }
}
