"""What `agents.studies.fused` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_choice

PARTS = ("parameters", "speed", "dream", "success")


@dataclass(frozen=True)
class Arguments:
    """Measures one network that is world model and policy beside the two that it replaces."""

    unified: str
    """Folder of the unified model."""
    policy: str
    """Folder of the policy that it replaces: the one that it was taught by."""
    world_model: str = "unlabelled"
    """The world model that it replaces."""
    separate: tuple[str, ...] = ()
    """A pair of about its size: folders of a unified model of next tokens alone (--action-weight 0) and of one of
    actions alone (--token-weight 0), each with a trunk of its own."""
    data: Path | None = None
    """Recorded episodes; those that neither was fitted to are measured on. NICOL's, with labels, tell centimeters."""
    evaluated: tuple[Path, ...] = ()
    """Folders of `agents.evaluate`, all on the same starts; the unified model under the name of its folder."""
    beside: str | None = None
    """Label of the policy that it replaces in those; None takes the first one's name."""
    practised: str | None = None
    """Label of the fused policy after practice in its own dream; None where it has not practised."""
    parts: tuple[str, ...] = PARTS
    """What is measured now; what was measured before of the same models stays."""
    seconds: float = 0.5
    """Time of a turn of the clock."""
    out: Path = Path("results")
    """Folder of fused.json and fused.md."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        if len(self.separate) not in (0, 2):
            raise ValueError(f"separate={self.separate}; accepted: none, or two folders")
        for part in self.parts:
            check_choice("parts", part, PARTS)
