"""Command-line arguments of `agents.foresee`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED


@dataclass(frozen=True)
class Arguments:
    """Evaluates a policy with and without foresight, in physics and in the dream."""

    policy: str = "unlabelled"
    """Policy whose behavior is improved by foresight: a shipped one, or a path."""
    candidates: int = 16
    """Number of candidate behaviors to compare, 2 or more; the first is the policy without changes."""
    objective: tuple[str, ...] = ()
    """Terms of the cost, each as NAME or NAME=WEIGHT, see `python -m agents.plan --help`.
    By default "metric disagreement=200" if the world model has a learned distance, else "energy". In a world without
    goals "reward", or "success" if the world model predicts no reward."""
    path: float = 0.25
    """Weight of the mean cost along the path; the cost at its end has weight 1.
    Does not affect reward and disagreement, which are summed over the steps."""
    horizon: int = 8
    """Control steps to imagine ahead."""
    execute: int = 4
    """Control steps for which the chosen behavior is kept before choosing again."""
    std: float = 0.3
    """Standard deviation of the noise on the policy's actions, as a share of half the action box."""
    draws: int = 4
    """Noise samples with which each candidate is imagined, the same for all; 0: only the most likely future."""
    margin: float = 0.0
    """Chooses another behavior only if its cost is lower than the policy's own by more than this.
    Good policies need about 3, with --draws 8 --sure 4."""
    sure: float = 0.0
    """In addition, chooses another behavior only if its lead exceeds this many standard errors over the noise samples.
    With --draws 8, a value of 3 means p < .01; 0 requires nothing."""
    controls: bool = True
    """Also evaluates two controls: choosing a random candidate, and choosing the candidate with the worst score. They
    take about as long as foresight itself."""
    oracle: int = 0
    """Variations of every episode to try in physics, which gives the pass@K upper bound; 0 skips it."""
    task: str = "all"
    """Task, such as reach, push or lift, or all that the world model was fitted to. In a world without tasks, only all
    is accepted."""
    episodes: int = 100
    """Number of episodes per task."""
    seed: int = HELD_OUT_SEED
    """First held-out seed; the episodes of a task use consecutive seeds from here on."""
    world_model: str = "default"
    """Checkpoint of the world model to imagine with. By default the one that the policy names, else NICOL's."""
    gif_episodes: int = 0
    """Episodes per task in the GIF that shows physics next to the dream; 0 writes no GIF.
    No GIF is written for a world without pictures."""
    workers: int | None = None
    """Number of processes; by default one per core."""
    out: Path = Path("foresight")
    """Output folder for foresight.json, results.json, episodes.jsonl, results.md and results.png."""
