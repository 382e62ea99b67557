"""What `agents.studies.goal_tasks` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED, check_tasks
from dream_env.agents.run.config import split
from dream_env.checks import check_choice, check_number
from dream_env.rewards import RewardName

POLICIES = {
    "clone": "imitates demonstrations, and sees the goal picture",
    "dream": "that clone, practised in the dream",
    "no goal": "a clone that does not see the goal picture",
    "physics": "that clone, practised in physics instead, for as many control steps as the world model was fitted to",
}
"""What plays."""
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
"""What it is played under, beside the usual world."""
METHODS = (
    *POLICIES,
    "clone/other goal",
    "clone/held-out phrasing",
    *(f"{policy}/{condition}" for condition in (*SHIFTED, "varied") for policy in ("clone", "dream")),
)
"""Rows of the study: "POLICY" or "POLICY/CONDITION"."""
EVERY_SEED = ("clone", "dream")
"""Rows that are played for all numbers of demonstrations and all training seeds."""


@dataclass(frozen=True)
class Arguments:
    """Clones, practises and evaluates on tasks whose goal a picture shows, by a world model without labels."""

    data: tuple[Path, ...] = (Path("data/place"), Path("data/stack"), Path("data/tries"))
    """Folders of the episodes that the world model was fitted to, see docs/nicol.md."""
    world_model: str = "runs/goal_tasks/model"
    """Checkpoint of the world model, fitted to these data by `agents.fit --model slots`."""
    tasks: tuple[str, ...] = ("place", "stack")
    """Tasks that are played; policies learn all that the data have."""
    methods: tuple[str, ...] = METHODS
    """Rows that are played, "POLICY" or "POLICY/CONDITION" such as "dream/lighting": of the policies clone, dream, no
    goal, physics, and the conditions held-out phrasing, other goal, lighting, camera, table, varied."""
    demos: tuple[int, ...] = (25,)
    """Demonstrations of each task; the first number is that of the controls and of the summary."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds; all rows but clone and dream are of the first."""
    updates: int = 2000
    """Updates of a clone."""
    hindsight: float = 0.5
    """Share of a clone's batches that comes from all recorded episodes, see `agents.clone --policy transformer`."""
    std: float = 0.08
    """Deviation of the actions that practice tries, as a share of half their bounds: a cube is put down exactly."""
    noise: float = 0.05
    """Noise on embeddings in cloning, in their deviations; as little as centimetres are told by."""
    steps: int = 300_000
    """Steps of practice in the dream."""
    reward: RewardName = "success"
    """What practice is paid by."""
    temperature: float = 1.5
    """How far noise leads the dreams of practice from what is likeliest."""
    kl_coef: float = 0.02
    """Weight of the KL divergence of practice to the clone."""
    episodes: int = 100
    """Held-out starts of each task, in physics and in the dream."""
    first_seed: int = HELD_OUT_SEED
    """The first of them."""
    workers: int | None = None
    """Processes that play; all cores by default."""
    work: Path = Path("runs/goal_tasks")
    """Folder of policies and episodes; what is there is not made again."""
    out: Path = Path("results")
    """Folder of goal_tasks.json and goal_tasks.md."""
    only_report: bool = False
    """Trains and plays nothing, and reports what is there."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        for name in ("tasks", "methods"):
            object.__setattr__(self, name, split(getattr(self, name)))
        check_tasks(self.tasks)
        for method in self.methods:
            check_choice("methods", method, METHODS)
        for name in ("updates", "steps", "episodes"):
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
        check_number("temperature", self.temperature)
        check_number("kl_coef", self.kl_coef)
