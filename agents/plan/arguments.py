"""Command-line arguments of `agents.plan`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED


@dataclass(frozen=True)
class Arguments:
    """Plans with a world model, and evaluates the plans in physics and in the dream."""

    solver: str = "icem"
    """Solver: cem, icem, mppi, gradient, or random (random shooting with the same budget, as a control)."""
    objective: tuple[str, ...] = ()
    """Terms of the cost, each as NAME or NAME=WEIGHT. By default energy; in a world without goals reward, or success
    if the world model predicts no reward.
    energy: distance to the goal embedding. metric: learned distance to the goal.
    success: negative log-probability of success. reward: negative predicted reward of the environment.
    disagreement: of the world model's ensemble."""
    path: float = 0.25
    """Weight of the mean cost along the path; the cost at its end has weight 1.
    Does not affect reward and disagreement, which are summed over the steps."""
    prior: str = "none"
    """Policy that proposes plans: a shipped one, or a path; none plans without a policy."""
    anchor: float = 0.0
    """Weight of the mean squared difference between a plan and the prior's actions; keeps plans close to the prior."""
    samples: int | None = None
    """Candidates per iteration; the solver's default if not given.
    With fewer samples than the solver has elites, a quarter of the samples are elites."""
    iterations: int | None = None
    """Iterations of the solver; the solver's default if not given."""
    horizon: int = 8
    """Length of a plan, in control steps."""
    execute: int = 3
    """Steps of a plan to execute before planning again."""
    draws: int = 0
    """Noise samples with which each candidate is imagined; their costs are averaged. 0: only the most likely future."""
    task: str = "all"
    """Task, such as reach, push or lift, or all that the world model was fitted to. In a world without tasks, only all
    is accepted."""
    episodes: int = 100
    """Number of episodes per task."""
    seed: int = HELD_OUT_SEED
    """First held-out seed; the episodes of a task use consecutive seeds from here on."""
    world_model: str = "default"
    """Checkpoint of the world model to plan with. By default the one that the prior names, else NICOL's."""
    gif_episodes: int = 2
    """Episodes per task in the GIF that shows physics next to the dream; 0 writes no GIF.
    No GIF is written for a world without pictures."""
    workers: int | None = None
    """Number of processes; by default one per core."""
    out: Path = Path("plan")
    """Output folder for planner.json, results.json, episodes.jsonl, results.md, results.png and rollouts.gif."""
