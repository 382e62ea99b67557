"""Command-line options of `agents.studies.unlabelled`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.studies.reward_audit.arguments import SEED
from dream_env.checks import check_choice
from dream_env.nicol.tasks import STANDARD

PARTS = ("probe", "audit", "speed", "practice", "labelled", "robot")


@dataclass(frozen=True)
class Arguments:
    """Measures NICOL's world model fitted without labels: errors in centimeters, reward, speed and practice."""

    data: Path | None = None
    """Folder of NICOL's episodes, with labels. Errors are measured on the episodes that the model was not fitted to."""
    played: tuple[Path, ...] = ()
    """Folders of additional episodes in which a practiced policy lifts cubes, recorded by `agents.collect --task lift
    --mix policy:1 --policy PRACTISED`. Dreams are wrong more often about grasps that a policy found by practice."""
    world_model: str = "unlabelled"
    """Checkpoint of the world model."""
    evaluated: tuple[Path, ...] = ()
    """Output folders of `agents.evaluate` with this world model. In each, the first policy is a clone and the others
    were practiced from it; NAME, NAME-1 and NAME-2 are training seeds of the same practice. The gain in the summary is
    that of the first folder."""
    parts: tuple[str, ...] = PARTS
    """Parts to measure now; earlier measurements of other parts are kept. "robot" copies the figures of another robot
    from your_robot.json in --out."""
    tasks: tuple[str, ...] = STANDARD
    """Tasks whose reward is audited: the tasks of the episodes."""
    scenes: int = 15
    """Scenes per task for the audit of the reward."""
    labelled: tuple[int, ...] = (0, 20, 50, 200)
    """Numbers of labelled episodes from --data with which distance and success are learned again."""
    label_seeds: int = 1
    """Number of fits for each number of labelled episodes."""
    label_updates: int = 2000
    """Gradient updates of the distance in each of these fits."""
    label_rate: float = 2e-3
    """Learning rate of these fits. A small rate preserves what the world model learned from more data when there are
    few labels."""
    fits: Path = Path("runs/labelled")
    """Folder of these fits. Finished ones are reused."""
    seed: int = SEED
    """First seed of the scenes."""
    cache: Path = Path("runs/reward_audit")
    """Folder of the scenes."""
    out: Path = Path("results")
    """Folder of unlabelled.json and unlabelled.md."""
    workers: int | None = None
    """Number of physics processes; all cores by default."""

    def __post_init__(self) -> None:
        """Checks the arguments that can be checked without files."""
        for part in self.parts:
            check_choice("parts", part, PARTS)
