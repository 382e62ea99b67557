"""Command-line options of `agents.studies.imagined`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments:
    """Draws the predictions of policies with a built-in world model next to what then happened.

    Only the pictures whose options are given are drawn.
    """

    data: Path | None = None
    """Folder of recorded episodes that no model was trained on, for example recorded by `agents.collect --seed`. Needed
    for everything except --fused."""
    video: str | None = None
    """Policy of `agents.clone --policy video`, with a world model that can decode embeddings. Draws the futures that it
    imagines."""
    latent: str | None = None
    """Policy of `agents.clone --policy latent`. Draws the recorded frames nearest to its predicted embeddings, and the
    distance of these predictions to the true future embeddings."""
    unified: str | None = None
    """Folder of a model of `agents.fit --model unified`. Draws its rollout under recorded actions next to that of its
    base."""
    base: str = "unlabelled"
    """World model that the unified model is based on."""
    fused: Path | None = None
    """File fused.json of `agents.studies.fused`. Draws weights, time and error of one network and of two."""
    tasks: tuple[str, ...] = ()
    """Tasks whose episodes may be drawn; without any, all tasks."""
    episode: int = 0
    """Index of the demonstration to draw, among the successful ones if success was recorded."""
    others: int = 200
    """Number of other demonstrations in which the nearest frames are searched and over which distances are averaged."""
    out: Path = Path("docs")
    """Folder of policies_NAME.png."""

    def __post_init__(self) -> None:
        """Checks the arguments that can be checked without files."""
        check_number("episode", self.episode)
        check_number("others", self.others, 1)
        if not any((self.video, self.latent, self.unified, self.fused)):
            raise ValueError("nothing to draw; accepted: --video, --latent, --unified or --fused")
        if self.data is None and any((self.video, self.latent, self.unified)):
            raise ValueError("data=None; accepted: a folder of recorded episodes, but for --fused")
