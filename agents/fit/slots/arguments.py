"""What `agents.fit --model slots` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass
class Arguments:
    """Arguments of the command.

    Attributes:
        data: Folders of recorded episodes with a picture.
        out: Folder of the world model and of the run.
        init: World model of this kind to go on from. Its shape and its way of seeing stay, and what gets no updates:
            with `--updates 0 --own-updates 0` only distance and success are learned, in minutes.
        updates: Updates of the stage that learns how slots move.
        distance_updates: Updates of the stage that learns how many steps are between states.
        own_updates: Updates of the stage that learns how the robot looks; left out where it has no vectors.
        relight: Share of the pictures that are shown under another light, on other ground, while the robot's state is
            learned to be read: of a goal nothing else tells it.
        most_slots: Largest number of slots; how many there are, the pictures tell.
        picture_size: Side to which pictures are resized, a multiple of 16.
        members: Networks of the ensemble that moves slots.
        width: Width of their hidden layers.
        outcomes: Outcomes of a step that each of them tells apart, as a thing is held or slips.
        queries: Slots that a sentence can name at once.
        word_order: Lets the order of words count, as where one thing is put on another.
        pointing: Scale of the numbers beside the distance that show policies where the named things are, such as 0.3,
            which adds next to nothing to the distance; 0 leaves them out.
        labelled: Episodes, drawn among those that are fitted to, whose labels are read: they teach it to tell where
            things are, and the distance to count that. 0 reads none.
        label: Column of the data (`privileged.NAME`) in which positions are, in meters, of any number of things.
        label_size: Numbers of a thing in it, of which the first three at most are its position.
        position_updates: Updates of the stage that learns positions.
        batch: Windows of a batch, for each network of the ensemble.
        ahead: Steps of a window, predicted from predictions.
        learning_rate: Peak of the learning rate.
        far: Steps from which on states are equally far from each other; None takes 1.25 of the median episode.
        use_success: Learns from success marks, where the data have them: one an episode, of its end.
        held_out: Share of the episodes that figures are measured on.
        starts: Initial states of each episode: its first frame, and others at random.
        most_starts: Largest number of initial states.
        seed: Of weights, batches and what is held out.
        threads: Threads of torch.
    """

    data: tuple[Path, ...]
    out: Path
    init: str | None = None
    updates: int = 6000
    distance_updates: int = 2000
    own_updates: int = 1200
    relight: float = 0.0
    most_slots: int = 8
    picture_size: int = 64
    members: int = 3
    width: int = 96
    outcomes: int = 2
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
    most_starts: int = 1200
    seed: int = 0
    threads: int = 1

    def settings(self) -> dict[str, Any]:
        """Returns what fixes the course of a run."""
        return {k: v for k, v in asdict(self).items() if k not in ("data", "out", "threads", "starts", "most_starts")}
