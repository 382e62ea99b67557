"""Practices the VLA in dreams that never leave a GPU: `python -m agents.ppo_gpu --out runs/gpu`.

What `agents.train --algo ppo` does (PPO anchored to the clone, paid for success once, at the end of an episode), with
the PPO of skrl and tens of thousands of dreams side by side: a minute is tens of millions of steps. Wants
`pip install -c constraints.txt -e ".[skrl]"`. A killed run goes on when the same command is given again.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from tqdm import tqdm

from dream_env.adapters.sb3 import OUTCOME_DISCOUNT
from dream_env.adapters.skrl import SkrlDreams
from dream_env.agents.policies import vla as policy
from dream_env.agents.policies.critic import GoalTrunk
from dream_env.agents.policies.vla import VLA
from dream_env.agents.run.config import check_out, check_settings, command_line
from dream_env.agents.train import ALGORITHMS, MINIBATCHES, VALIDATION_SEED, check_device, make_physics, validate
from dream_env.checks import check_number
from dream_env.files import replacing, write_json
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.tasks import TaskName

try:
    from skrl.agents.torch.ppo import PPO
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
    from skrl.trainers.torch import SequentialTrainer
    from skrl.utils.spaces.torch import unflatten_tensorized_space
except ImportError as error:
    raise ImportError('agents.ppo_gpu needs skrl: pip install -c constraints.txt -e ".[skrl]"') from error

SAVE_EVERY = 20
"""Rollouts between two saves of the run."""


@dataclass(frozen=True)
class Arguments:
    """Trains the VLA's action head by PPO on a GPU, from the dream to the update."""

    out: Path
    """Folder of the policy, of curve and figures (curve.json, figures.json) and the run's state (checkpoint.pt)."""
    init: str = "default"
    """Clone to start from and to stay near: a folder, or "default" or "few", which are shipped."""
    world_model: str = "default"
    """Checkpoint of the world model."""
    task: TaskName = "all"
    """Task to train on, "all" for a random one in each episode."""
    steps: int = 50_000_000
    """Control steps to train for, rounded up to whole episodes of all dreams."""
    n_envs: int = 16_384
    """Dreams side by side."""
    starts: Literal["episode", "any"] = "any"
    """Where dreams begin: at episodes' starts, or 40 % of them in mid-episode."""
    anchor: float = 0.02
    """Strength of the KL divergence to the clone, in standard deviations of the advantage per nat."""
    warmup: int = 6
    """Rollouts that train the critic only."""
    mini_batches: int = MINIBATCHES
    """Updates of each of the two epochs on a rollout."""
    rate: float = 3e-4
    """Learning rate at first; it falls to zero, as in `agents.train`."""
    validation_episodes: int = 30
    """Physics episodes in the end, over the tasks in turn; 0 for none."""
    seed: int = 0
    """Seed of weights, actions and dreams."""
    device: str = "cuda"
    """Device of everything."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        for name in ("steps", "n_envs", "mini_batches"):
            check_number(name, getattr(self, name), 1)
        for name in ("anchor", "warmup", "rate", "validation_episodes", "seed"):
            check_number(name, getattr(self, name))

    def settings(self) -> dict[str, Any]:
        """Returns what a run cannot change on its way, JSON-able."""
        free = ("out", "steps", "validation_episodes", "device")
        return policy.placed({key: value for key, value in asdict(self).items() if key not in free})


class PaidDreams(SkrlDreams):
    """Dreams that pay for success once, at the end of an episode, as `dream_env.adapters.sb3.OutcomeReward` does."""

    share: Tensor
    """Share of the dreams in success; after a rollout, at whose end all of them end, what was paid."""

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Predicts one control step of every dream, see `SkrlDreams.step`."""
        obs, _, ends, never, info = super().step(actions)
        paid = info["is_success"][:, None] & ends
        self.share = info["episode"]["is_success"]
        return obs, paid.float(), ends, never, info


class Actor(GaussianMixin, Model):
    """The VLA as skrl's policy, whose entropy is minus the KL divergence to its clone, see `VLAPolicy`."""

    def __init__(self, vla: VLA, clone: VLA, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self)
        self.vla, self.clone = vla, clone
        self.log_std: Tensor
        self.register_buffer("log_std", torch.full((self.num_actions,), math.log(vla.config.std), device=self.device))

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
        """Gives mean actions `(B, 4)`."""
        self._seen = unflatten_tensorized_space(self.observation_space, inputs["observations"])
        return self.vla(self._seen), {"log_std": self.log_std}

    def get_entropy(self, *, role: str = "") -> Tensor:
        """Gives minus the divergence `(B, 1)` to the clone, of the observations that were acted on last."""
        now = self.distribution(role=role)
        return -kl_divergence(now, Normal(self.clone(self._seen), now.stddev)).sum(-1, keepdim=True)


