"""What `agents.demo` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dream_env.nicol.tasks import TaskName

FEWEST = 40
"""Episodes of --from-scratch, below which some stage has nothing to learn from; those of its short form."""


@dataclass(frozen=True)
class Arguments:
    """Trains a cloned policy's action head in the dream and checks it in physics."""

    task: TaskName = "all"
    """Task to practice and to check."""
    init: str = "bc5"
    """Clone that practices, a folder or one that the package ships: "bc5" learned from 5 demonstrations per task;
    "default" learned from 100, which leave little to gain."""
    out: Path | None = None
    """Folder of the report and of everything made on the way; None takes nicol_demo, or one with _short and
    _from_scratch in its name for these forms."""
    short: bool = False
    """The same in miniature, in a minute or two; its figures say nothing."""
    from_scratch: bool = False
    """First collect episodes, fit a world model and clone a policy, instead of using the package's and --init."""
    episodes: int = 50
    """Episodes per task and world, before and after."""
    steps: int = 1_500_000
    """Steps of practice in the dream."""
    collected: int = 4500
    """Episodes to collect with --from-scratch."""
    demonstrations: int = 5
    """Demonstrations per task to clone with --from-scratch; 150 of each, as many as are collected at the least, leave
    little to gain."""
    seed: int = 0
    """Seed of all but the evaluation, whose starts are held out."""

    def size(self) -> Arguments:
        """Returns the arguments with everything small if the run is short."""
        return replace(self, episodes=2, steps=24_576, collected=FEWEST, demonstrations=1) if self.short else self

    @property
    def folder(self) -> Path:
        """The folder that is written."""
        forms = [name for name in ("short", "from_scratch") if getattr(self, name)]
        return self.out or Path("_".join(["nicol_demo", *forms]))

    def settings(self) -> dict[str, Any]:
        """Returns what a run cannot change on its way, JSON-able."""
        return {key: value for key, value in asdict(self).items() if key not in ("out", "episodes", "steps")}
