"""What `agents.fit --model vmc` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.run.config import resolve_paths
from dream_env.checks import check_choice, check_number


@dataclass
class Arguments:
    """Fits V and M of World Models (Ha & Schmidhuber 2018) to episodes with a picture.

    Attributes:
        data: Folders of recorded episodes, of observations that are one picture.
        out: Folder of the world model and of the run.
        init: World model to begin with, of the same kind, sizes and environment, such as that of an earlier round of
            collecting; with updates of 0, V or M stays as it is there. None begins with random weights.
        preset: Sizes: "paper", those of the paper for Doom, or "small", for two cores.
        latent: Numbers that a picture is coded by; None takes the preset's. The paper: 64 for Doom, 32 for CarRacing.
        memory: Width of the LSTM; None takes the preset's. The paper: 512 for Doom, 256 for CarRacing.
        picture_updates: Updates of V; 0 keeps that of `init`.
        updates: Updates of M; 0 keeps that of `init`.
        batch: Pictures of a batch of V.
        windows: Windows of a batch of M.
        window: Steps of a window of M; a shorter episode makes a shorter window.
        begun: Share of the windows that begin with their episodes, as dreams do; the others begin anywhere.
        picture_weight: Weight of V's squared errors; the paper has 1, which leaves small things out.
        rare_weight: Factor of it where a pixel is more than three standard deviations from its mean over all pictures.
        free_nats: Divergence up to which a number of the code costs nothing.
        end_weight: Weight of steps that end an episode, beside 1 for the others, as in the paper's code.
        picture_rate: Peak of V's learning rate.
        learning_rate: Peak of M's.
        held_out: Share of the episodes that figures are measured on.
        starts: Initial states of each episode: its first frame, and others at random.
        seed: Of weights, batches and what is held out.
        threads: Threads of torch.
        bfloat16: Computes in mixed precision; None does so where the processor is faster at it.
    """

    data: tuple[Path, ...]
    out: Path
    init: str | None = None
    preset: Literal["small", "paper"] = "small"
    latent: int | None = None
    memory: int | None = None
    picture_updates: int = 4000
    updates: int = 3000
    batch: int = 64
    windows: int = 32
    window: int = 100
    begun: float = 0.7
    picture_weight: float = 30.0
    rare_weight: float = 10.0
    free_nats: float = 0.5
    end_weight: float = 10.0
    picture_rate: float = 1e-3
    learning_rate: float = 1e-3
    held_out: float = 0.1
    starts: int = 1
    seed: int = 0
    threads: int = 1
    bfloat16: bool | None = None

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        check_choice("preset", self.preset, ("small", "paper"))
        for name, least in (("batch", 1), ("windows", 1), ("window", 1), ("starts", 1), ("threads", 1)):
            check_number(name, getattr(self, name), least)
        for name in ("picture_updates", "updates"):
            check_number(name, getattr(self, name))
            if not getattr(self, name) and not self.init:
                raise ValueError(f"{name}=0 leaves weights as chance drew them; accepted: at least 1, or 0 with init")
        for name in ("picture_weight", "rare_weight", "free_nats", "end_weight", "seed"):
            check_number(name, getattr(self, name))
        for name in ("picture_rate", "learning_rate"):
            check_number(name, getattr(self, name), 1e-12)
        for name in ("held_out", "begun"):
            share = getattr(self, name)
            if not (0 <= share <= 1 and (name == "begun" or 0 < share < 1)):
                raise ValueError(f"{name}={share}; accepted: a share between 0 and 1")

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run."""
        fixed = {k: v for k, v in asdict(self).items() if k not in ("data", "out", "threads", "starts")}
        return resolve_paths(fixed)
