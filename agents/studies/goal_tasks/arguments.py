"""Command-line options of `agents.studies.goal_tasks`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED, check_tasks
from dream_env.agents.run.config import split
from dream_env.checks import check_choice, check_number
from dream_env.rewards import RewardName

POLICIES = {
    "clone": "imitates demonstrations, and sees the goal picture",
    "dream": "that clone, practiced in the dream",
    "no goal": "a clone that does not see the goal picture",
    "physics": "that clone, practiced in physics instead, for as many control steps as the world model was fitted to",
    "longer cloning": "that clone, with as many more updates as take the time of practice in the dream",
    "untrained dream": "that clone, practiced in a dream that sees as the true one does, and hardly moves",
    "coevolved": "the practiced policy, practiced on in the world model that was refitted to some of its own episodes",
}
"""Policies of the study, with their descriptions."""
SHIFTED = ("lighting", "camera", "table")
"""Shifts of physics, see `dream_env.nicol.shift`."""
CONDITIONS = {
    "held-out phrasing": "told in words that no training saw",
    "other goal": "shown the goal picture of another scene; judged by its own",
    "lighting": "in physics with dimmer light from the other side",
    "camera": "in physics with a camera up to 1 cm off",
    "table": "in physics with a table of another color",
    "varied": "in scenes that vary: light, shadows, table, camera, one to five objects of several shapes and sizes",
}
"""Conditions of evaluation other than the standard one, with their descriptions."""
METHODS = (
    *POLICIES,
    "clone/other goal",
    "clone/held-out phrasing",
    *(f"{policy}/{condition}" for condition in (*SHIFTED, "varied") for policy in ("clone", "dream")),
)
"""Rows of the study: "POLICY" or "POLICY/CONDITION"."""
COMPARED = ("clone", "dream")
"""Rows that are run for all numbers of demonstrations and all training seeds."""
EVERY_SEED = (*COMPARED, "longer cloning", "untrained dream", "clone/held-out phrasing", "clone/varied", "dream/varied")
"""Rows that are run for all training seeds."""


@dataclass(frozen=True)
class Arguments:
    """Clones, practices and evaluates policies on tasks with goal pictures, by a world model fitted without labels."""

    data: tuple[Path, ...] = (Path("data/place"), Path("data/stack"), Path("data/tries"))
    """Folders of the episodes that the world model was fitted to; docs/nicol.md shows how to record them."""
    world_model: str = "runs/goal_tasks/model"
    """Checkpoint of the world model, fitted to these episodes by `agents.fit --model slots`."""
    tasks: tuple[str, ...] = ("place", "stack")
    """Tasks to evaluate. Policies learn all tasks in the data."""
    methods: tuple[str, ...] = METHODS
    """Rows to run, as "POLICY" or "POLICY/CONDITION", such as "dream/lighting". Policies: clone, dream, no goal,
    physics, longer cloning, untrained dream, coevolved. Conditions: held-out phrasing, other goal, lighting, camera,
    table, varied."""
    demos: tuple[int, ...] = (25,)
    """Demonstrations per task. The controls and the summary use the first number."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds. The rows about goals, shifts, physics and coevolution use only the first."""
    updates: int = 2000
    """Gradient updates of a clone."""
    hindsight: float = 0.5
    """Fraction of each cloning batch that comes from all recorded episodes with hindsight relabelling, see
    `agents.clone --policy transformer`."""
    std: float = 0.08
    """Standard deviation of the exploration in practice, as a fraction of half the action range. It is small because
    cubes have to be put down precisely."""
    noise: float = 0.05
    """Noise added to embeddings in cloning, in units of their standard deviation. It is small so that differences of
    centimeters remain visible in the embedding."""
    steps: int = 300_000
    """Environment steps of practice in the dream."""
    physics_steps: int | None = None
    """Control steps of practice in physics; by default those in the data. Give all that the world model was fitted to,
    if its data are no longer there."""
    coevolved_episodes: int = 200
    """Episodes of the practiced policy that are recorded in physics for the row `coevolved`."""
    refit_updates: int = 5000
    """Gradient updates of each part of the world model that is refitted to them."""
    reward: RewardName = "success"
    """Reward of practice."""
    temperature: float = 1.5
    """Temperature of the dreams in practice: 0 gives the most likely predictions, larger values more noise."""
    kl_coef: float = 0.02
    """Weight of the KL divergence to the clone in practice."""
    episodes: int = 100
    """Held-out episodes per task, in physics and in the dream."""
    first_seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    workers: int | None = None
    """Number of processes for evaluation; all cores by default."""
    work: Path = Path("runs/goal_tasks")
    """Folder of policies and episodes. Finished ones are reused."""
    out: Path = Path("results")
    """Folder of goal_tasks.json and goal_tasks.md."""
    only_report: bool = False
    """Only write the report of finished episodes; train and evaluate nothing."""

    def __post_init__(self) -> None:
        """Checks the arguments that can be checked without files."""
        for name in ("tasks", "methods"):
            object.__setattr__(self, name, split(getattr(self, name)))
        check_tasks(self.tasks)
        for method in self.methods:
            check_choice("methods", method, METHODS)
        for name in ("updates", "steps", "episodes", "coevolved_episodes", "refit_updates"):
            check_number(name, getattr(self, name), 1)
        for name in ("demos", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}=() names none; accepted: at least one")
        for demos in self.demos:
            check_number("demos", demos, 1)
        for seed in self.seeds:
            check_number("seeds", seed)
        check_choice("reward", self.reward, RewardName)
        check_number("std", self.std, 1e-3)
        check_number("noise", self.noise)
        check_number("hindsight", self.hindsight, high=1)
        if self.physics_steps is not None:
            check_number("physics_steps", self.physics_steps, 1, beside="None, ")
        check_number("temperature", self.temperature)
        check_number("kl_coef", self.kl_coef)
