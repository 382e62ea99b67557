"""Command-line arguments of `agents.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.eval.results import Goal, Instruction
from dream_env.agents.run.config import split
from dream_env.checks import check_choice, check_number
from dream_env.nicol.shift import SCENES, SHIFTS
from dream_env.nicol.tasks import TASKS

HELD_OUT_SEED = 100_000
"""First seed reserved for evaluation: seeds from here on are used for nothing else."""


def check_tasks(tasks: Sequence[str]) -> None:
    """Raises ValueError unless every task is known and named once: the statistics assume independent episodes."""
    for task in tasks:
        check_choice("tasks", task, TASKS)
    if len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks={','.join(tasks)} names one twice; accepted: each once")


@dataclass(frozen=True)
class Arguments:
    """Evaluates saved policies in physics and in the dream, on the same held-out seeds."""

    policy: tuple[str, ...] = ()
    """Policies to evaluate, each as PATH or LABEL=PATH; the first is the baseline of the paired comparisons.
    PATH is a folder with config.json and model.safetensors, a .zip of stable-baselines3, or one of these names:
    unlabelled or another shipped behavior clone, expert (scripted, physics only), random, zero."""
    tasks: tuple[str, ...] = ()
    """Tasks to evaluate on: any of reach, push, lift, place, stack and arrange; or lift_bar, which uses both arms.
    By default those of the world model, or without one reach, push and lift."""
    episodes: int = 100
    """Number of episodes per task, policy and world (physics and dream)."""
    seed: int = HELD_OUT_SEED
    """First held-out seed; the episodes of a task use consecutive seeds from here on."""
    instruction: Instruction = "normal"
    """Instruction given to the policy. Every value but normal is a control: it runs in physics only,
    and success is still judged by the original instruction.
    heldout: a phrasing that was not used in training.
    swapped: names another cube on the table. shuffled: the sentence of another episode.
    absent: the sentence "please", which names no task and no color."""
    goal: Goal = "own"
    """Goal picture given to the policy. own: that of the episode.
    other: a control, the goal picture of another scene in which the same sentence can be followed.
    Success is still judged by the original goal; in the dream, by the sentence alone
    where the world model does not predict success from the goal."""
    shift: str = "none"
    """Change of the physics that the policies were not trained for; runs in physics only.
    friction (half), mass (cubes twice as heavy), lighting (dimmer, from the other side),
    camera (up to 1 cm off), table (another color and pattern), or none."""
    scene: str = "standard"
    """standard: three cubes on a white table.
    varied: one to five objects, and another light, table and camera in every episode."""
    world_model: str | None = "default"
    """Checkpoint of the world model; None evaluates in physics only, for expert, random and zero.
    By default the one that all policies were trained in if it belongs to another world than NICOL's, else NICOL's.
    NICOL's default world model has one arm: tasks with both arms are then evaluated in physics only."""
    env: str | None = None
    """Id of the real environment, for a world model that is not NICOL's.
    None uses the environment that the world model was fitted to.
    Such worlds do not accept tasks, instruction, goal, shift, scene or confirm."""
    confirm: bool = False
    """Repeats in physics, open loop, the actions that policies chose in the dream.
    The share of dream successes that also succeed in physics shows how far a policy exploits errors of the dream.
    As a reference, actions chosen in physics are repeated there with every cube displaced by about 3 mm."""
    gif_episodes: int = 2
    """Episodes per task in the side-by-side GIF of the last policy; 0 writes no GIF.
    No GIF is written for a world without pictures."""
    workers: int | None = None
    """Number of processes; by default one per core."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead, or of this machine if Ray finds no cluster; needs the extra `ray`."""
    trust: bool = False
    """Also loads .zip files of stable-baselines3.
    Loading such a file runs code in it: use this only if you trust its author."""
    out: Path = Path("evaluation")
    """Output folder for results.json, episodes.jsonl, results.md, results.png and rollouts.gif."""

    def __post_init__(self) -> None:
        """Checks the values that can be checked without reading files.

        Raises:
            ValueError: If no policy is given, or a task is unknown or named twice.
        """
        if not self.policy:
            raise ValueError("no --policy given; accepted: PATH or LABEL=PATH, one or more")
        object.__setattr__(self, "tasks", split(self.tasks))
        check_tasks(self.tasks)
        check_number("episodes", self.episodes, 1)
        check_number("seed", self.seed)
        check_number("gif_episodes", self.gif_episodes)
        check_choice("goal", self.goal, Goal)
        check_choice("shift", self.shift, SHIFTS)
        check_choice("scene", self.scene, SCENES)
