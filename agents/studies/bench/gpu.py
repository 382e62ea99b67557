"""Measurements of `agents.studies.bench --device cuda`: dreams and learners that stay on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from dream_env.agents.eval.statistics import markdown_table
from dream_env.agents.studies.bench.cases import bare, flops_per_step, multiply, wait
from dream_env.agents.studies.bench.clock import Case, Work, clock_all
from dream_env.agents.studies.bench.learn import fitting, practice
from dream_env.agents.studies.bench.report import BARE
from dream_env.agents.studies.bench.start import about
from dream_env.nicol.constants import ACTION_NAMES, EPISODE_STEPS
from dream_env.tensors import TensorDreams

TARGET = 1_000_000
"""Target for the dreamt steps per second on a GPU."""
BATCHES, LEARNERS = (256, 4096, 32_768, 131_072), 4096
"""Batch sizes of dreams, and the number of dreams of a learner."""
SQUARES = (2048, 8192)
"""Sizes of the square matrices from which the GPU's best rate is taken."""
TITLES = {
    "steps": "Steps",
    "practice": "Practice, end to end",
    "frames": "Frames per second of a fit",
    "matmul": "Multiplication: FLOP per second",
}
FORMS: dict[str, dict[str, Any]] = {
    "TensorDreams": {},
    "TensorDreams, bfloat16": {"precision": "bfloat16"},
    "TensorDreams, compiled": {"compile": True},
    "TensorDreams, compiled, bfloat16": {"compile": True, "precision": "bfloat16"},
}
"""Variants of `TensorDreams`, and their arguments."""


def dreams(num_envs: int, world_model: str, device: str, **more: Any) -> Work:
    """Prepares episodes of `TensorDreams` under random actions."""
    envs = TensorDreams(num_envs, world_model=world_model, device=device, **more)
    action = 2 * torch.rand(num_envs, len(ACTION_NAMES), device=envs.device) - 1

    def episode() -> int:
        for _ in range(EPISODE_STEPS):
            envs.step(action)
        wait(device)
        return num_envs * EPISODE_STEPS

    return episode


def agreement(world_model: str, device: str, num_envs: int = 256) -> list[dict[str, Any]]:
    """Rolls out the same episodes on the CPU and in every variant on the device.

    Returns:
        Records of `what`; `distance` and `reward`, the mean absolute differences of the raw distance and of the reward
        from those on the CPU; and `success`, the fraction of steps at which both agree whether the task is done.
    """
    chance = np.random.default_rng(0)
    actions = torch.from_numpy(chance.uniform(-1, 1, (EPISODE_STEPS, num_envs, len(ACTION_NAMES))).astype(np.float32))

    def play(where: str, **more: Any) -> list[torch.Tensor]:
        envs = TensorDreams(num_envs, world_model=world_model, device=where, **more)
        envs.reset(start=torch.arange(num_envs))
        steps = []
        for action in actions:
            _, reward, _, _, info = envs.step(action.to(where))
            steps.append((info["distance"].cpu(), reward.cpu(), info["is_success"].cpu()))
        return [torch.stack(each) for each in zip(*steps, strict=True)]

    distance, reward, success = play("cpu")
    records = []
    for what, more in FORMS.items():
        distances, rewards, successes = play(device, **more)
        records.append(
            {
                "what": what,
                "distance": (distances - distance).abs().mean().item(),
                "reward": (rewards - reward).abs().mean().item(),
                "success": (successes == success).float().mean().item(),
            }
        )
    return records


def measure(
    device: str,
    world_model: str,
    quick: bool,
    seconds: float,
    repeats: int,
    progress: bool = True,
    command: str = "python -m agents.studies.bench --device cuda",
) -> Iterator[dict[str, Any]]:
    """Runs every measurement, the most important ones first.

    Args:
        device: Device of dreams and learners.
        world_model: Checkpoint of the world model.
        quick: Whether to use small batches, to check that everything runs.
        seconds: Length of a turn.
        repeats: Turns of every row.
        progress: Whether to show figures and a progress bar.
        command: Command that reproduces the figures.

    Yields:
        The contents of bench_cuda.json so far, after every list, since a borrowed machine may be gone before the end.
    """
    flops = flops_per_step(world_model)
    result: dict[str, Any] = {
        **about(world_model, command),
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "CPU",
        "predictor_flops_per_step": flops["predictor"],
        "flops_per_step": flops,
    }
    for name, group in _lists(device, world_model, quick).items():
        result[name] = [asdict(row) for row in clock_all({name: group}, seconds, repeats, progress)[name]]
        yield result | {"headline": _headline(result["steps"])}
    result["agreement"] = agreement(world_model, device, 4 if quick else 256)
    yield result | {"headline": _headline(result["steps"])}


