"""What `agents.train` can be told."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.run.config import resolve_paths
from dream_env.checks import check_choice, check_number
from dream_env.rewards import DEFAULT_REWARD, OUTCOME, Payment, RewardName

VALIDATION_SEED = 90_000
"""Real seeds from here on are for validation; those of `agents.evaluate` begin at 100,000."""
Algorithm = Literal["ppo", "sac", "td3", "a2c", "ddpg", "dqn"]
CLONE_ALGORITHMS = ("ppo", "sac")
"""Algorithms that start from a clone, and stay near to it."""
WARMUP_SHARE, WARMUP_MOST = 1 / 8, 6
"""Share of ppo's rollouts that train the critic only, and their number at most."""


@dataclass(frozen=True)
class Terms:
    """On which terms a learner that starts from a clone is paid.

    Attributes:
        discount: Of what is paid later. With 1 an episode is all there is, and "progress" sums to the fall of the
            distance over it.
        last_step: Weight of the reward of an episode's last step, where any other has 1; infinity for it alone.
    """

    discount: float
    last_step: float = 1.0

    @property
    def payment(self) -> Payment:
        """Which steps are paid; what would follow after the time limit is only where steps are alike and discounted."""
        if math.isinf(self.last_step):
            return OUTCOME
        return Payment(1.0, self.last_step, beyond=self.discount < 1 and self.last_step == 1)


DIFFERENCES = ("progress", "metric_progress")
"""Rewards that are paid for the difference that a step makes; others are paid for where it leads to."""


def usual_terms(reward: RewardName, algo: Algorithm, horizon: int | None) -> Terms:
    """Returns the terms that pay, by the table of `agents.studies.practice_rewards`.

    Args:
        reward: The reward.
        algo: The algorithm.
        horizon: Control steps of an episode; None where nothing ends it.
    """
    if reward == "success":
        return Terms(0.99, math.inf)
    if algo == "sac" or reward == "environment" or horizon is None:  # sac's critic is told of single steps alone
        return Terms(0.97)
    return Terms(1.0, 1.0 if reward in DIFFERENCES else float(horizon))


