"""Configuration of the unified model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dream_env.checks import check_bounds

_BOUNDS = (
    ("width", 8, 1024),
    ("heads", 1, 16),
    ("hidden", 8, 4096),
    ("trunk", 1, 12),
    ("layers", 1, 12),
    ("members", 1, 64),
    ("memory", 1, 1024),
    ("queries", 1, 64),
    ("features", 8, 4096),
    ("chunk", 1, 64),
    ("execute", 1, 64),
)


@dataclass(frozen=True)
class UnifiedConfig:
    """Configuration of a `UnifiedModel`, as world model and as policy.

    Attributes:
        base: Kind of the base world model, which provides encoder, decoder and embedding.
        base_config: Config of the base model.
        width: Width W of tokens.
        heads: Number of attention heads.
        hidden: Width of the hidden layer after attention.
        trunk: Number of layers that both streams share.
        layers: Number of layers of each stream.
        members: Number of output heads of the dynamics stream, an ensemble on top of one network.
        memory: Size of the memory of each token.
        queries: Number of action queries.
        features: Size of the last hidden layer of the action stream.
        goal: Whether the action stream takes the goal embedding as input, in a world with goals.
        sees: Whether the action stream takes the embedding as input in addition to the tokens.
        chunk: Number of actions predicted at once (action chunk).
        execute: Number of actions of a chunk that are executed before the next prediction.
        std: Standard deviation of sampled actions, as a share of half the action range.
        encoder_id: Fingerprint of the encoder, see `dream_env.agents.policies.encoder_id`.
        disagreement_threshold: Value used for `max_disagreement="calibrated"`.
        is_policy: Whether the action stream was trained; if not, the model is a world model only, and no policy.

    Raises:
        ValueError: If a number is out of range.
    """

    RENAMED: ClassVar[dict[str, str]] = {"acts": "is_policy"}
    """Names of fields in older checkpoints, and what they are now."""

    base: str
    base_config: Mapping[str, Any] = field(default_factory=dict)
    width: int = 64
    heads: int = 2
    hidden: int = 128
    trunk: int = 1
    layers: int = 1
    members: int = 3
    memory: int = 8
    queries: int = 3
    features: int = 96
    goal: bool = True
    sees: bool = False
    chunk: int = 4
    execute: int = 1
    std: float = 0.17
    encoder_id: tuple[float, ...] | None = None
    disagreement_threshold: float | None = None
    is_policy: bool = True

    def __post_init__(self) -> None:
        """Validates the fields."""
        check_bounds(self, _BOUNDS)
        if self.width % self.heads or self.execute > self.chunk:
            raise ValueError(
                f"width={self.width}, heads={self.heads}, execute={self.execute}, chunk={self.chunk}; accepted: heads "
                "that divide width, execute up to chunk"
            )
        if not self.std > 0:
            raise ValueError(f"std={self.std!r}; accepted: a positive number")
