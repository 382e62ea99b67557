"""What `agents.studies.imagined` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments:
    """Draws what policies with a world model inside imagine, beside what then happened; what is not named is left."""

    data: Path | None = None
    """Folder of recorded episodes that nothing has learned from, such as of `agents.collect --seed`; for all but
    --fused."""
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
    episode: int = 0
    """Which demonstration is drawn, of those that succeeded where success was recorded."""
    others: int = 200
    """Further ones, whose frames are looked through for the nearest and over which distances are averaged."""
    out: Path = Path("docs")
    """Folder of policies_NAME.png."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        check_number("episode", self.episode)
        check_number("others", self.others, 1)
        if not any((self.video, self.latent, self.unified, self.fused)):
            raise ValueError("nothing to draw; accepted: --video, --latent, --unified or --fused")
        if self.data is None and any((self.video, self.latent, self.unified)):
            raise ValueError("data=None; accepted: a folder of recorded episodes, but for --fused")
