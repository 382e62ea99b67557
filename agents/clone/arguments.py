"""What `agents.clone` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.run.config import resolve_paths
from dream_env.checks import check_choice, check_number
from dream_env.nicol.language import COLORS


@dataclass(frozen=True)
class Arguments:
    """Clones the scripted expert into a VLA."""

    data: tuple[Path, ...]
    """Folders of episodes. The first has the demonstrations, written by `python -m agents.collect`; --share tells what
    the others are for."""
    out: Path
    """Folder of the policy, of the curves (tensorboard/) and the run's state (last.pt)."""
    demos: int = 300
    """Number of demonstrations, of all tasks together; the first ones of the data are taken."""
    per_task: int | None = None
    """Number of demonstrations of each task, instead of --demos of all together."""
    world_model: str = "default"
    """Checkpoint of the world model whose encoder sees."""
    share: float = 0.0
    """Share of every batch that comes from the further folders, such as those of `python -m agents.synthesize`; of
    their successful episodes the actions that were carried out."""
    grounded: bool = True
    """Begins with what the world model has learned from every recorded episode: to find what a sentence names, and to
    read where it is; then few demonstrations are enough to learn what to do about it."""
    looks: bool = False
    """Attends to the tokens by language queries of its own as well. A grounded VLA whose world model has one does
    better without: what it sees for itself in few demonstrations does not hold in other pictures."""
    recolor: int = len(COLORS) - 1
    """How often every demonstration is seen again with its cubes in other colors, and told accordingly, 0 to 3. 0 for
    pictures in which more than the cubes is colored."""
    updates: int = 3000
    """Number of updates."""
    batch: int = 256
    """Frames per update."""
    rate: float = 3e-3
    """Peak of the learning rate, which falls to 0 as a cosine."""
    weight_decay: float = 0.1
    """Decay of the weights (AdamW)."""
    token_noise: float = 0.2
    """Standard deviation of the noise on the tokens, whose own is about 1."""
    closing_weight: float = 1.0
    """Weight of the error in closing the hand; a displacement has 1."""
    held_out: float = 0.1
    """Part of the demonstrations that is measured on and not trained on."""
    seed: int = 0
    """Seed of weights, batches and split."""
    save_every: int = 500
    """Updates between two measurements, and between two saves of the run's state."""
    snapshots: tuple[int, ...] = ()
    """Updates after which the policy is kept as it is, in snapshots/UPDATE: policies of different
    quality, for `python -m agents.fidelity`."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        given: Any = self.data
        if isinstance(given, str | Path):  # one folder, as callers in Python may write it
            object.__setattr__(self, "data", (Path(given),))
        if bool(self.share) != (len(self.data) > 1):
            raise ValueError(
                f"share={self.share} with {len(self.data)} folders of data; accepted: a share with two folders or more"
            )
        check_number("share", self.share, high=1)
        check_choice("recolor", self.recolor, range(len(COLORS)))
        check_number("demos", self.demos, 2)
        if self.per_task is not None:
            check_number("per_task", self.per_task, 1, beside="None, ")
        for name in ("updates", "batch", "save_every"):
            check_number(name, getattr(self, name), 1)
        for name in ("rate", "weight_decay", "token_noise", "closing_weight", "seed"):
            check_number(name, getattr(self, name))
        check_number("held_out", self.held_out, high=1)

    def settings(self) -> dict[str, str]:
        """Returns what fixes the course of a run."""
        values = {key: str(value) for key, value in asdict(self).items() if key not in ("out", "snapshots")}
        values["data"] = str(self.data[0])
        if len(self.data) > 1:
            values["further"] = " ".join(str(folder.resolve()) for folder in self.data[1:])
        else:
            del values["share"]  # runs of before there was one go on
        return resolve_paths(values)
