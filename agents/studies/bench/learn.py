"""Measurements of `agents.studies.bench` with a learner: practice, acting, planning, fitting."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure

from dream_env.adapters.sb3 import DreamVecEnv
from dream_env.agents.fit.state_grounded import command as fit
from dream_env.agents.fit.state_grounded import dynamics, stages
from dream_env.agents.fit.trainer import Run
from dream_env.agents.nicol import vla as policy
from dream_env.agents.nicol.encoded_dataset import EncodedDataset
from dream_env.agents.studies.bench.cases import encode_starts, first_state
from dream_env.agents.studies.bench.clock import Case, Work
from dream_env.agents.train import command as train
from dream_env.agents.train.arguments import Arguments as Practice
from dream_env.nicol.constants import ACTION_NAMES, EPISODE_STEPS, IMAGE_SIZE, PROPRIO_NAMES
from dream_env.nicol.language import COLORS
from dream_env.nicol.layout import CUBES
from dream_env.rewards import DEFAULT_REWARD, METRIC_SCALE
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import take

ROUNDS, HORIZON, ELITE = 4, 5, 16
"""Settings of the planner: rounds, planning horizon, and number of candidates that are kept."""
ZOO_CONFIG = "dream_env.agents.run.zoo_ppo"
FIT_UPDATES = 8
"""Updates in one piece of work of a fit, on a CPU."""


def practice(num_envs: int, world_model: str, device: str, learner: str) -> Work:
    """Prepares rollouts with their updates, as SB3's `learn` does.

    Args:
        num_envs: Number of dreams.
        world_model: Checkpoint of the world model.
        device: Device of world model and learner.
        learner: "vla" for `agents.train --algo ppo` after its warm-up, "mlp" for plain PPO with `MultiInputPolicy`,
            "compiled" for the same in compiled dreams, "zoo" for rl_zoo3 with `ZOO_CONFIG`.
    """
    encode_starts(world_model, device)
    make: Any = {"vla": _vla, "mlp": _mlp, "compiled": partial(_mlp, compile=True), "zoo": _zoo}[learner]
    with contextlib.redirect_stdout(io.StringIO()):  # the zoo prints its settings
        model = make(num_envs, world_model, device)
    model.set_logger(configure(None, []))
    model.target_kl = None  # so that every update runs all of its epochs
    steps = num_envs * EPISODE_STEPS

    def iterate() -> int:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    return iterate


def _vla(num_envs: int, world_model: str, device: str) -> BaseAlgorithm:
    args = Practice(
        Path("."),
        init="state_grounded",
        world_model=world_model,
        device=device,
        n_envs=num_envs,
        critic_warmup=0,
    )
    return train.make_model(args, train.prepare(args, train.make_env(args)))


def _mlp(num_envs: int, world_model: str, device: str, compile: bool = False) -> BaseAlgorithm:
    env = DreamVecEnv(num_envs, world_model=world_model, device=device, compile=compile)
    size = {"n_steps": EPISODE_STEPS, "batch_size": min(512, num_envs * EPISODE_STEPS), "n_epochs": 2}
    return PPO("MultiInputPolicy", env, **size, gamma=0.97, seed=0, device=device)  # type: ignore[arg-type]


def _zoo(num_envs: int, world_model: str, device: str) -> BaseAlgorithm:
    from rl_zoo3.exp_manager import ExperimentManager

    sys.modules.pop(ZOO_CONFIG, None)  # the zoo modifies the config that it imports
    with tempfile.TemporaryDirectory() as folder:
        manager = ExperimentManager(
            Namespace(),
            "ppo",
            "NicoLDream-v0",
            folder,
            n_timesteps=num_envs * EPISODE_STEPS,
            eval_freq=-1,
            hyperparams={"n_envs": num_envs},
            env_kwargs={"world_model": world_model, "device": device, "reward": DEFAULT_REWARD},
            config=ZOO_CONFIG,
            device=device,
        )
        experiment = manager.setup_experiment()
    assert experiment is not None  # None only in a hyperparameter search
    return experiment[0]


def act(num_envs: int, world_model: str, pixels: bool = False) -> Work:
    """Prepares actions of the VLA: for observations of dreams, or for a picture and an instruction."""
    vla = policy.load("state_grounded")
    envs = gym.make_vec("NicoLDream-v0", num_envs=num_envs, task="all", world_model=world_model)
    obs, _ = envs.reset(seed=0)
    picture, proprio = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), np.zeros(len(PROPRIO_NAMES), np.float32)

    def actions() -> int:
        if pixels:
            vla.act_on({"pixels": picture, "proprio": proprio}, "lift the red cube")
        else:
            vla.predict(obs)
        return num_envs

    return actions


def plan(num_envs: int, world_model: str, device: str) -> Work:
    """Prepares planning by the cross-entropy method (Rubinstein 1999) with `num_envs` candidates in one batch.

    Each of four rounds rolls out candidates of five actions and keeps those that end nearest to the goal.
    """
    model = checkpoint.load(world_model, device)
    start, _ = first_state(model, num_envs)

    @torch.inference_mode()
    def choose() -> int:
        goal = model.metric(take(start, slice(1)))
        mean = torch.zeros(HORIZON, len(ACTION_NAMES), device=model.device)
        std = torch.ones_like(mean)
        for _ in range(ROUNDS):
            candidates = (mean + std * torch.randn(num_envs, *mean.shape, device=model.device)).clip(-1, 1)
            state = start
            for action in candidates.unbind(1):
                state, _ = model.step(state, action)
            reward = torch.exp(-(model.metric(state) - goal).norm(dim=1) / METRIC_SCALE)
            best = candidates[reward.topk(min(ELITE, num_envs)).indices]
            mean, std = best.mean(0), best.std(0, correction=0)
        return 1

    return choose


def fitting(
    num_envs: int, world_model: str, stage: str, device: fit.Device = "cpu", updates: int = FIT_UPDATES
) -> Work:
    """Prepares updates of `agents.fit` on random data; the steps counted are pictures or predicted frames.

    Args:
        num_envs: Batch size.
        world_model: Checkpoint that defines the architecture.
        stage: "autoencoder" or "predictor".
        device: Device of the updates.
        updates: Updates in one piece of work.
    """
    size: dict[str, Any] = {f"{stage}_batch": num_envs}
    args = fit.Arguments((), Path("."), device=device, **size)
    model = type(checkpoint.load(world_model))(checkpoint.load(world_model).config)
    episodes = 32
    frames, generator = (episodes, EPISODE_STEPS + 1), torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    images = (255 * noise(*frames, IMAGE_SIZE, IMAGE_SIZE, 3)).to(torch.uint8).numpy()
    rows = torch.arange(episodes)
    if stage == "autoencoder":
        seen = Namespace(
            images=images,
            proprio=noise(*frames, len(PROPRIO_NAMES)).numpy(),
            colors=np.tile(np.arange(CUBES), (episodes, 1)),
            objects=noise(*frames, CUBES, 3).numpy(),
            hand=noise(*frames, 3).numpy(),
        )
        one = stages.autoencoder_stage(args, model, seen, rows, rows)
    else:
        state, _ = first_state(model.eval(), episodes)
        shape = state["tokens"].shape[1:]
        latents = EncodedDataset(
            tokens=noise(*frames, *shape).half(),
            goal=noise(episodes, *shape).half(),
            proprio=2 * noise(*frames, len(PROPRIO_NAMES)) - 1,
            action=2 * noise(episodes, EPISODE_STEPS, len(ACTION_NAMES)) - 1,
            instruction=noise(episodes, 64),
            condition=torch.zeros(frames),
            cubes=100 * noise(*frames, len(COLORS), 3),
            named=torch.zeros(episodes, dtype=torch.long),
            hand=100 * noise(*frames, 3),
            held=torch.zeros(*frames, len(COLORS), dtype=torch.bool),
        )
        one = dynamics.predictor_stage(args, model, latents, latents, images[0])
    one = replace(one, updates=updates, finish=lambda: None, report=dict)

    def update() -> int:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # no progress bar
            Run(model, Path(folder), {}, bfloat16=args.bfloat16, device=device).train(one)
        return updates * num_envs

    return update


def practice_cases(num_envs: int, world_model: str, cores: int, compiles: bool = True) -> list[Case]:
    """Returns the cases of the learners, with one thread and with one per core; these are measured in turns."""
    learners = {"vla": "SB3 PPO, VLA (agents.train)", "mlp": "SB3 PPO, MultiInputPolicy"}
    if compiles:
        learners["compiled"] = "SB3 PPO, MultiInputPolicy, compiled"
    with contextlib.suppress(ImportError):
        import rl_zoo3  # noqa: F401

        learners["zoo"] = "rl_zoo3 PPO, VLA"
    return [
        Case(what, practice, num_envs, {**_own(world_model), "learner": name}, threads=threads, compared=f"{threads}")
        for threads in sorted({1, cores})
        for name, what in learners.items()
    ]


def action_cases(num_envs: int, world_model: str) -> list[Case]:
    """Returns the cases of choosing an action."""
    own = {"world_model": world_model}
    return [
        Case("VLA, from tokens", act, 1, own),
        Case("VLA, from a picture and words", act, 1, {**own, "pixels": True}),
        Case("VLA, batch from tokens", act, num_envs, own),
        Case(f"CEM plan, {ROUNDS} rounds of {HORIZON} steps", plan, num_envs, _own(world_model)),
    ]


def fit_cases(world_model: str, quick: bool) -> list[Case]:
    """Returns the cases of the stages of a fit that take most of its time."""
    sizes = {"autoencoder": 8, "predictor": 24} if quick else {"autoencoder": 64, "predictor": 512}
    return [
        Case(f"agents.fit, {stage}", fitting, size, {"world_model": world_model, "stage": stage})
        for stage, size in sizes.items()
    ]


def _own(world_model: str) -> dict[str, Any]:
    return {"world_model": world_model, "device": "cpu"}
