"""Trains the VLA by reinforcement learning: `python -m agents.train --algo ppo --out runs/ppo`.

Any of stable-baselines3's algorithms below, in the dream or in physics. Meanwhile the policy is
validated in physics, on seeds that neither collection nor `agents.evaluate` use. A killed run goes
on when the same command is given again; a larger `--steps` trains on. Of sac, td3 and ddpg the replay
buffer is not kept: they go on with an empty one.
"""

from __future__ import annotations

import json
from functools import partial
from operator import mul
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import A2C, DDPG, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

import dream_env  # noqa: F401  registers the ids
from dream_env.adapters.sb3 import OUTCOME_DISCOUNT, DreamVecEnv, OutcomeReward
from dream_env.agents.policies import vla as policy
from dream_env.agents.policies.actors import VLAPolicy, VLASACPolicy, VLATD3Policy
from dream_env.agents.policies.object_state import ObjectStateVecEnv, reads_only
from dream_env.agents.policies.ppo import AnchoredPPO
from dream_env.agents.policies.vla import VLA
from dream_env.agents.run import workers as pool
from dream_env.agents.run.config import check_out, check_settings, command_line, placed
from dream_env.agents.train.arguments import MINIBATCHES, VALIDATION_SEED, Arguments
from dream_env.files import replacing, write_json
from dream_env.nicol import real
from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.tasks import TASKS
from dream_env.world_models.precision import check_device

SAC_ANCHOR = 1.0
"""Successes per nat that an `anchor` of 1 costs in sac, whose values are not normalized."""
SAC_REST = 2_000
"""Updates of sac that train a clone's critics only."""
_NOISE = NormalActionNoise(np.zeros(4), np.full(4, 0.17))
_OFF_POLICY: dict[str, Any] = {
    "buffer_size": 50_000,
    "learning_starts": 2_000,
    "batch_size": 256,
    "gradient_steps": 8,
    "gamma": 0.97,
}
ALGORITHMS: dict[str, tuple[Any, Any, int, dict[str, Any]]] = {
    "ppo": (
        AnchoredPPO,
        VLAPolicy,
        256,
        {
            "n_steps": EPISODE_STEPS,
            "batch_size": 512,
            "n_epochs": 2,
            "gamma": 0.97,
            "gae_lambda": 0.95,
            "target_kl": 0.03,
        },
    ),
    "a2c": (A2C, VLAPolicy, 128, {"n_steps": 8, "gamma": 0.97, "gae_lambda": 0.95}),
    "sac": (SAC, VLASACPolicy, 64, _OFF_POLICY),
    "td3": (TD3, VLATD3Policy, 64, {**_OFF_POLICY, "action_noise": _NOISE}),
    "ddpg": (DDPG, VLATD3Policy, 64, {**_OFF_POLICY, "action_noise": _NOISE}),
}
"""Class, policy, number of dreams and arguments of every algorithm."""


def make_env(args: Arguments) -> VecEnv:
    """Makes the environments to train in."""
    kwargs = {"task": args.task, "reward": args.pays, "world_model": args.world_model}
    if args.env == "NicoLDream-v0":
        count = args.n_envs or ALGORITHMS[args.algo][2]
        own: dict[str, Any] = {
            "initial_states": args.initial_states,
            "starts": args.starts,
            "compile": args.compile,
            "device": args.device,
        }
        return DreamVecEnv(count, **own, **kwargs)
    return make_vec_env(
        f"dream_env:{args.env}",  # the id with its package, since a fresh process has not imported it
        args.n_envs or pool.cores(),
        args.seed,
        env_kwargs=kwargs,
        vec_env_cls=SubprocVecEnv,
    )


def prepare(args: Arguments, env: VecEnv) -> VecEnv:
    """Puts around the environments what the learner asks for: what is paid, and what a VLA reads that only reads."""
    if args.outcome:
        env = OutcomeReward(env)
    if args.init and reads_only(policy.load(args.init).config):
        env = ObjectStateVecEnv(env, args.init, args.device)
    return env


def make_physics(task: str, world_model: str) -> gym.Env:
    """Makes the physics that policies are validated in."""
    return real.make(task, world_model=world_model)


