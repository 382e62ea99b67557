"""What `agents.fit --model dynamics` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.checks import check_number


@dataclass
class Arguments:
    """Arguments of the command.

    Attributes:
        data: Folders of recorded episodes.
        out: Folder of the world model and of the run.
        updates: Updates of the stage that learns how codes change.
        picture_updates: Updates of the stage that learns to code pictures; left out where there are none.
        members: Networks of the ensemble.
        width: Width of hidden layers.
        depth: Hidden layers of a network of the ensemble.
        memory: Numbers that remember what was before; None takes 128 where there are pictures, else 0.
        latent: Numbers that a picture is coded by.
        picture_size: Side to which pictures are resized.
        picture_weight: Weight of pixels that differ from the background, beside 1 for the others.
        picture_noise: Standard deviation of the noise on codes of pictures.
        batch: Windows of a batch, for each network of the ensemble.
        recall: Steps of a window in which recorded codes are seen; None takes 8 with a memory, else 1.
        ahead: Steps after these, predicted from predictions.
        learning_rate: Peak of the learning rate of codes' changes.
        held_out: Share of the episodes that figures are measured on.
        starts: Initial states of each episode: its first frame, and others at random.
        ends_as_goals: Takes where an episode ended for its goal, in data without goals.
        seed: Of weights, batches and what is held out.
        threads: Threads of torch; a second one helps with pictures only.
    """

    data: tuple[Path, ...]
    out: Path
    updates: int = 3000
    picture_updates: int = 2000
    members: int = 5
    width: int = 128
    depth: int = 3
    memory: int | None = None
    latent: int = 32
    picture_size: int = 64
    picture_weight: float = 10.0
    picture_noise: float = 0.2
    batch: int = 32
    recall: int | None = None
    ahead: int = 5
    learning_rate: float = 1e-3
    held_out: float = 0.1
    starts: int = 4
    ends_as_goals: bool = False
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        """Checks what would be found out only after the fit."""
        check_number("starts", self.starts, 1)

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run."""
        return {k: v for k, v in asdict(self).items() if k not in ("data", "out", "threads", "starts")}
