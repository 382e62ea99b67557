"""Arguments of `agents.train`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.run.config import resolve_paths
from dream_env.checks import check_choice, check_number
from dream_env.rewards import DEFAULT_REWARD, OUTCOME, RewardName, RewardWeights

VALIDATION_SEED = 90_000
"""First seed for validation in the real environment; `agents.evaluate` uses seeds from 100,000 on."""
Algorithm = Literal["ppo", "sac", "td3", "a2c", "ddpg", "dqn"]
CLONE_ALGORITHMS = ("ppo", "sac")
"""Algorithms that can start from a clone, with a KL penalty that keeps the policy near it."""
WARMUP_SHARE, WARMUP_MOST = 1 / 8, 6
"""Share of PPO's rollouts that train only the critic, and their maximum number."""


@dataclass(frozen=True)
class Terms:
    """Discount and reward weights of a learner that starts from a clone.

    Attributes:
        discount: Discount factor. With 1, the return is the sum over one episode; that of the reward "progress" is then
            the decrease of the distance over the episode.
        last_step: Weight of the reward at the last step of an episode; all other steps have weight 1. Infinity means
            that only the last step counts.
    """

    discount: float
    last_step: float = 1.0

    @property
    def reward_weights(self) -> RewardWeights:
        """Weights of the steps' rewards.

        The value after the time limit is bootstrapped only if all steps have the same weight and are discounted.
        """
        if math.isinf(self.last_step):
            return OUTCOME
        return RewardWeights(1.0, self.last_step, bootstrap_at_timeout=self.discount < 1 and self.last_step == 1)


DIFFERENCES = ("progress", "metric_progress")
"""Rewards for the change of the distance in a step; other rewards depend on the state after the step."""


def usual_terms(reward: RewardName, algo: Algorithm, horizon: int | None) -> Terms:
    """Returns the terms that work best, according to the table of `agents.studies.practice_rewards`.

    Args:
        reward: The reward.
        algo: The algorithm.
        horizon: Control steps of an episode; None without a time limit.
    """
    if reward == "success":
        return Terms(0.99, math.inf)
    if algo == "sac" or reward == "environment" or horizon is None:  # SAC's critic learns from single steps
        return Terms(0.97)
    return Terms(1.0, 1.0 if reward in DIFFERENCES else float(horizon))


