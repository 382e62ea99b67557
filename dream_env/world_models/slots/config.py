"""Shape of a world model of slots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlotConfig:
    """Shape of a model.

    Attributes:
        slots: Slots K, one for each thing that is told by its colour.
        colours: Colours that pixels are told apart by, those of slots and others.
        picture_size: Side to which pictures are resized, a multiple of 16.
        members: Networks of the ensemble that moves slots.
        width: Width of its hidden layers.
        depth: Hidden layers.
        memory: Numbers that each slot remembers.
        message: Numbers that slots tell each other.
        outcomes: Outcomes of a step that each member tells apart; checkpoints that do not say have one.
        queries: Slots that a sentence can name at once.
        word_order: Whether the order of words counts, see `dream_env.language.embed_in_order`.
        code: Numbers that a sentence's task is coded by.
        nets: Networks of the embedding.
        net_dim: Numbers of the embedding that each of them gives.
        net_width: Width of their three hidden layers.
        pointing: Scale of the numbers in the embedding that tell where in the pictures what a sentence names is, so
            that policies need not learn to read it off the others; 0 leaves them out.
        position: Numbers of each thing's position, which labelled episodes told; 0 without any.
        success: Whether the data tell which episodes succeeded.
        success_by_goal: Whether success is told by the goal, too.
        rewards: Whether rewards were recorded.
        terminates: Whether recorded episodes end by themselves.
        disagreement_threshold: What `max_disagreement="calibrated"` stands for.

    Raises:
        ValueError: If a number is out of range.
    """

    slots: int = 4
    colours: int = 12
    picture_size: int = 64
    members: int = 3
    width: int = 96
    depth: int = 2
    memory: int = 8
    message: int = 32
    outcomes: int = 1
    queries: int = 1
    word_order: bool = False
    code: int = 8
    nets: int = 2
    net_dim: int = 32
    net_width: int = 192
    pointing: float = 0.0
    position: int = 0
    success: bool = True
    success_by_goal: bool = False
    rewards: bool = False
    terminates: bool = False
    disagreement_threshold: float | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        positive = ("slots", "colours", "members", "width", "depth", "memory", "message", "queries", "code", "nets")
        for name in (*positive, "outcomes", "net_dim", "net_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; accepted: at least 1")
        if not 0 <= self.position <= 3:
            raise ValueError(f"position={self.position}; accepted: 0 to 3")
        if not 0 <= self.pointing <= 1:
            raise ValueError(f"pointing={self.pointing}; accepted: 0 to 1")
        if self.picture_size < 16 or self.picture_size % 16:
            raise ValueError(f"picture_size={self.picture_size}; accepted: a multiple of 16")
