"""Configuration of the slot world model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class SlotConfig:
    """Configuration of a `SlotModel`.

    Attributes:
        slots: Number K of slots, one for each object; objects are identified by their color.
        colors: Number of colors to which pixels are assigned, including colors that belong to no slot.
        picture_size: Side length in pixels to which images are resized, a multiple of 16.
        members: Number of members of the dynamics ensemble.
        width: Width of its hidden layers.
        depth: Number of its hidden layers.
        memory: Size of the memory that each ensemble member keeps for each slot.
        message: Size of the messages between slots.
        outcomes: Number of alternative outcomes of a step that each member predicts; 1 for checkpoints without this
            field.
        queries: Number of slots that an instruction can refer to at once.
        word_order: Whether the sentence embedding depends on word order, see `dream_env.language.embed_in_order`.
        code: Size of the task code computed from the instruction.
        nets: Number of networks of the embedding.
        net_dim: Embedding elements that each network computes.
        net_width: Width of their three hidden layers.
        pointing: Scale of the additional embedding elements with the slots that the instruction refers to, so that
            policies need not infer them from the other elements; 0 omits them.
        position: Dimension of object positions, learned from labelled episodes; 0 without labels.
        success: Whether the data record which episodes succeeded.
        success_by_goal: Whether the success prediction also takes the goal as input.
        rewards: Whether the data contain rewards, so that the model predicts them.
        terminates: Whether recorded episodes terminate, so that the model predicts termination.
        disagreement_threshold: Value used for `max_disagreement="calibrated"`.

    Raises:
        ValueError: If a number is out of range.
    """

    RENAMED: ClassVar[dict[str, str]] = {"colours": "colors"}
    """Names of fields in older checkpoints, and what they are now."""

    slots: int = 4
    colors: int = 12
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
        """Validates the fields."""
        positive = ("slots", "colors", "members", "width", "depth", "memory", "message", "queries", "code", "nets")
        for name in (*positive, "outcomes", "net_dim", "net_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; accepted: at least 1")
        if not 0 <= self.position <= 3:
            raise ValueError(f"position={self.position}; accepted: 0 to 3")
        if not 0 <= self.pointing <= 1:
            raise ValueError(f"pointing={self.pointing}; accepted: 0 to 1")
        if self.picture_size < 16 or self.picture_size % 16:
            raise ValueError(f"picture_size={self.picture_size}; accepted: a multiple of 16")
