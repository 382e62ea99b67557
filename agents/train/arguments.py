"""What `agents.train` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.run.config import placed
from dream_env.checks import check_choice, check_number
from dream_env.nicol.tasks import TaskName
from dream_env.rewards import DEFAULT_REWARD, RewardName

VALIDATION_SEED = 90_000
"""Physics seeds from here on are for validation; those of `agents.evaluate` begin at 100,000."""
MINIBATCHES = 12
"""Of a rollout of ppo, at most: what more dreams add makes them larger, which a GPU likes."""


Algorithm = Literal["ppo", "a2c", "sac", "td3", "ddpg"]


@dataclass(frozen=True)
class Arguments:
    """Trains the VLA's action head by reinforcement learning."""

    out: Path
    """Folder of the policy, of the curves (tensorboard/) and the run's state (checkpoint.zip)."""
    algo: Algorithm = "ppo"
    """Algorithm; ppo is PPO anchored to the clone."""
    env: Literal["NicoLDream-v0", "NicoLReal-v0"] = "NicoLDream-v0"
    """World to train in."""
    task: TaskName = "all"
    """Task to train on, "all" for a random one in each episode."""
    init: str | None = "default"
    """Clone to start from: a folder, or "default" or "few", which are shipped and come from 100 and 5 demonstrations
    of each task; None starts at random."""
    steps: int = 3_000_000
    """Control steps to train for."""
    n_envs: int | None = None
    """Environments side by side; None takes what suits the algorithm, in physics one per core."""
    world_model: str = "default"
    """Checkpoint of the world model."""
    starts: Literal["episode", "any"] = "any"
    """Where dreams begin: at episodes' starts, or 40 % of them in mid-episode."""
    initial_states: Path | None = None
    """Starts, goal pictures and sentences to practice, a file of `dream_env.initial_states.InitialStates.save`; None
    takes those of the world model. Where it holds none in mid-episode, --starts episode."""
    reward: RewardName | None = None
    """Reward of both worlds. None takes "success" with a clone, who has it often enough to learn from, and without one
    the dense default of the worlds. ppo, a2c and sac are paid for success at the end of an episode only, see
    `dream_env.adapters.sb3.OutcomeReward`."""
    anchor: float = 0.02
    """Strength of the KL divergence to the clone, for ppo, a2c and sac; nothing without a clone."""
    warmup: int = 6
    """Rollouts that train ppo's critic only."""
    rate: float = 3e-4
    """Learning rate. Of ppo at first: it falls to zero, as late updates follow noise more than merit."""
    validate_every: int = 50_000
    """Control steps between two validations in physics, which are saves of the run's state too."""
    validation_episodes: int = 30
    """Physics episodes per validation, over the tasks in turn; 0 for none."""
    snapshots: bool = False
    """Keeps the policy of every save as well, in snapshots/STEPS: policies of different quality, for
    `python -m agents.fidelity`."""
    select: Literal["last", "physics"] = "last"
    """Which policy is kept: the last, or the one with the most success in validation."""
    seed: int = 0
    """Seed of weights, actions and environments."""
    compile: bool = False
    """Dreams through `torch.compile`, which takes a minute or two: pays on a GPU."""
    device: str = "cpu"
    """Device of the networks, and of the dreams."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        check_choice("algo", self.algo, Algorithm)
        for name in ("steps", "validate_every"):
            check_number(name, getattr(self, name), 1)
        for name in ("anchor", "warmup", "rate", "validation_episodes", "seed"):
            check_number(name, getattr(self, name))
        if self.n_envs is not None:
            check_number("n_envs", self.n_envs, 1, beside="None, ")
        if self.initial_states and self.env != "NicoLDream-v0":
            raise ValueError(
                f"initial_states={self.initial_states} with env={self.env}, which draws its own starts; accepted: None"
            )

    @property
    def pays(self) -> RewardName:
        """The reward that is taken."""
        return self.reward or ("success" if self.init else DEFAULT_REWARD)

    @property
    def outcome(self) -> bool:
        """Whether success is paid once, at the end of an episode, see `OutcomeReward`."""
        return self.pays == "success" and self.algo in ("ppo", "a2c", "sac")

    def settings(self) -> dict[str, Any]:
        """Returns what a run cannot change on its way, JSON-able."""
        free = ("out", "steps", "validate_every", "validation_episodes", "snapshots", "select", "compile", "device")
        return placed({key: value for key, value in asdict(self).items() if key not in free})