def make_model(args: Arguments, env: VecEnv) -> BaseAlgorithm:
    """Makes the algorithm with the clone inside; see `ALGORITHMS`."""
    algorithm, actor, _, kwargs = ALGORITHMS[args.algo]
    if args.algo == "ppo":
        batch = max(kwargs["batch_size"], kwargs["n_steps"] * env.num_envs // MINIBATCHES)
        kwargs = {**kwargs, "batch_size": batch, "anchor": args.anchor, "warmup": args.warmup}
    if args.algo == "a2c":
        kwargs = {**kwargs, "ent_coef": args.anchor}
    clone: dict[str, Any] = {"clone": args.init}
    if args.algo == "sac" and args.init:
        kwargs = {**kwargs, "ent_coef": SAC_ANCHOR * args.anchor, "learning_starts": 0}
        clone["rest"] = SAC_REST
    if args.outcome:
        kwargs = {**kwargs, "gamma": OUTCOME_DISCOUNT}
    return algorithm(
        actor,
        env,
        learning_rate=partial(mul, args.rate) if args.algo == "ppo" else args.rate,  # times the share of steps left
        policy_kwargs=clone,
        seed=args.seed,
        device=args.device,
        **kwargs,
    )


def validate(vla: VLA, env: gym.Env, task: str, episodes: int) -> dict[str, float]:
    """Measures a policy in physics, always on the same seeds.

    Args:
        vla: The policy; its mean action is taken.
        env: `NicoLReal-v0`, or what behaves like it.
        task: Name of a task, or "all" for the tasks in turn.
        episodes: Number of episodes.

    Returns:
        Success rate at the end of the episodes, overall and per task, and the mean final distance.
    """
    tasks = list(TASKS) if task == "all" else [task]
    successes: dict[str, list[bool]] = {}
    distances = []
    for i in range(episodes):
        now = tasks[i % len(tasks)]
        obs, info = env.reset(seed=VALIDATION_SEED + i, options={"task": now})
        for _ in range(EPISODE_STEPS):
            obs, _, _, _, info = env.step(vla.predict(obs)[0])
        successes.setdefault(now, []).append(bool(info["is_success"]))
        distances.append(info["distance"])
    rates = {f"success_{name}": float(np.mean(each)) for name, each in successes.items()}
    overall = float(np.mean([one for each in successes.values() for one in each]))
    return {"success": overall, **rates, "distance": float(np.mean(distances))}


class Validation(BaseCallback):
    """Every so often, between two updates: validates in physics, keeps the best, saves the run.

    Args:
        args: See `Arguments`.
        env: Physics to validate in; None only saves.
    """

    def __init__(self, args: Arguments, env: gym.Env | None) -> None:
        super().__init__()
        self.args, self.env = args, env
        self.file = args.out / "validation.json"
        self.history: list[dict[str, float]] = []
        if self.file.exists():
            self.history = json.loads(self.file.read_text())

    def _on_rollout_start(self) -> None:
        due = self.model.num_timesteps // self.args.validate_every
        last = self.history[-1]["steps"] // self.args.validate_every if self.history else -1
        if due > last:
            self.measure()

    def _on_step(self) -> bool:
        return True

    def measure(self) -> None:
        """Validates and saves now, once per number of steps."""
        steps = self.model.num_timesteps
        if self.history and self.history[-1]["steps"] == steps:
            if self.env is None or "success" in self.history[-1]:
                return
            self.history.pop()  # saved by a command without validation, which this one asks for
        actor: Any = self.model.policy
        vla = actor.vla()
        entry: dict[str, float] = {"steps": steps}
        if self.env is not None:
            entry |= validate(vla, self.env, self.args.task, self.args.validation_episodes)
            for name, value in entry.items():
                self.logger.record(f"physics/{name}", value)
            self.logger.dump(steps)
            if entry["success"] > max([past.get("success", -1.0) for past in self.history], default=-1.0):
                policy.save(vla, self.args.out / "best", _card(self.args, [entry]))
        self.history.append(entry)
        if self.args.snapshots:
            policy.save(vla, self.args.out / "snapshots" / f"{steps:09d}", _card(self.args, [entry]))
        with replacing(self.args.out / "checkpoint.zip") as part:
            self.model.save(part)
        write_json(self.file, self.history)


def train(args: Arguments, env: VecEnv, physics: gym.Env | None, progress: bool = True) -> VLA:
    """Trains, or goes on training, and writes the policy into `args.out`.

    Args:
        args: See `Arguments`.
        env: Environments to train in.
        physics: `NicoLReal-v0` to validate in, or None.
        progress: Shows a progress bar.

    Returns:
        The policy that `args.select` names.

    Raises:
        ValueError: If an argument is not accepted, or `args.out` holds a run with other settings, or something else.
    """
    check_out(args.out, VLA.kind, args.init, args.world_model)
    if args.init:
        policy.load(args.init).config.check_eyes(args.world_model)
    if args.select == "physics" and physics is None:
        raise ValueError("select='physics' needs validation_episodes of 1 or more")
    env = prepare(args, env)
    args.out.mkdir(parents=True, exist_ok=True)
    settings, checkpoint = args.out / "settings.json", args.out / "checkpoint.zip"
    if checkpoint.exists():
        check_settings(args.out, placed(json.loads(settings.read_text())), args.settings())
        model = ALGORITHMS[args.algo][0].load(checkpoint, env=env, device=args.device)
        model.set_random_seed(args.seed + model.num_timesteps)  # loading went back to the first starts and noise
    else:
        model = make_model(args, env)
        write_json(settings, args.settings())
    model.set_logger(configure(str(args.out / "tensorboard"), ["tensorboard"]))
    validation = Validation(args, physics)
    validation.init_callback(model)
    if (left := args.steps - model.num_timesteps) > 0:
        model.learn(left, validation, reset_num_timesteps=False, progress_bar=progress)
    validation.measure()
    vla = model.policy.vla()
    if args.select == "physics":
        vla = policy.load(args.out / "best")
    policy.save(vla, args.out, _card(args, validation.history))
    return vla


def _card(args: Arguments, history: list[dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for entry in history for name in entry))
    rows = [[f"{entry[n]:g}" if n in entry else "" for n in names] for entry in history]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])
    return (
        f"# VLA trained by {args.algo} in {args.env}\n\n"
        f"`{command_line('train', args)}`\n\n"
        f"Task {args.task}, from clone `{args.init}`, world model `{args.world_model}`, reward "
        f"{args.pays}, seed {args.seed}. Kept: {args.select}.\n\n"
        f"Validation in physics, {args.validation_episodes} episodes from seed {VALIDATION_SEED}:\n\n"
        f"{table}\n"
    )


def main(args: Arguments) -> None:
    """Runs the command line."""
    check_device(args.device)
    torch.set_num_threads(1)
    train(args, make_env(args), make_physics(args.task, args.world_model) if args.validation_episodes else None)
    print(f"policy: {args.out}   curves: tensorboard --logdir {args.out / 'tensorboard'}")
