"""What `agents.plan` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED


@dataclass(frozen=True)
class Arguments:
    """Plans with a world model, and evaluates the plans in physics and in the dream."""

    solver: str = "icem"
    """cem, icem, mppi, gradient, or random (shooting at equal budget, the control)."""
    objective: tuple[str, ...] = ("energy",)
    """Terms of the cost, NAME or NAME=WEIGHT: energy (distance to the goal's embedding), metric (learned distance),
    success (minus its logarithm), reward (minus the environment's, as predicted), disagreement (of the ensemble)."""
    path: float = 0.25
    """How much the path counts beside its end."""
    prior: str = "none"
    """A policy that proposes plans: default, few, or a path; none for none."""
    anchor: float = 0.0
    """Cost of leaving what the prior does, times the mean square of the difference."""
    samples: int | None = None
    """Candidates per iteration; the solver's own by default. Of fewer than its elites a quarter are elites."""
    iterations: int | None = None
    """Iterations of the solver; its own by default."""
    horizon: int = 8
    """Steps that a plan looks ahead."""
    execute: int = 3
    """Steps of a plan that are carried out before the next one is made."""
    draws: int = 0
    """Draws of noise that a candidate is imagined with; 0 imagines what is likeliest."""
    task: str = "all"
    """reach, push, lift, or all; in a world that is not NICOL's, all."""
    episodes: int = 100
    """Episodes per task."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    world_model: str = "default"
    """Checkpoint that plans."""
    gif_episodes: int = 2
    """Episodes per task in the GIF of imagined against real futures; 0 leaves it out."""
    workers: int | None = None
    """Processes; all cores by default."""
    out: Path = Path("plan")
    """Folder for planner.json, results.json, episodes.jsonl, results.md, results.png and rollouts.gif."""
