"""Shape of a unified model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """Shape of a model, in both of its roles.

    Attributes:
        base: Kind of the world model that encoder, decoder and embedding are of.
        base_config: Its config.
        width: Width W of tokens.
        heads: Heads of attention.
        hidden: Width of the hidden layer behind attention.
        trunk: Layers that both streams share.
        layers: Layers of each stream.
        members: Heads of the dream stream, an ensemble on top of one network.
        memory: Numbers that each token remembers.
        queries: Action queries.
        features: Numbers that actions are made of.
        goal: Whether the action stream is told the goal's embedding, in a world with goals.
        sees: Whether the action stream looks at the embedding beside the tokens.
        chunk: Actions that are chosen at once.
        execute: How many of them are carried out before it looks again.
        std: Standard deviation of drawn actions, as a share of half the bounds.
        encoder_id: Fingerprint of the encoder, see `dream_env.agents.policies.encoder_id`.
        disagreement_threshold: What `max_disagreement="calibrated"` stands for.
        acts: Whether its actions were learned; where not, it is a world model alone and no policy.

    Raises:
        ValueError: If a number is out of range.
    """

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
    acts: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name, least, most in _BOUNDS:
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name}={value!r}; accepted: a whole number, {least} to {most}")
        if self.width % self.heads or self.execute > self.chunk:
            raise ValueError(
                f"width={self.width}, heads={self.heads}, execute={self.execute}, chunk={self.chunk}; accepted: heads "
                "that divide width, execute up to chunk"
            )
        if not self.std > 0:
            raise ValueError(f"std={self.std!r}; accepted: a positive number")
