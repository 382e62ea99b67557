"""What `agents.evaluate` can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.eval.results import Goal, Instruction
from dream_env.agents.run.config import split
from dream_env.checks import check_choice, check_number
from dream_env.nicol.shift import SCENES, SHIFTS
from dream_env.nicol.tasks import STANDARD, TASKS

HELD_OUT_SEED = 100_000
"""Seeds from here on are for evaluation, and for nothing else."""


def check_tasks(tasks: Sequence[str]) -> None:
    """Raises ValueError unless every task is known and named once: statistics take each episode for another one."""
    for task in tasks:
        check_choice("tasks", task, TASKS)
    if len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks={','.join(tasks)} names one twice; accepted: each once")


@dataclass(frozen=True)
class Arguments:
    """Evaluates saved policies in physics and in the dream, on the same held-out seeds."""

    policy: tuple[str, ...] = ()
    """What to evaluate, as PATH or LABEL=PATH, one or more. PATH is a folder with
    config.json and model.safetensors, a stable-baselines3 .zip, or a word: default or bc5 (shipped
    clones), expert, random, zero."""
    tasks: tuple[str, ...] = STANDARD
    """Tasks to evaluate on, of reach, push, lift, place, stack and arrange; or lift_bar, which takes both arms."""
    episodes: int = 100
    """Episodes per task, policy and world."""
    seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    instruction: Instruction = "normal"
    """What the policy is told; all but normal are controls in physics, judged by the original
    instruction. heldout: a phrasing that no training saw; swapped: names another cube on the table;
    shuffled: some other episode's sentence; absent: please."""
    goal: Goal = "own"
    """Whose goal picture the policy is shown. other: that of another scene in which the same sentence can be followed,
    a control, judged by the original goal. In the dream a world model may know no goal of success, see
    `dream_env.world_models.protocol.WorldModel`."""
    shift: str = "none"
    """Another physics than the one that policies practiced for, in physics only: friction (half), mass
    (cubes twice as heavy), lighting (dimmer, from the other side), camera (up to 1 cm off), table (another color)."""
    scene: str = "standard"
    """standard: three cubes on a white table; varied: another light, table and camera in every episode, one to five
    objects."""
    world_model: str | None = "default"
    """Checkpoint of the world model; by default the one of another world that the policies learned in, else
    NICOL's. None plays physics alone, for expert, random and zero. The default one knows one
    arm: for tasks that take both it stands for None."""
    env: str | None = None
    """Id of the real environment of a world model that is not NICOL's; None takes the one that it was fitted to. What
    is asked by tasks, instruction, goal, shift, scene and confirm is NICOL's alone, and refused elsewhere."""
    confirm: bool = False
    """Carries out in physics, open loop, what policies did in the dream: the share of the dream's successes that hold
    there tells how far a policy exploits what the dream gets wrong. The measure for it is physics itself, repeated with
    every cube 3 mm elsewhere."""
    gif_episodes: int = 2
    """Episodes per task in the side-by-side GIF of the last policy; 0 leaves it out."""
    workers: int | None = None
    """Processes; all cores by default."""
    ray: bool = False
    """Uses all cores of a Ray cluster instead, or of this machine where Ray finds none; needs the extra `ray`."""
    trust: bool = False
    """Loads zips of stable-baselines3 too: that runs the code in them, so trust their author."""
    out: Path = Path("evaluation")
    """Folder for results.json, episodes.jsonl, results.md, results.png and rollouts.gif."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files.

        Raises:
            ValueError: If there is no policy, or a task is unknown or named twice.
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
