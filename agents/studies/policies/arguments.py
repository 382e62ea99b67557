"""What `agents.studies.policies` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED, check_tasks
from dream_env.agents.run.config import split
from dream_env.checks import check_number

SIZES: dict[str, Any] = {"depth": 1, "latents": 4, "batch": 128}
"""What all rows give to `agents.clone` alike: a network that two cores train in a minute."""


@dataclass(frozen=True)
class Arguments:
    """Clones policies with and without a world model inside from equal demonstrations, and judges them in physics."""

    data: tuple[Path, ...] = ()
    """Folders of recorded episodes of NICOL; needed unless --only-report."""
    world_model: str = "unlabelled"
    """Checkpoint of the world model whose encoder sees, fitted to such episodes."""
    tasks: tuple[str, ...] = ("push", "lift")
    """Tasks that one policy learns together. Tasks of other episodes or world models are a run of their own, into the
    same --work; the report is of all of them."""
    policies: tuple[str, ...] = ("plain", "latent", "plain, hindsight", "video")
    """Rows of the table: plain, latent, video, unified, fused and controls of these, such as "plain, hindsight"; a name
    that is not known is answered with all of them."""
    demos: tuple[int, ...] = (25,)
    """Demonstrations of each task."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of cloning."""
    others: int = 1500
    """Episodes beside the demonstrations, the first that are none: their pictures for what is foreseen and imagined,
    their actions for hindsight. Further demonstrations are left out, so that no row has more of them than another."""
    updates: int = 800
    """Updates of every row; "video" has as many more for its generator."""
    goal: bool = False
    """Shows policies the goal picture's embedding."""
    practice: int = 200_000
    """Steps of rows that practise in the dream."""
    episodes: int = 100
    """Held-out seeds of each task, in physics."""
    first_seed: int = HELD_OUT_SEED
    """The first of them."""
    work: Path = Path("runs/policies")
    """Folder of policies and episodes; what is there is not made again."""
    out: Path = Path("results")
    """Folder of policies.json and policies.md."""
    only_report: bool = False
    """Trains and plays nothing, and reports what is there."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        object.__setattr__(self, "tasks", split(self.tasks))
        given: Any = self.data
        if isinstance(given, str | Path):
            object.__setattr__(self, "data", (Path(given),))
        check_tasks(self.tasks)
        for name in ("updates", "practice", "episodes"):
            check_number(name, getattr(self, name), 1)
        check_number("others", self.others)
        for name in ("demos", "seeds"):
            for value in getattr(self, name):
                check_number(name, value, 1 if name == "demos" else 0)
        if not self.data and not self.only_report:
            raise ValueError("data=(); accepted: folders of agents.collect, or --only-report")

    @property
    def group(self) -> Path:
        """Where policies of these tasks are kept."""
        return self.work / "+".join(self.tasks)

    def settings(self) -> dict[str, Any]:
        """Returns what cells of a group have in common, JSON-able."""
        left_out = ("policies", "demos", "seeds", "work", "out", "only_report", "data", "world_model")
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        named = {"data": [one.name for one in self.data], "world_model": Path(self.world_model).name}
        return values | named | {"tasks": list(self.tasks), "sizes": SIZES}
