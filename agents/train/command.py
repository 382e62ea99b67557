"""Trains a policy by reinforcement learning: `python -m agents.train --init unlabelled --out runs/ppo`.

Training runs in a learned world model, on the CPU or a GPU (`--device cuda`), or in the real environment. A clone of
`agents.clone` is fine-tuned by ppo (NICOL's VLA by sac, too); with `--init none`, any algorithm of stable-baselines3
trains a policy from random weights. During training, the policy is validated in the real environment, on seeds that
neither data collection nor `agents.evaluate` use.

Give the same command again to resume a run that was interrupted or killed, or a larger `--steps` to train longer; a
finished run is left as it is. A resumed run starts new episodes, so its policy is not bit-identical to that of an
uninterrupted run. A replay buffer (sac, td3, ddpg, dqn) above 256 MB is not saved; a message says so when the run is
resumed.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from dream_env.agents.nicol.vla import VLA
from dream_env.agents.policies import registry
from dream_env.agents.policies.protocol import Practicable
from dream_env.agents.policies.sb3 import SB3Policy
from dream_env.agents.run.config import check_out, check_settings, resolve_paths, whereabouts
from dream_env.agents.run.interrupts import delayed_interrupt
from dream_env.agents.run.sb3_state import CHECKPOINT, load_algorithm_into
from dream_env.agents.run.wandb_sync import mirrored
from dream_env.agents.run.worlds import make_real, spec_of, tasks_of
from dream_env.agents.train.arguments import Arguments
from dream_env.agents.train.learners import (
    make_env,
    make_model,
    obs_type_of,
    policy_of,
    prepare,
    rollouts,
)
from dream_env.agents.train.validation import Bar, Validation, card, check_finite
from dream_env.checks import check_choice
from dream_env.files import replacing, write_json
from dream_env.initial_states import FILE
from dream_env.nicol.tasks import TASKS
from dream_env.rewards import RewardName
from dream_env.world_models import checkpoint
from dream_env.world_models.precision import check_device


def make_physics(task: str, world_model: str, reward: RewardName | None = None) -> gym.Env:
    """Makes NICOL's physics environment, for validation."""
    return make_real(None, world_model, task=task, reward=reward)


def check(args: Arguments, physics: gym.Env | None) -> None:
    """Checks the arguments before training.

    Raises:
        FileNotFoundError: If the clone or the world model is missing.
        ValueError: If they do not fit each other, or an argument is not accepted.
    """
    clone: Any = registry.load(args.init) if args.init else None
    check_out(args.out, SB3Policy.kind if clone is None else clone.kind, args.init, args.world_model)
    tasks = tasks_of(args.world_model)
    check_choice("task", args.task, (*(TASKS if tasks else ()), "all"))
    if (isinstance(clone, VLA) or registry.is_shipped(args.init)) and not tasks:
        raise ValueError(
            f"init={args.init!r} is a clone of NICOL, and world_model={args.world_model!r} is of "
            f"{spec_of(args.world_model).name}; accepted: --init none, or a "
            "clone by agents.clone --policy transformer"
        )
    if clone is not None:
        known = isinstance(clone, VLA | Practicable)
        if not known or not hasattr(clone.config, "check_encoder"):
            raise ValueError(f"init={args.init!r} is of kind {clone.kind!r}; accepted: a clone by `agents.clone`")
        if args.algo != "ppo" and not isinstance(clone, VLA):
            raise ValueError(f"algo={args.algo!r} with a clone of kind {clone.kind!r}; accepted: ppo")
        clone.config.check_encoder(args.world_model)
    if args.select == "physics" and physics is None:
        raise ValueError("select='physics' needs validation_episodes of 1 or more")


