"""What `agents.studies.unlabelled` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.agents.studies.reward_audit.arguments import SEED
from dream_env.checks import check_choice
from dream_env.nicol.tasks import STANDARD

PARTS = ("probe", "audit", "speed", "practice", "labelled", "robot")


@dataclass(frozen=True)
class Arguments:
    """Tells how far NICOL's world model without labels comes: slots in centimeters, its reward, speed and practice."""

    data: Path | None = None
    """Folder of NICOL's episodes, with labels; those that the model was not fitted to are measured on."""
    played: tuple[Path, ...] = ()
    """Folders of more episodes in which cubes are lifted, of `agents.collect --task lift --mix policy:1 --policy
    PRACTISED`: of grasps that a policy found by practice, dreams are wrong more often."""
    world_model: str = "unlabelled"
    """Checkpoint of the world model."""
    evaluated: tuple[Path, ...] = ()
    """Folders of `agents.evaluate` with this world model: of each, the first policy is a clone, the others practised
    from it. NAME, NAME-1, NAME-2 are seeds of one practice. The gain that stands at the top is the first one's."""
    parts: tuple[str, ...] = PARTS
    """What is measured now; what was measured before stays. "robot" takes the figures of another robot from
    your_robot.json in the same folder."""
    tasks: tuple[str, ...] = STANDARD
    """Tasks whose reward is audited: those of the episodes."""
    scenes: int = 15
    """Scenes of each task for the audit of the reward."""
    labelled: tuple[int, ...] = (0, 20, 50, 200)
    """Numbers of labelled episodes with which distance and success are learned anew, of the data."""
    label_seeds: int = 1
    """Fits for each of them."""
    label_updates: int = 2000
    """Updates of the distance in each of them."""
    label_rate: float = 2e-3
    """Their learning rate; a small one keeps, where the data are few, what the world model learned of more."""
    fits: Path = Path("runs/labelled")
    """Folder of these fits; what stands there is not fitted again."""
    seed: int = SEED
    """First seed of the scenes."""
    cache: Path = Path("runs/reward_audit")
    """Folder of the scenes."""
    out: Path = Path("results")
    """Folder of unlabelled.json and unlabelled.md."""
    workers: int | None = None
    """Processes in physics; all cores by default."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        for part in self.parts:
            check_choice("parts", part, PARTS)
