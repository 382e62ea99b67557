"""What `agents.foresee` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED


@dataclass(frozen=True)
class Arguments:
    """Evaluates a policy with and without foresight, in physics and in the dream."""

    policy: str = "few"
    """The policy that proposes: default, few, or a path."""
    candidates: int = 16
    """Behaviors that are compared; the first is the policy's own."""
    objective: tuple[str, ...] = ()
    """Terms of the cost, NAME or NAME=WEIGHT, see `python -m agents.plan --help`; by default "metric disagreement=200"
    where the world model has a learned distance, else "energy"."""
    path: float = 0.25
    """How much the path counts beside its end."""
    horizon: int = 8
    """Steps that are imagined."""
    execute: int = 4
    """Steps for which the chosen behavior is kept."""
    std: float = 0.3
    """Noise on the policy's actions, as a share of half the action box."""
    draws: int = 4
    """Draws of noise that every candidate is imagined with."""
    margin: float = 0.0
    """Another behavior is chosen only if its cost is lower than the policy's own by so much; good policies need
    about 3, with --draws 8 --sure 4."""
    sure: float = 0.0
    """And only if it leads by so many standard errors over the draws of noise (with --draws 8, 3 is p < .01)."""
    controls: bool = True
    """Plays the random and the worst-scored candidate, too."""
    oracle: int = 0
    """Variations of every episode that physics itself chooses from; 0 for none."""
    task: str = "all"
    """reach, push, lift, or all; in a world that is not NICOL's, all."""
    episodes: int = 100
    """Episodes per task."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    world_model: str = "default"
    """Checkpoint that imagines."""
    gif_episodes: int = 0
    """Episodes per task in the GIF of imagined against real futures; 0 leaves it out."""
    workers: int | None = None
    """Processes; all cores by default."""
    out: Path = Path("foresight")
    """Folder for foresight.json, results.json, episodes.jsonl, results.md and results.png."""
