"""Command-line options of `agents.studies.policies`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.evaluate.arguments import HELD_OUT_SEED, check_tasks
from dream_env.agents.run.config import split
from dream_env.checks import check_number

SIZES: dict[str, Any] = {"depth": 1, "latents": 4, "batch": 128}
"""Options of `agents.clone` that all rows share: a network that two cores train in a minute."""


@dataclass(frozen=True)
class Arguments:
    """Compares policies with and without a built-in world model, cloned from the same demonstrations, in physics."""

    data: tuple[Path, ...] = ()
    """Folders of recorded episodes of NICOL; needed unless --only-report."""
    world_model: str = "unlabelled"
    """Checkpoint of the world model whose encoder all rows use, fitted to such episodes."""
    tasks: tuple[str, ...] = ("push", "lift")
    """Tasks that one policy learns together. Tasks that need other episodes or another world model are a separate run
    with the same --work; the report covers all runs."""
    policies: tuple[str, ...] = ("plain", "latent", "plain, hindsight", "video")
    """Rows of the table: plain, latent, video, unified, fused, and controls of these, such as "plain, hindsight". An
    unknown name gives an error that lists all of them."""
    demos: tuple[int, ...] = (25,)
    """Demonstrations per task."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of cloning."""
    others: int = 1500
    """Number of recorded episodes used in addition to the demonstrations: their pictures train predictions of the
    future, their actions hindsight relabelling. They are spread evenly over the episodes that are no demonstrations, so
    that all rows have the same number of demonstrations."""
    updates: int = 800
    """Gradient updates of every row; "video" has the same number again for its generator."""
    goal: bool = False
    """Add the goal embedding to the observations of the policies."""
    practice: int = 200_000
    """Environment steps of the rows that practice in the dream."""
    episodes: int = 100
    """Held-out episodes per task, in physics."""
    first_seed: int = HELD_OUT_SEED
    """First of the held-out seeds."""
    work: Path = Path("runs/policies")
    """Folder of policies and episodes. Finished ones are reused."""
    out: Path = Path("results")
    """Folder of policies.json and policies.md."""
    only_report: bool = False
    """Only write the report of finished episodes; train and evaluate nothing."""

    def __post_init__(self) -> None:
        """Checks the arguments that can be checked without files."""
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
        """Folder of the policies of these tasks."""
        return self.work / "+".join(self.tasks)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that all cells of a group share, in a form that can be written as JSON."""
        left_out = ("policies", "demos", "seeds", "work", "out", "only_report", "data", "world_model")
        values = {name: value for name, value in asdict(self).items() if name not in left_out}
        named = {"data": [one.name for one in self.data], "world_model": Path(self.world_model).name}
        return values | named | {"tasks": list(self.tasks), "sizes": SIZES}