def train(args: Arguments, env: VecEnv, physics: gym.Env | None, progress: bool = True) -> Any:
    """Trains, or resumes training, and saves the policy to `args.out`.

    Args:
        args: See `Arguments`.
        env: Environments to train in.
        physics: Real environment for validation, or None.
        progress: Shows a progress bar.

    Returns:
        The policy that `args.select` names.

    Raises:
        FileNotFoundError: If the clone or the world model is missing.
        KeyboardInterrupt: After Ctrl-C, when the state of the run is saved.
        ValueError: If an argument is not accepted, if `args.out` holds a run with other settings, or something else, or
            if training diverges.
    """
    check(args, physics)
    env = prepare(args, env)
    args.out.mkdir(parents=True, exist_ok=True)
    settings, state = args.out / "settings.json", args.out / CHECKPOINT
    chosen = args.settings(spec_of(args.world_model).goals)
    resumes = state.exists()
    if not resumes and (args.out / "checkpoint.zip").exists():
        raise ValueError(
            f"out={args.out} holds a run of an older version, whose checkpoint.zip is not loaded as it may hold code; "
            "accepted: a new folder"
        )
    if resumes:
        check_settings(args.out, resolve_paths(json.loads(settings.read_text())), chosen)
    model = make_model(args, env)
    if not resumes:
        write_json(settings, chosen)
    elif not load_algorithm_into(model, state):
        print("the replay buffer was too large to be saved; the run resumes with an empty one", file=sys.stderr)
    if said := too_short(args, env):
        print(said, file=sys.stderr)
    model.set_logger(configure(str(args.out / "tensorboard"), ["tensorboard"]))
    validation = Validation(args, physics)
    validation.init_callback(model)
    if (left := args.steps - model.num_timesteps) > 0:
        bar = Bar(args.steps, args.world, hidden=not progress)
        try:
            with delayed_interrupt() as validation.interrupted:
                model.learn(left, CallbackList([validation, bar]), reset_num_timesteps=False)
        except KeyboardInterrupt:
            validation.save_interrupted()
            raise
        except ValueError as error:
            check_finite(args, model, error)
            raise
    validation.measure()
    policy = registry.load(args.out / "best") if args.select == "physics" else policy_of(args, model)
    if args.init and (starts := registry.resolve(args.init) / FILE).is_file():  # a unified policy needs them
        with replacing(args.out / FILE) as part:
            shutil.copyfile(starts, part)
    registry.save(policy, args.out, card(args, validation.history))  # last, as the card says that the run is finished
    return policy


def finished(args: Arguments) -> bool:
    """Returns whether `args.out` holds the policy of this very command, so that nothing has to be built to find out.

    A card is written when a run ends, and holds its command and all its validations.
    """
    names = ("settings.json", "validation.json", checkpoint.CARD, checkpoint.CONFIG, checkpoint.WEIGHTS, CHECKPOINT)
    if not all((args.out / name).is_file() for name in names):
        return False
    settings, history, text = ((args.out / name).read_text(encoding="utf-8") for name in names[:3])
    same = resolve_paths(json.loads(settings)) == args.settings(spec_of(args.world_model).goals)
    return same and text == card(args, json.loads(history))


def too_short(args: Arguments, env: VecEnv) -> str | None:
    """Returns a warning if the run is so short that only the critic is trained; else None."""
    if not args.init or args.algo != "ppo":
        return None
    count = rollouts(args, env)
    warmup = args.warmup(count)
    if warmup < count:
        return None
    return (
        f"steps={args.steps:,}: the first {warmup} rollouts of {env.num_envs} environments train the critic only, and "
        f"the run has {count}; the policy will stay as it is"
    )


def main(args: Arguments) -> None:
    """Runs the command."""
    check_device(args.device)
    torch.set_num_threads(1)
    args = replace(args, init=registry.suiting(args.init, args.world_model))
    args = replace(args, world_model=registry.named_world_model(args.world_model, args.init))
    if finished(args):
        print(f"finished: {whereabouts(args.out)}")
        return
    physics = None
    if args.validation_episodes:
        kwargs: dict[str, Any] = {"obs_type": obs_type_of(args), "reward": args.reward, "task": args.task}
        physics = make_real(args.env, args.world_model, **kwargs)
    with mirrored(args.out, args.settings(), args.wandb):
        train(args, make_env(args), physics)
    print(whereabouts(args.out))
