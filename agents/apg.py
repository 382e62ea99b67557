"""Trains the VLA by the dream's own gradients: `python -m agents.apg --out runs/apg`.

A dream is a differentiable function of the actions in it. So the policy can follow the gradient of what a whole dream
earns, instead of guessing it from trials (analytic policy gradients: Freeman et al. 2021, "Brax", section 4; Hafner et
al. 2020, "Dream to control", section 3). A VLA that reads has no gradient through its reader: of what an action
changes, its later actions answer to the set-point only. A killed run goes on when the same command is given again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from dream_env.agents.fit.trainer import Run, Stage
from dream_env.agents.policies import vla as policy
from dream_env.agents.policies.vla import VLA
from dream_env.agents.run.config import check_out, command_line
from dream_env.agents.train import VALIDATION_SEED, check_device, make_physics, validate
from dream_env.checks import check_number
from dream_env.files import write_json
from dream_env.nicol.constants import EPISODE_STEPS, HOLD_STEPS
from dream_env.nicol.tasks import TaskName
from dream_env.tensors import TensorDreams

UNSURE = 1e-3
"""Smallest probability of success that the loss tells from 0."""


@dataclass(frozen=True)
class Arguments:
    """Trains the VLA by backpropagation through dreams."""

    out: Path
    """Folder of the policy, of the curves (tensorboard/) and the run's state (last/)."""
    init: str = "default"
    """Clone to start from and to stay near: a folder, or "default" or "few", which are shipped."""
    world_model: str = "default"
    """Checkpoint of the world model."""
    task: TaskName = "all"
    """Task to train on, "all" for a random one in each episode."""
    updates: int = 300
    """Number of updates, each on a batch of whole episodes."""
    batch: int = 64
    """Dreams per update."""
    rate: float = 5e-4
    """Peak of the learning rate."""
    anchor: float = 0.2
    """Weight of the squared distance to the clone's actions, summed over the four of them."""
    success: float = 0.2
    """Weight of the logarithm of the predicted success at the end, beside the distance to the goal."""
    starts: float = 0.4
    """Share of dreams that begin in mid-episode."""
    temperature: float = 1.0
    """How much noise decides in the dream what could go either way; at 0 what is likeliest always happens."""
    action_noise: float = 0.1
    """Standard deviation of the noise on actions."""
    token_noise: float = 0.1
    """Standard deviation of the noise on the tokens that the policy sees, whose own is about 1."""
    max_gradient: float = 0.3
    """Largest norm of the gradient that one dream sends back through one of its steps; without this a few dreams that
    hang on a hair rule every update."""
    validation_episodes: int = 30
    """Physics episodes at every save of the run's state, over the tasks in turn; 0 for none."""
    seed: int = 0
    """Seed of starts, noise and noise."""
    device: str = "cpu"
    """Device of policy and dreams."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        for name in ("updates", "batch"):
            check_number(name, getattr(self, name), 1)
        for name in ("rate", "max_gradient"):  # nothing is learned at 0
            check_number(name, getattr(self, name), 1e-9)
        for name in ("anchor", "success", "temperature", "action_noise", "token_noise", "validation_episodes", "seed"):
            check_number(name, getattr(self, name))
        check_number("starts", self.starts, high=1)

    def settings(self) -> dict[str, Any]:
        """Returns what a run cannot change on its way, JSON-able."""
        free = ("out", "validation_episodes", "device")
        return policy.placed({key: value for key, value in asdict(self).items() if key not in free})


def make_dreams(args: Arguments) -> TensorDreams:
    """Makes the dreams that the policy is trained in."""
    return TensorDreams(
        args.batch,
        args.task,
        max_episode_steps=EPISODE_STEPS + 1,  # the last state of a dream is looked at, not left for a new one
        differentiable=True,
        reward="metric",
        world_model=args.world_model,
        starts=args.starts,
        temperature=args.temperature,
        device=args.device,
    )


def dream_loss(args: Arguments, vla: VLA, clone: VLA, dreams: TensorDreams, seed: int) -> Tensor:
    """Loss of one batch of whole dreams under the policy.

    Distances to the goal count the more the later they are: the end is what is asked for, and a policy that is paid for
    haste grasps before it is there.

    Args:
        args: See `Arguments`.
        vla: The policy.
        clone: The policy it stays near.
        dreams: Differentiable, with the reward "metric".
        seed: Seed of starts, noise and noise.

    Returns:
        The loss, a scalar with gradients of every action on the policy's weights.
    """
    noise = torch.Generator(dreams.device).manual_seed(seed)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=noise, device=like.device)

    obs, _ = dreams.reset(seed=seed)
    total = torch.zeros((), device=dreams.device)
    for step in range(EPISODE_STEPS):
        seen = obs | {"embedding": obs["embedding"] + args.token_noise * random(obs["embedding"])}
        action = vla(seen)
        with torch.no_grad():
            usual = clone(seen)
        away = (action - usual).square().sum(1).mean()
        obs, reward, _, _, info = dreams.step(action + args.action_noise * random(action))
        if step < EPISODE_STEPS - 1:
            limit_gradient(dreams, args.max_gradient / args.batch)
        total = total + args.anchor * away - 2 * step / EPISODE_STEPS * reward.mean() / 4
        if step >= EPISODE_STEPS - 2 * HOLD_STEPS:
            sure = (info["success_probability"] + UNSURE).log().mean()
            total = total - args.success * EPISODE_STEPS / (2 * HOLD_STEPS) * sure
    return total / EPISODE_STEPS


def limit_gradient(dreams: TensorDreams, largest: float) -> None:
    """Shortens the gradient that comes back to the present state of each dream to a norm of at most `largest`."""

    def shorten(gradient: Tensor) -> Tensor:
        norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        return gradient * (largest / norm).clamp_max(1.0).view(-1, *[1] * (gradient.dim() - 1))

    for part in (dreams.state.tokens, dreams.state.situation):
        if part is not None and part.requires_grad:
            part.register_hook(shorten)


def train(args: Arguments) -> dict[str, float]:
    """Trains, or goes on training, writes the policy into `args.out`, and returns what physics says of it.

    Raises:
        FileNotFoundError: If clone or world model are missing.
        ValueError: If they do not fit each other, or `args.out` holds a run with other settings, or something else.
    """
    check_out(args.out, VLA.kind, args.init, args.world_model)
    torch.set_num_threads(1)
    vla, clone = policy.load(args.init), policy.load(args.init, args.device).requires_grad_(False)
    vla.config.check_eyes(args.world_model)
    dreams = make_dreams(args)
    physics = make_physics(args.task, args.world_model) if args.validation_episodes else None
    figures: dict[str, float] = {}

    def loss(generator: torch.Generator, progress: float) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=generator))
        return dream_loss(args, vla, clone, dreams, seed)

    def report() -> dict[str, Any]:
        if physics is not None:
            figures.update(validate(vla, physics, args.task, args.validation_episodes))
        return dict(figures)

    def write(module: nn.Module, folder: Path) -> None:
        policy.save(vla, folder, "# VLA in training\n\nThe latest state of an unfinished `agents.apg`.\n")

    run = Run(vla, args.out, args.settings(), seed=args.seed, device=args.device, muon=False, write=write)
    run.train(Stage("apg", vla, loss, args.updates, args.rate, average=0.98, report=report))
    vla.eval()
    if not figures:
        report()  # the run was at its end before, and had nothing left to measure
    policy.save(vla, args.out, _card(args, figures))
    seconds = {"seconds": run.seconds["apg"]}
    write_json(args.out / "figures.json", figures | seconds)
    return figures


def _card(args: Arguments, figures: dict[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    return (
        f"# VLA trained by the gradients of dreams\n\n`{command_line('apg', args)}`\n\n"
        f"Task {args.task}, from clone `{args.init}`, world model `{args.world_model}`, {args.updates} updates of "
        f"{args.batch} dreams, seed {args.seed}.\n\n"
        f"Validation in physics, {args.validation_episodes} episodes from seed {VALIDATION_SEED}:\n\n"
        f"| | |\n|---|---|\n{rows}\n"
    )


def main() -> None:
    """Runs the command line."""
    args = tyro.cli(Arguments, prog="python -m agents.apg", description=__doc__)
    check_device(args.device)
    for name, value in train(args).items():
        print(f"{name.replace('_', ' ')}: {value:.3f}")
    print(f"policy: {args.out}   curves: tensorboard --logdir {args.out / 'tensorboard'}")


if __name__ == "__main__":
    main()
