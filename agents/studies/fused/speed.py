"""Measures the time of an action and an imagined step, for one network and for two."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dream_env.agents.policies.unified import UnifiedPolicy
from dream_env.world_models.protocol import State
from dream_env.world_models.unified.model import UnifiedModel

BATCHES = (1, 256)
TURNS = 9
"""Turns of each variant; the fastest counts."""
WARM = 20
"""Calls before timing starts; networks that are recorded for replay are recorded during these calls."""


def plain(model: UnifiedModel) -> UnifiedModel:
    """Returns a copy of a unified model whose network is not recorded for replay."""
    made = UnifiedModel(copy.deepcopy(model.config), model.spec)
    made.load_state_dict(model.state_dict())
    return made.eval().requires_grad_(False)


@torch.inference_mode()
def speed(model: UnifiedModel, acts: UnifiedPolicy, world: Any, policy: Any, seconds: float) -> dict[str, Any]:
    """Returns the CPU milliseconds of an action and an imagined step of B dreams on one core, by B and variant.

    Variants: `pair`, the policy's action and then the world model's step; `fused`, both from one pass of the trunk;
    `fused_separate`, the two roles of the unified model called one after the other; `fused_plain`, as `fused` without
    recorded networks. The times do not include computing embeddings, which rewards need in every variant and which the
    pair's policy reads.

    Args:
        model: The unified model, as returned by `checkpoint.load`.
        acts: The unified model in its role as a policy.
        world: The world model that it replaces.
        policy: The policy that it replaces.
        seconds: CPU seconds for timing each variant.
    """
    policy.requires_grad_(False)
    slow, result = plain(model), {}
    for count in BATCHES:
        state, obs, goal, noise = _given(model, count)
        before: State = {name: part for name, part in state.items() if name != "tokens"}
        before["memory"] = world.encode(_seen(model, count))["memory"] if getattr(world, "has_memory", False) else noise
        ways: dict[str, Callable[[], Any]] = {
            "pair": lambda: world.step(before, policy.distribution(obs)[0], noise),  # noqa: B023
            "fused": lambda: model.act_and_step(state, goal, noise),  # noqa: B023
            "fused_separate": lambda: model.step(state, acts(obs), noise),  # noqa: B023
            "fused_plain": lambda: slow.act_and_step(state, goal, noise),  # noqa: B023
        }
        found = _clock(ways, seconds)
        row: dict[str, float] = {name: float(f"{1e3 * value:.3g}") for name, value in found.items()}
        row |= {f"share_{n}": round(found[n] / found["pair"], 3) for n in ways if n != "pair"}
        result[str(count)] = row
    return result


def _clock(ways: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Returns the CPU seconds of a call of each variant; the variants are timed in turns."""
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        for _ in range(WARM):
            way()
    for _ in range(TURNS):
        for name, way in ways.items():
            begun, calls = time.process_time(), 0
            while time.process_time() - begun < seconds / TURNS:
                way()
                calls += 1
            best[name] = min(best[name], (time.process_time() - begun) / calls)
    return best


def _seen(model: UnifiedModel, count: int) -> dict[str, Tensor]:
    """Returns observations sampled from their spaces, with a random instruction embedding."""
    space = model.spec.observation
    space.seed(0)
    rows = [space.sample() for _ in range(count)]
    seen = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in space.spaces}
    return seen | ({"instruction": torch.rand(count, 64) / 8} if model.spec.instructions else {})


def _given(model: UnifiedModel, count: int) -> tuple[State, dict[str, Tensor], Tensor, Tensor]:
    """Returns states, the observations of these states, goal embeddings, and noise."""
    torch.manual_seed(0)
    state = model.encode(_seen(model, count))
    embedding = model.embedding(state)
    goal = embedding + 0.5 * torch.randn_like(embedding)
    observed = {name: state[name] for name in (*model.observed, "instruction") if name in state}
    return state, {**observed, "embedding": embedding, "goal": goal}, goal, torch.rand(count, 1)
