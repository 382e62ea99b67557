"""Arguments of `agents.fit --model vmc`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dream_env.agents.fit.constants import MOST_STARTS
from dream_env.agents.run.config import resolve_paths
from dream_env.checks import check_choice, check_number


@dataclass
class Arguments:
    """Fits V (VAE) and M (MDN-RNN) of World Models (Ha & Schmidhuber 2018) to episodes with one picture.

    Attributes:
        data: Folders of recorded episodes whose observations are a single picture.
        out: Output folder: the world model, the curves (tensorboard/) and the state of the run (last/).
        init: World model to start from, of the same kind, sizes and environment, such as that of an earlier round of
            data collection. By default random weights.
        preset: Sizes of the networks: "paper" for those of the paper for Doom, or "small" for two CPU cores.
        latent: Size of a picture's latent code. By default that of the preset. The paper uses 64 for Doom, 32 for
            CarRacing.
        memory: Width of the LSTM. By default that of the preset. The paper uses 512 for Doom, 256 for CarRacing.
        picture_updates: Updates of V, which come before those of M; 0 keeps the V of `init`.
        updates: Updates of M, besides `--picture-updates`; 0 keeps the M of `init`.
        batch: Batch size of V in pictures.
        windows: Batch size of M in windows.
        window: Steps in a window of M; short episodes give shorter windows.
        begun: Share of the windows that start at the start of an episode, as rollouts of the model do; the others start
            anywhere.
        picture_weight: Weight of V's squared error relative to the KL divergence. The paper uses 1, with which V leaves
            out small objects.
        rare_weight: Factor on that weight for pixels that differ by more than three standard deviations from their mean
            over all pictures.
        free_nats: KL divergence per latent dimension, in nats, that is not penalized.
        end_weight: Loss weight of steps that terminate an episode, as in the paper's code; other steps have weight 1.
        picture_rate: Peak learning rate of V.
        learning_rate: Peak learning rate of M.
        held_out: Fraction of the episodes that is held out for the reported errors. With `init`, the episodes that were
            held out from that model are used instead, if the data contain any.
        starts: Number of initial states from each episode: its first frame, and random later ones.
        most_starts: Largest number of initial states to save; more episodes than this needs are drawn from.
        seed: Seed of weights, batches and the held-out split.
        threads: Number of torch threads.
        bfloat16: Whether to compute in mixed precision. By default if the processor is faster with it.
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
    most_starts: int = MOST_STARTS
    seed: int = 0
    threads: int = 1
    bfloat16: bool | None = None

    def __post_init__(self) -> None:
        """Checks what can be checked without reading files."""
        check_choice("preset", self.preset, ("small", "paper"))
        for name, least in (("batch", 1), ("windows", 1), ("window", 1), ("starts", 1), ("threads", 1)):
            check_number(name, getattr(self, name), least)
        check_number("most_starts", self.most_starts, self.starts)
        for name in ("picture_updates", "updates"):
            check_number(name, getattr(self, name))
            if not getattr(self, name) and not self.init:
                raise ValueError(f"{name}=0 leaves the weights random; accepted: at least 1, or 0 with init")
        for name in ("picture_weight", "rare_weight", "free_nats", "end_weight", "seed"):
            check_number(name, getattr(self, name))
        for name in ("picture_rate", "learning_rate"):
            check_number(name, getattr(self, name), 1e-12)
        for name in ("held_out", "begun"):
            share = getattr(self, name)
            if not (0 <= share <= 1 and (name == "begun" or 0 < share < 1)):
                raise ValueError(f"{name}={share}; accepted: a share between 0 and 1")

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result of a run."""
        fixed = {k: v for k, v in asdict(self).items() if k not in ("data", "out", "threads", "starts", "most_starts")}
        return resolve_paths(fixed)
