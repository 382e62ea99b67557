"""Command-line options of `agents.studies.fused`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_choice

PARTS = ("parameters", "speed", "dream", "success")


@dataclass(frozen=True)
class Arguments:
    """Compares one network that is world model and policy with the two networks that it replaces."""

    unified: str
    """Folder of the unified model."""
    policy: str
    """Folder of the policy that it replaces, which was its teacher."""
    world_model: str = "unlabelled"
    """World model that it replaces."""
    separate: tuple[str, ...] = ()
    """Two separate networks of about the same total size, for comparison: the folders of a unified model fitted to next
    tokens only (--action-weight 0) and of one fitted to actions only (--token-weight 0)."""
    data: Path | None = None
    """Folder of recorded episodes of NICOL with labels. Dream errors in centimeters are measured on the episodes that
    the fit held out."""
    evaluated: tuple[Path, ...] = ()
    """Output folders of `agents.evaluate`, all on the same starts. The unified model has its folder name as label."""
    beside: str | None = None
    """Label in these results of the policy that it replaces; None takes the folder name of --policy."""
    practised: str | None = None
    """Label in these results of the fused policy after practice in its own dream; None if there is none."""
    parts: tuple[str, ...] = PARTS
    """Parts to measure now. Earlier measurements of the same unified model are kept."""
    seconds: float = 0.5
    """CPU seconds for timing each variant."""
    out: Path = Path("results")
    """Folder of fused.json and fused.md."""

    def __post_init__(self) -> None:
        """Checks the arguments that can be checked without files."""
        if len(self.separate) not in (0, 2):
            raise ValueError(f"separate={self.separate}; accepted: none, or two folders")
        for part in self.parts:
            check_choice("parts", part, PARTS)
