"""What `agents.studies.imagined` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments:
    """Draws what policies with a world model inside imagine, beside what then happened; what is not named is left."""

    data: Path | None = None
    """Folder of recorded episodes; for all but --fused."""
    video: str | None = None
    """Policy of `agents.clone --policy video` whose world model can draw embeddings: what it imagines."""
    latent: str | None = None
    """Policy of `agents.clone --policy latent`: the recorded frames that are nearest to what it foresees, and how far
    that is from what comes."""
    unified: str | None = None
    """Folder of `agents.fit --model unified`: its dream under recorded actions, beside its base's."""
    base: str = "unlabelled"
    """World model that the unified one was made around."""
    fused: Path | None = None
    """fused.json of `agents.studies.fused`: weights, time and error of one network and of two."""
    tasks: tuple[str, ...] = ()
    """Tasks whose episodes are drawn; none for all."""
    skip: int = 100
    """Demonstrations of each task that are left out, as policies were cloned from the first ones."""
    episode: int = 0
    """Which of the others is drawn; successful ones alone where success was recorded."""
    others: int = 200
    """Episodes whose frames are looked through for the nearest ones, and that distances are averaged over."""
    out: Path = Path("docs")
    """Folder of policies_NAME.png."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        for name in ("skip", "episode"):
            check_number(name, getattr(self, name))
        check_number("others", self.others, 1)
        if not any((self.video, self.latent, self.unified, self.fused)):
            raise ValueError("nothing to draw; accepted: --video, --latent, --unified or --fused")
        if self.data is None and any((self.video, self.latent, self.unified)):
            raise ValueError("data=None; accepted: a folder of recorded episodes, but for --fused")
