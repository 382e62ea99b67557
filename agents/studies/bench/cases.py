"""Measurements of `agents.studies.bench` without a learner: both environments, the world model, matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import dream_env  # noqa: F401  registers the ids
from dream_env.agents.fit.trainer import has_bfloat16
from dream_env.agents.studies.bench.clock import Case, Work
from dream_env.initial_states import InitialStates
from dream_env.language import INSTRUCTION_DIM
from dream_env.nicol import constants
from dream_env.nicol.constants import ACTION_NAMES
from dream_env.world_models import checkpoint
from dream_env.world_models.protocol import State, take

SQUARES = (256, 512, 1024, 2048)
"""Sizes of the square matrices from which the machine's best rate is taken."""
Shape = tuple[int, int, int]
"""Rows, inner length and columns of a matrix product."""
HALVED, COMPILED = "NicoLDream-v0, vector, bfloat16", "NicoLDream-v0, vector, compiled"


def dream(num_envs: int, world_model: str, device: str, interface: str, **more: Any) -> Work:
    """Prepares steps of `NicoLDream-v0`, including resets, from initial states that are already encoded.

    Args:
        num_envs: Number of dreams.
        world_model: Checkpoint of the world model.
        device: Device of the world model.
        interface: "single", "vector" or "sb3".
        **more: Other arguments of the env.
    """
    kwargs: dict[str, Any] = {"task": "all", "world_model": world_model, "device": device, **more}
    actions = _actions(num_envs)
    if interface == "single":
        env = gym.make("NicoLDream-v0", **kwargs)
        encode_starts(world_model, device)
        env.reset(seed=0)

        def step_and_reset() -> int:
            *_, truncated, _ = env.step(actions[0])
            if truncated:
                env.reset()
            return 1

        return step_and_reset
    if interface == "vector":
        envs: Any = gym.make_vec("NicoLDream-v0", num_envs=num_envs, **kwargs)
    else:
        from dream_env.adapters.sb3 import DreamVecEnv

        envs = DreamVecEnv(num_envs, **kwargs)
    encode_starts(world_model, device)
    envs.reset()

    def step() -> int:
        envs.step(actions)
        return num_envs

    return step


def encode_starts(world_model: str, device: str) -> None:
    """Encodes the initial states and goals in advance; otherwise this happens when they are first drawn."""
    initial = InitialStates.load(checkpoint.resolve(world_model) / "initial_states.npz")
    model, rows = checkpoint.load(world_model, device), np.flatnonzero(initial.step == 0)
    initial.states(model, rows)
    initial.goals(model, rows)


def bare(num_envs: int, world_model: str, device: str, heads: bool = False) -> Work:
    """Prepares steps of the world model alone, without instruction; `heads` adds success and metric, as in an env."""
    model = checkpoint.load(world_model, device)
    state, action = first_state(model, num_envs, heads)

    @torch.inference_mode()
    def step() -> int:
        nonlocal state
        state, _ = model.step(state, action)
        if heads:
            model.metric(state)
        wait(device)
        return num_envs

    return step


@torch.inference_mode()
def first_state(model: Any, num_envs: int, words: bool = False) -> tuple[State, Tensor]:
    """Returns states of black pictures, with or without an instruction, and actions."""
    seen = {name: torch.zeros(1, *space.shape) for name, space in model.spec.observation.spaces.items()}
    seen |= {name: seen[name].to(torch.uint8) for name in model.spec.pictures}
    seen |= {"instruction": torch.zeros(1, INSTRUCTION_DIM)} if words else {}
    state = model.encode({name: part.to(model.device) for name, part in seen.items()})
    action = torch.from_numpy(_actions(num_envs)).to(model.device)
    return take(state, torch.zeros(num_envs, dtype=torch.long, device=model.device)), action


