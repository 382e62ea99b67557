"""Options of `agents.fit --model slots`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dream_env.agents.fit.constants import MOST_STARTS
from dream_env.checks import check_number


@dataclass
class Arguments:
    """Fits a world model of object slots without labels, or with a few labelled episodes.

    Attributes:
        data: Folders of recorded episodes that contain at least one image per step.
        out: Output folder for the world model and the state of the run.
        init: Slot world model to fine-tune. Its sizes, colors and encoder are kept, and stages with 0 updates keep
            their weights: with `--updates 0 --own-updates 0` only distance and success are trained, which takes
            minutes.
        updates: Updates of the stage that trains the slot dynamics. The other stages have their own:
            `--own-updates`, `--distance-updates`, `--position-updates`.
        distance_updates: Updates of the stage that trains the embedding, whose distance counts steps, and success.
        keep_embedding: With `init`, keep the embedding, so that policies still fit the model: that stage trains the
            success prediction only, and the robot's appearance, `word_order` and `pointing` stay.
        own_updates: Updates of the stage that trains the robot's appearance: state estimation from images, and
            rendering. Skipped if the data have no vectors.
        relight: Share of the training images that are augmented with random light and random table colors while the
            robot state estimation is trained, 0 to 1. Increase it if light or table vary: the robot state of a goal
            image is only known from this estimate.
        most_slots: Largest number of slots; the actual number is determined from the images.
        picture_size: Side length in pixels to which images are resized, a multiple of 16.
        members: Number of members of the dynamics ensemble.
        width: Width of their hidden layers.
        outcomes: Number of alternative outcomes of a step that each member predicts, such as an object that stays in
            the hand or slips; 1 predicts a single outcome.
        instruction_noise: Noise on instructions while the embedding is trained, as a fraction of their length. With it,
            phrasings that were not recorded have nearly the embedding of those that were. 0 for none; above 1.5,
            instructions can no longer be told apart.
        queries: Number of slots that an instruction can refer to at once.
        word_order: Use sentence embeddings that depend on word order, needed for instructions such as "put A on B".
        pointing: Scale of additional embedding elements with the slots that the instruction refers to, for policies.
            0.3 hardly changes the distance; 0 omits them.
        labelled: Number of labelled episodes to use, drawn from the training episodes. Their labels train the
            prediction of object positions, which then also enters the distance. 0 uses no labels.
        label: NAME of the label column (`privileged.NAME`) with the concatenated positions of all objects in meters.
        label_size: Numbers per object in that column; the first three at most are its position.
        position_updates: Updates of the stage that trains position predictions.
        batch: Windows per batch, for each ensemble member.
        ahead: Length of a training window in steps, predicted open-loop.
        learning_rate: Peak learning rate.
        far: Distance in steps beyond which all states count as equally far; None uses 1.25 times the median episode
            length.
        use_success: Train on success marks if the data have them: one per episode, for its final state.
        held_out: Share of the episodes that is held out for evaluation, between 0 and 1. With `init`, the episodes that
            were held out from that model are used instead, if the data contain any.
        starts: Initial states to save per episode: its first frame, and random others.
        most_starts: Largest number of initial states to save; more episodes than this needs are drawn from.
        seed: Seed of weights, batches and the held-out split.
        threads: Number of torch threads.
    """

    data: tuple[Path, ...]
    out: Path
    init: str | None = None
    updates: int = 6000
    distance_updates: int = 2000
    keep_embedding: bool = False
    own_updates: int = 1200
    relight: float = 0.0
    most_slots: int = 8
    picture_size: int = 64
    members: int = 3
    width: int = 96
    outcomes: int = 2
    instruction_noise: float = 1.0
    queries: int = 1
    word_order: bool = False
    pointing: float = 0.0
    labelled: int = 0
    label: str = "objects"
    label_size: int = 3
    position_updates: int = 1500
    batch: int = 64
    ahead: int = 8
    learning_rate: float = 2e-3
    far: float | None = None
    use_success: bool = True
    held_out: float = 0.05
    starts: int = 4
    most_starts: int = MOST_STARTS
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        """Checks what would be found out only after the fit."""
        check_number("starts", self.starts, 1)
        check_number("most_starts", self.most_starts, self.starts)
        check_number("instruction_noise", self.instruction_noise)
        if self.keep_embedding and self.init is None:
            raise ValueError("keep_embedding=True without init; accepted: with the model whose embedding is kept")

    def settings(self) -> dict[str, Any]:
        """Returns the options that determine the result of a run."""
        return {k: v for k, v in asdict(self).items() if k not in ("data", "out", "threads", "starts", "most_starts")}