@dataclass(frozen=True)
class Arguments:
    """Trains a policy by reinforcement learning, in a learned world model or in the real environment."""

    out: Path
    """Output folder: the policy, the TensorBoard curves, and the state of the run."""
    algo: Algorithm = "ppo"
    """RL algorithm. With a clone (--init), ppo and sac, which keep the policy near the clone; with --init none, the
    algorithms of stable-baselines3."""
    world_model: str = "default"
    """World model: a folder, or the name of a shipped one. By default the one that --init names, else "unlabelled"."""
    world: Literal["dream", "real"] = "dream"
    """Trains in the world model (dream) or in the real environment (real)."""
    env: str | None = None
    """Id of the real environment, for validation. By default the one that the world model was fitted to."""
    task: str = "all"
    """Task to train on; "all" draws one for each episode."""
    init: str | None = "default"
    """Cloned policy to start from: a folder, or one of the shipped ones: "default" (100 demonstrations per task) and
    "unlabelled" (5), or for other shipped world models "state_grounded" (100), "bc5" (5) and "place_stack" (25), which
    are the default there. "none" trains a policy of stable-baselines3 from random weights, for environments without a
    clone."""
    steps: int = 3_000_000
    """Total number of environment steps."""
    n_envs: int | None = None
    """Number of parallel environments. By default a number that suits the algorithm."""
    obs_type: Literal["embedding", "native"] | None = None
    """Observation of a policy without a clone: the world model's embedding, or the environment's own observation. By
    default "native" if the environment has no pictures, else "embedding"."""
    starts: Literal["episode", "any"] = "any"
    """Initial states of rollouts in the world model: "episode" for starts of episodes only, or "any" to take 40 % of
    them from mid-episode."""
    initial_states: Path | None = None
    """File with the initial states, goals and instructions to train on, written by
    `dream_env.initial_states.InitialStates.save`. By default those of the world model. If the file has no mid-episode
    states, add --starts episode."""
    reward: RewardName | None = None
    """Reward in both worlds. By default "energy" if there is a goal picture, minus the mean squared distance between
    the embedding and the goal embedding, else the environment's own. With a clone, "success" is given once, at the end
    of an episode."""
    discount: float | None = None
    """Discount factor when training from a clone. By default 1 for ppo, where the return is the sum over one episode,
    0.99 for the reward "success", and 0.97 for sac, for the environment's own reward and without a time limit."""
    last_step: float | None = None
    """Weight of the reward at the last step of an episode, when training from a clone; all other steps have weight 1.
    By default inf for "success" (only the last step counts); 1 for "progress", the environment's own reward and sac;
    else the number of steps in an episode, so that the end counts as much as all steps before."""
    temperature: float = 1.0
    """Scale of the noise in rollouts of the world model. 1 is the noise that the world model predicts; values above 1
    make its errors harder to exploit (Ha & Schmidhuber 2018, section 4)."""
    kl_coef: float = 0.02
    """Weight of the KL divergence from the clone. Raise it to stay closer to the clone."""
    critic_warmup: int | None = None
    """Training of the critic alone, before the policy changes, when training from a clone: in rollouts for ppo, in
    thousands of updates for sac. By default an eighth of the run, at most 6 rollouts, for ppo, and 2 for sac."""
    rate: float | None = None
    """Learning rate; for ppo the initial one, which decays linearly to 0, because late updates mostly follow noise. By
    default a rate that suits the algorithm and the clone. With ppo and a clone of another kind than "vla", the critic
    uses ten times this rate."""
    validate_every: int = 50_000
    """Environment steps between validations in the real environment. The state of the run is saved at the same time,
    every minute, and when it is interrupted."""
    validation_episodes: int = 30
    """Number of episodes per validation, spread over the tasks; 0 for no validation."""
    snapshots: bool = False
    """Also saves a copy of the policy to snapshots/STEPS at every validation. This gives policies of different quality
    for `python -m agents.fidelity`."""
    select: Literal["last", "physics"] = "last"
    """Policy to keep at the end: the last one, or the best one in validation (physics)."""
    seed: int = 0
    """Seed of weights, actions and environments."""
    compile: bool = False
    """Compiles the world model with `torch.compile`. This takes a minute or two and is worthwhile on a GPU."""
    wandb: bool = False
    """Logs to Weights & Biases in addition to TensorBoard. Configure it by wandb's environment variables, such as
    WANDB_PROJECT and WANDB_MODE=offline. Needs pip install dream_env[wandb]."""
    device: str = "cpu"
    """Device of the networks and the world model. On "cuda", ppo from a clone keeps everything on the GPU and uses
    16,384 environments unless --n-envs is given."""

    def __post_init__(self) -> None:
        """Checks what can be checked without reading files."""
        if isinstance(self.init, str) and self.init.lower() == "none":
            object.__setattr__(self, "init", None)
        check_choice("algo", self.algo, Algorithm)
        check_choice("world", self.world, ("dream", "real"))
        for name in ("steps", "validate_every"):
            check_number(name, getattr(self, name), 1)
        for name in ("temperature", "kl_coef", "validation_episodes", "seed"):
            check_number(name, getattr(self, name))
        if self.discount is not None:
            check_number("discount", self.discount, high=1, beside="None, ")
        for name, least in (("n_envs", 1), ("critic_warmup", 0), ("rate", 0), ("last_step", 0)):
            if getattr(self, name) not in (None, math.inf):
                check_number(name, getattr(self, name), least, beside="None, ")
        for name in ("discount", "last_step"):
            if getattr(self, name) is not None and not self.init:
                raise ValueError(f"{name}={getattr(self, name)} without a clone; accepted: None, or a clone by --init")
        if self.init and self.algo not in CLONE_ALGORITHMS:
            raise ValueError(
                f"algo={self.algo!r} with init={self.init!r}; accepted: {' or '.join(CLONE_ALGORITHMS)} with a clone, "
                "or --init none"
            )
        if self.initial_states and self.world != "dream":
            raise ValueError(
                f"initial_states={self.initial_states} with world='real', which draws its own starts; accepted: None"
            )

    def reward_in(self, goals: bool) -> RewardName:
        """Returns the reward to train with, in a world with or without goals."""
        return self.reward or (DEFAULT_REWARD if goals else "environment")

    def terms(self, horizon: int | None, goals: bool = True) -> Terms:
        """Returns discount and reward weights of a learner that starts from a clone, see `usual_terms`.

        Args:
            horizon: Control steps of an episode; None without a time limit.
            goals: Whether the world has goals.
        """
        usual = usual_terms(self.reward_in(goals), self.algo, horizon)
        return Terms(
            usual.discount if self.discount is None else self.discount,
            usual.last_step if self.last_step is None else self.last_step,
        )

    @property
    def dreams(self) -> int:
        """Number of parallel environments."""
        usual = {"ppo": 256, "sac": 64} if self.init else {"ppo": 16, "a2c": 16}
        many = 16_384 if self.device.startswith("cuda") and self.algo == "ppo" and self.init else 1
        return self.n_envs or max(usual.get(self.algo, 1), many)

    def warmup(self, rollouts: int) -> int:
        """Returns the number of PPO's rollouts that train only the critic."""
        if self.critic_warmup is not None:
            return self.critic_warmup
        return min(WARMUP_MOST, max(round(WARMUP_SHARE * rollouts), int(rollouts > 1)))

    def settings(self, goals: bool = True) -> dict[str, Any]:
        """Returns the settings that cannot change when a run is resumed, as JSON types.

        Args:
            goals: Whether the world has goals, on which the default reward depends.
        """
        free = "out steps validate_every validation_episodes snapshots select compile wandb device".split()
        chosen = {**asdict(self), "reward": self.reward_in(goals)}  # the actual reward, as the default may change
        if self.temperature == 1:  # older runs did not have this setting
            del chosen["temperature"]
        return resolve_paths({key: value for key, value in chosen.items() if key not in free})


RENAMED = {"--anchor": "--kl-coef", "--warmup": "--critic-warmup"}
"""Names of options before version 0.2, and their current names."""