@dataclass(frozen=True)
class Arguments:
    """Trains a policy by reinforcement learning, in a learned world model or in the real world."""

    out: Path
    """Folder of the policy, of tensorboard's curves, and of the run's state."""
    algo: Algorithm = "ppo"
    """Algorithm. ppo and sac start from a clone and stay near to it; --init none takes stable-baselines3's own."""
    world_model: str = "default"
    """Checkpoint of the world model: a folder, or "default" for NICOL's, which is shipped."""
    world: Literal["dream", "real"] = "dream"
    """World to train in."""
    env: str | None = None
    """Id of the real environment, in which policies are validated; None takes the one that the world model knows."""
    task: str = "all"
    """Task to train on, "all" for a random one in each episode."""
    init: str | None = "default"
    """Clone to start from: a folder, or "default" or "bc5", which are shipped and come from 100 and 5 demonstrations of
    each task. "none" starts at random, with a policy of stable-baselines3: the only way for robots without a clone."""
    steps: int = 3_000_000
    """Control steps to train for."""
    n_envs: int | None = None
    """Environments side by side; None takes what suits the algorithm."""
    obs_type: Literal["embedding", "native"] | None = None
    """What a policy without a clone sees: the world model's embedding, or what the environment shows. None takes
    "native" where that is numbers only."""
    starts: Literal["episode", "any"] = "any"
    """Where dreams begin: at episodes' starts, or 40 % of them in mid-episode."""
    initial_states: Path | None = None
    """Starts, goals and sentences to practice, a file of `dream_env.initial_states.InitialStates.save`; None takes
    those of the world model. Where it holds none in mid-episode, --starts episode."""
    reward: RewardName | None = None
    """Reward of both worlds. None takes the world's own, which is "energy" where there is a goal picture: minus the
    mean squared distance of the embedding to the goal's. With a clone, "success" is paid once, at an episode's end."""
    discount: float | None = None
    """Discount of what is paid later, beside a clone; None takes what suits the reward, see `usual_terms`: of ppo 1, as
    an episode is all there is, and 0.99 for "success"."""
    last_step: float | None = None
    """Weight of the reward of an episode's last step beside a clone, where any other has 1. None takes what suits the
    reward: of ppo the steps of an episode, so that the end counts as much as the way there; 1 for "progress", which
    is paid for the difference that a step makes; and inf, the last step alone, for "success"."""
    temperature: float = 1.0
    """How far noise leads dreams from what is likeliest: at 1 as the world model believes; above 1 they are harder to
    cheat (Ha & Schmidhuber 2018, section 4)."""
    kl_coef: float = 0.02
    """Weight of the KL divergence to the clone."""
    critic_warmup: int | None = None
    """Rollouts of ppo, or updates of sac in thousands, that train the critic only, beside a clone. None takes an eighth
    of the run, at most 6 rollouts; 2 of sac."""
    rate: float | None = None
    """Learning rate, for ppo at first: it falls to zero, as late updates follow noise more than merit. None takes what
    suits algorithm and clone."""
    validate_every: int = 50_000
    """Control steps between two validations in the real world, which are saves of the run's state too."""
    validation_episodes: int = 30
    """Real episodes per validation, over the tasks in turn; 0 for none."""
    snapshots: bool = False
    """Keeps the policy of every save as well, in snapshots/STEPS: policies of different quality, for
    `python -m agents.fidelity`."""
    select: Literal["last", "physics"] = "last"
    """Which policy is kept: the last, or the best in validation."""
    seed: int = 0
    """Seed of weights, actions and environments."""
    compile: bool = False
    """Dreams through `torch.compile`, which takes a minute or two: pays on a GPU."""
    wandb: bool = False
    """Mirrors the curves to Weights & Biases, beside TensorBoard; WANDB_PROJECT, WANDB_MODE=offline and wandb's other
    variables hold. Needs pip install dream_env[wandb]."""
    device: str = "cpu"
    """Device of networks and dreams. On "cuda" a clone's ppo leaves all of it there, with 16,384 dreams unless --n-envs
    says else."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
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

    @property
    def chosen_reward(self) -> RewardName | None:
        """The reward that is taken; None for the world's own, which without a goal picture is the environment's."""
        return self.reward or (DEFAULT_REWARD if self.init else None)

    def terms(self, horizon: int | None) -> Terms:
        """Returns on which terms a learner that starts from a clone is paid, see `usual_terms`."""
        usual = usual_terms(self.reward or DEFAULT_REWARD, self.algo, horizon)
        return Terms(
            usual.discount if self.discount is None else self.discount,
            usual.last_step if self.last_step is None else self.last_step,
        )

    @property
    def dreams(self) -> int:
        """Number of environments side by side."""
        usual = {"ppo": 256, "sac": 64} if self.init else {"ppo": 16, "a2c": 16}
        many = 16_384 if self.device.startswith("cuda") and self.algo == "ppo" and self.init else 1
        return self.n_envs or max(usual.get(self.algo, 1), many)

    def warmup(self, rollouts: int) -> int:
        """Returns how many of ppo's rollouts train the critic only."""
        if self.critic_warmup is not None:
            return self.critic_warmup
        return min(WARMUP_MOST, max(round(WARMUP_SHARE * rollouts), int(rollouts > 1)))

    def settings(self) -> dict[str, Any]:
        """Returns what a run cannot change on its way, JSON-able."""
        free = "out steps validate_every validation_episodes snapshots select compile wandb device".split()
        chosen = {**asdict(self), "reward": self.chosen_reward}  # so that a run of another default is not gone on with
        if self.temperature == 1:  # which older runs have not been asked for
            del chosen["temperature"]
        return resolve_paths({key: value for key, value in chosen.items() if key not in free})


RENAMED = {"--anchor": "--kl-coef", "--warmup": "--critic-warmup"}
"""Options of before version 0.2, and what they are called now."""