class Critic(DeterministicMixin, Model):
    """Values of observations, told by a trunk that sees the goal."""

    def __init__(self, vla: VLA, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        trunk, hidden = GoalTrunk(spaces["observation_space"], vla.config), vla.config.hidden
        trunk.ground(vla.trunk)
        self.value = nn.Sequential(trunk, nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def compute(self, inputs: dict[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:
        """Gives values `(B, 1)`."""
        return self.value(unflatten_tensorized_space(self.observation_space, inputs["observations"])), {}


def make_agent(args: Arguments, dreams: PaidDreams) -> tuple[PPO, VLA]:
    """Makes skrl's PPO, and the VLA that it trains."""
    vla, clone = (policy.load(args.init, args.device) for _ in range(2))
    spaces = {
        "observation_space": dreams.observation_space,
        "action_space": dreams.action_space,
        "device": args.device,
    }
    actor, recipe = Actor(vla, clone.requires_grad_(False), **spaces), ALGORITHMS["ppo"][3]
    config = {
        "rollouts": EPISODE_STEPS,
        "learning_epochs": recipe["n_epochs"],
        "mini_batches": args.mini_batches,
        "discount_factor": OUTCOME_DISCOUNT,
        "gae_lambda": recipe["gae_lambda"],
        "learning_rate": args.rate,
        "entropy_loss_scale": args.anchor,
        "value_loss_scale": 0.5,
        "value_clip": 0.0,
        "kl_threshold": 1.5 * recipe["target_kl"],  # as Stable-Baselines3 takes it
        "experiment": {"write_interval": 0, "checkpoint_interval": 0},
    }
    memory = RandomMemory(memory_size=EPISODE_STEPS, num_envs=args.n_envs, device=args.device)
    models = {"policy": actor, "value": Critic(vla, **spaces).to(args.device)}
    return PPO(models=models, memory=memory, cfg=config, **spaces), vla


def make_trainer(args: Arguments) -> tuple[SequentialTrainer, VLA]:
    """Makes the dreams and what practices in them, an episode of all dreams and the updates at a call; and the VLA."""
    torch.manual_seed(args.seed)
    kwargs = {"reward": "success", "world_model": args.world_model, "starts": args.starts, "seed": args.seed}
    dreams = PaidDreams(args.n_envs, args.task, device=args.device, **kwargs)
    agent, vla = make_agent(args, dreams)
    silent = {"headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    return SequentialTrainer(env=dreams, agents=agent, cfg={"timesteps": EPISODE_STEPS, **silent}), vla


def train(args: Arguments, progress: bool = True) -> dict[str, float]:
    """Trains, or goes on training, and writes the policy into `args.out`.

    Returns:
        The last share of successes in the dream, steps and seconds, and what physics says.

    Raises:
        FileNotFoundError: If clone or world model are missing.
        ValueError: If they do not fit each other, or `args.out` holds a run with other settings, or something else.
    """
    check_out(args.out, VLA.kind, args.init, args.world_model)
    policy.load(args.init).config.check_eyes(args.world_model)
    trainer, vla = make_trainer(args)
    dreams, agent = trainer.env, trainer.agents
    if curve := _begin(args, agent):
        torch.manual_seed(args.seed + curve[-1]["steps"])  # not the starts and the noise of the beginning once more
        dreams.dreams.reset(seed=args.seed + int(curve[-1]["steps"]))
    rollout = args.n_envs * EPISODE_STEPS
    count = -(-args.steps // rollout)
    with tqdm(total=count * rollout, unit="step", unit_scale=True, disable=not progress) as bar:
        bar.update(curve[-1]["steps"] if curve else 0)
        while len(curve) < count:
            began = time.monotonic()
            vla.requires_grad_(len(curve) >= args.warmup)
            for group in agent.optimizer.param_groups:
                group["lr"] = args.rate * (1 - len(curve) / count)
            trainer.train()
            share, steps = float(dreams.share), (len(curve) + 1) * rollout
            curve.append({"steps": steps, "success": share, "seconds": time.monotonic() - began})
            bar.set_postfix_str(f"success in the dream {share:.3f}")
            bar.update(rollout)
            if len(curve) % SAVE_EVERY == 0 or len(curve) == count:
                _save(args, agent, curve)
    vla = vla.cpu().eval()
    steps, seconds = rollout * len(curve), sum(each["seconds"] for each in curve)
    figures = {"dream": curve[-1]["success"], "steps": steps, "seconds": seconds, "steps_per_s": steps / seconds}
    if args.validation_episodes:
        physics = make_physics(args.task, args.world_model)
        figures |= validate(vla, physics, args.task, args.validation_episodes)
    policy.save(vla, args.out, _card(args, figures))
    write_json(args.out / "figures.json", figures)
    return figures


def _begin(args: Arguments, agent: PPO) -> list[dict[str, float]]:
    """Goes back to where a run in the folder was; returns its curve."""
    settings, checkpoint = args.out / "settings.json", args.out / "checkpoint.pt"
    if not checkpoint.exists():
        write_json(settings, args.settings())
        return []
    check_settings(args.out, policy.placed(json.loads(settings.read_text())), args.settings())
    agent.load(str(checkpoint))
    curve = json.loads((args.out / "curve.json").read_text())
    return curve[: agent.optimizer.param_groups[0].get("rollouts", len(curve))]


def _save(args: Arguments, agent: PPO, curve: list[dict[str, float]]) -> None:
    agent.optimizer.param_groups[0]["rollouts"] = len(curve)  # the curve is ahead of it after a kill between the files
    with replacing(args.out / "checkpoint.pt") as part:
        agent.save(str(part))
        write_json(args.out / "curve.json", curve)


def _card(args: Arguments, figures: dict[str, float]) -> str:
    rows = "\n".join(f"| {name} | {_figure(value)} |" for name, value in figures.items())
    return (
        f"# VLA trained by skrl's PPO in the dream\n\n`{command_line('ppo_gpu', args)}`\n\n"
        f"Task {args.task}, from clone `{args.init}`, world model `{args.world_model}`, {args.n_envs} dreams, seed "
        f"{args.seed}.\n\nSuccess in the last dreams, and in {args.validation_episodes} episodes of physics from seed "
        f"{VALIDATION_SEED}:\n\n| | |\n|---|---|\n{rows}\n"
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"


def main() -> None:
    """Runs the command line."""
    args = tyro.cli(Arguments, prog="python -m agents.ppo_gpu", description=__doc__)
    check_device(args.device)
    for name, value in train(args).items():
        print(f"{name.replace('_', ' ')}: {_figure(value)}")
    print(f"policy: {args.out}")


if __name__ == "__main__":
    main()