def physics(num_envs: int, observation: str, world_model: str) -> Work:
    """Prepares steps of `NicoLReal-v0`, without resets, in which the expert acts to produce the goal picture.

    Args:
        num_envs: 1, in every process.
        observation: "embedding" to render and encode a picture in every step, as the counterpart of the dream;
            "picture" to only render it; "blind" for rigid-body physics without a picture.
        world_model: Checkpoint of the encoder.
    """
    from dream_env.nicol import real

    pixels = {"obs_type": "pixels", "reward": "success", "world_model": None}
    kwargs: dict[str, Any] = {"world_model": world_model} if observation == "embedding" else pixels
    env: Any = real.make("all", **kwargs)
    env.reset(seed=0)
    rng = np.random.default_rng(0)

    def step() -> int:
        action = rng.uniform(-1, 1, len(ACTION_NAMES)).astype(np.float32)
        if observation == "blind":
            env.proprio = constants.integrate(env.proprio, action)
            env.scene.step(constants.denormalize(env.proprio))
        else:
            env.step(action)
        return 1

    return step


def multiply(num_envs: int, shape: Shape, dtype: str, device: str = "cpu") -> Work:
    """Prepares a matrix product; its steps are floating-point operations."""
    (rows, inner, columns), kind = shape, getattr(torch, dtype)
    left, right = torch.randn(rows, inner).to(device, kind), torch.randn(columns, inner).to(device, kind)
    result = torch.empty(rows, columns, dtype=kind, device=device)

    @torch.inference_mode()
    def product() -> int:
        torch.mm(left, right.T, out=result)
        wait(device)
        return 2 * rows * inner * columns

    return product


def flops_per_step(world_model: str) -> dict[str, float]:
    """Counts the floating-point operations (two per multiply-add) of one predicted step, and of what an env adds."""
    model, rows = checkpoint.load(world_model), 1

    def count(work: Callable[[], object]) -> float:
        with FlopCounterMode(display=False) as counter, torch.enable_grad():  # grad: no replay, which hides operations
            work()
        return counter.get_total_flops() / rows

    state, action = first_state(model, rows)
    instructed, _ = first_state(model, rows, words=True)
    return {
        "predictor": count(lambda: model.step(state, action)),
        "success_and_metric": count(lambda: (model.success(instructed), model.metric(instructed))),
    }


def cases(batches: tuple[int, ...], world_model: str, cores: int, compiles: bool = True) -> list[Case]:
    """Returns the cases of both environments and of the world model alone.

    Args:
        batches: Batch sizes of dreams.
        world_model: Checkpoint of the world model.
        cores: Number of processes of the cases that use all cores.
        compiles: Whether to measure compiled dreams as well.
    """
    own = {"world_model": world_model, "device": "cpu"}
    rows = [Case("NicoLDream-v0, single", dream, 1, {**own, "interface": "single"})]
    for batch in batches:
        rows += [
            Case("NicoLDream-v0, vector", dream, batch, {**own, "interface": "vector"}, compared=f"batch {batch}"),
            Case("bare predictor", bare, batch, own, compared=f"batch {batch}"),
            Case("bare predictor, success, metric", bare, batch, {**own, "heads": True}, compared=f"batch {batch}"),
        ]
    halved = {**own, "interface": "vector", "precision": "bfloat16"}
    compiled = {**own, "interface": "vector", "compile": True}
    few = [batch for batch in (64, 256) if batch <= max(batches)] or [max(batches)]
    halves = has_bfloat16("cpu")
    rows += [Case(HALVED, dream, few[-1], halved)] if halves else []
    if compiles:
        rows.append(Case("NicoLDream-v0, single, compiled", dream, 1, {**compiled, "interface": "single"}))
        rows.append(Case(COMPILED, dream, few[-1], compiled))
    rows += [Case("NicoLDream-v0, SB3 VecEnv", dream, batch, {**own, "interface": "sb3"}) for batch in few]
    for observation, name in (("embedding", "picture and encoder"), ("picture", "picture"), ("blind", "no picture")):
        arguments = {"observation": observation, "world_model": world_model}
        rows += [Case(f"NicoLReal-v0, {name}", physics, 1, arguments, processes=p) for p in sorted({1, cores})]
    if cores > 1:
        rows.append(Case("NicoLDream-v0, vector", dream, few[-1], {**own, "interface": "vector"}, processes=cores))
        rows += [Case(HALVED, dream, few[-1], halved, processes=cores)] if halves else []
        rows += [Case(COMPILED, dream, few[-1], compiled, processes=cores)] if compiles else []
    return rows


def wait(device: str) -> None:
    """Waits until a device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _actions(num_envs: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (num_envs, len(ACTION_NAMES))).astype(np.float32)