def _headline(steps: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Compares the fastest dreams, in float32 and in any variant, with the target."""
    records = []
    for how, whats in {"float32, as it stands": ["TensorDreams"], "the fastest form": list(FORMS)}.items():
        value = max(row["steps_per_s"] for row in steps if row["what"] in whats)
        met = "yes" if value >= TARGET else "no"
        figure = f"dreamt steps per second on one GPU, {how}"
        records.append({"figure": figure, "asked": f"≥ {TARGET:,}", "measured": f"{value:,.0f}", "met": met})
    return records


def _lists(device: str, world_model: str, quick: bool) -> dict[str, list[Case]]:
    """Returns the cases to measure, by the name of their list in bench_cuda.json."""
    own = {"world_model": world_model, "device": device}
    batches, learners, squares = ((2, 4), 4, (64,)) if quick else (BATCHES, LEARNERS, SQUARES)
    forms = {what: more for what, more in FORMS.items() if not quick or "compile" not in more}
    fits = {"autoencoder": 8, "predictor": 24} if quick else {"autoencoder": 256, "predictor": 2048}
    steps = [Case(what, dreams, batch, {**own, **more}, device) for what, more in forms.items() for batch in batches]
    unrecorded = {**own, "capture": False}
    steps += [Case("TensorDreams, no CUDA graph", dreams, batch, unrecorded, device) for batch in batches]
    steps += [Case(BARE, bare, batch, own, device) for batch in batches]
    practices = [
        Case("SB3 PPO, VLA (agents.train)", practice, learners, {**own, "learner": "vla"}, device),
        Case("SB3 PPO, MultiInputPolicy", practice, learners, {**own, "learner": "mlp"}, device),
    ]
    products = [
        Case(
            f"{dtype}, {side} x {side}",
            multiply,
            1,
            {"shape": (side, side, side), "dtype": dtype, "device": device},
            device,
        )
        for dtype in ("float32", "bfloat16")
        for side in squares
    ]
    updates = {"updates": 2 if quick else 30}
    frames = [
        Case(f"agents.fit, {stage}", fitting, size, {**own, **updates, "stage": stage}, device)
        for stage, size in fits.items()
    ]
    return {"steps": steps, "practice": practices, "frames": frames, "matmul": products}


def page(result: dict[str, Any]) -> str:
    """Renders bench_cuda.json as Markdown: the targets first, then every row."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    flops = result["flops_per_step"]
    parts = [
        "# What dreaming costs on a GPU",
        f"`{result['command']}`, {result['date']}; {result['device']}; {versions}. World model: "
        f"{result['world_model']}. Every row is the best of a few turns. One predicted step: "
        f"{flops['predictor'] / 1e6:.2f} MFLOP; success head and metric {flops['success_and_metric'] / 1e6:.2f}.",
        markdown_table(list(result["headline"][0]), [list(record.values()) for record in result["headline"]]),
    ]
    for name, title in TITLES.items():
        if rows := result.get(name):
            table = [[row["what"], row["num_envs"], f"{row['steps_per_s']:,.0f}"] for row in rows]
            parts += [f"## {title}", markdown_table(["what", "batch", "per second"], table)]
    if rows := result.get("agreement"):
        table = [[row["what"], *(f"{row[name]:.2g}" for name in ("distance", "reward", "success"))] for row in rows]
        parts += [
            "## The same dreams as on a CPU?",
            "Mean absolute difference over whole episodes of random actions, and the share of steps at which both say "
            "alike whether the task is done. On a GPU torch rounds convolutions in float32 to TF32 by default.",
            markdown_table(["what", "distance", "reward", "success"], table),
        ]
    return "\n\n".join(parts) + "\n"
