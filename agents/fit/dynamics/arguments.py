"""Arguments of `agents.fit --model dynamics`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.fit.constants import MOST_STARTS
from dream_env.checks import check_number


@dataclass
class Arguments:
    """Fits a world model of any environment: an ensemble that predicts changes of a latent code.

    Attributes:
        data: Folders of recorded episodes.
        out: Output folder: the world model, the curves (tensorboard/) and the state of the run (last/).
        init: World model to fine-tune, of the same kind, observations and actions. It keeps its sizes and its scaling
            of vectors, and with `--picture-updates 0` its auto-encoders, so that policies still fit, except that the
            numbers in a recurrent memory change.
        updates: Updates of the dynamics stage, which learns how latent codes change. With pictures, the stage before it
            has `--picture-updates` of its own.
        picture_updates: Updates of the picture stage, which trains the auto-encoders; skipped if there are no pictures.
        members: Number of ensemble members.
        width: Width of hidden layers.
        depth: Number of hidden layers of an ensemble member.
        memory: Size of the recurrent memory (GRU), for observations that do not show the full state, such as single
            pictures without velocities. By default 128 with pictures, else 0 (no memory).
        latent: Size of a picture's latent code.
        picture_size: Side length in pixels to which pictures are resized, a multiple of 8.
        picture_weight: Loss weight of pixels that differ from the background; others have weight 1. Raise it if small
            moving objects are lost in reconstructions.
        picture_noise: Standard deviation of the noise that is added to latent codes of pictures in training.
        batch: Batch size in windows, for each ensemble member.
        recall: Steps at the beginning of a training window in which the model is given the recorded codes. By default 8
            with a memory, else 1.
        ahead: Steps after these that are predicted from the model's own predictions (open loop) in training.
        learning_rate: Peak learning rate of the dynamics stage.
        held_out: Fraction of the episodes that is held out for the reported errors. With `init`, the episodes that were
            held out from that model are used instead, if the data contain any.
        starts: Number of initial states from each episode: its first frame, and random later ones.
        most_starts: Largest number of initial states to save; more episodes than this needs are drawn from.
        ends_as_goals: Uses the last frame of each episode as its goal, for data without goals.
        seed: Seed of weights, batches and the held-out split.
        threads: Number of torch threads; a second one is useful only with pictures.
    """

    data: tuple[Path, ...]
    out: Path
    init: str | None = None
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
    most_starts: int = MOST_STARTS
    ends_as_goals: bool = False
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        """Checks what would otherwise fail only after training."""
        check_number("starts", self.starts, 1)
        check_number("most_starts", self.most_starts, self.starts)
        if not self.updates and not self.init:
            raise ValueError("updates=0 leaves the weights random; accepted: at least 1, or 0 with init")

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the result of a run."""
        return {k: v for k, v in asdict(self).items() if k not in ("data", "out", "threads", "starts", "most_starts")}
