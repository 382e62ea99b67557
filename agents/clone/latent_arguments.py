"""Arguments of `agents.clone --policy latent`."""

from __future__ import annotations

from dataclasses import dataclass

from dream_env.agents.clone import transformer_arguments
from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments(transformer_arguments.Arguments):
    """Trains a VLA on demonstrations, and on all episodes to predict future embeddings as an auxiliary task."""

    future_weight: float = 0.5
    """Weight of the prediction loss, on all recorded episodes; the action loss, on demonstrations, has weight 1. 0
    switches the prediction off and gives the same weights as `--policy transformer`, as a baseline."""
    ahead: int = 8
    """Control steps from the current to the predicted embedding."""
    queries: int = 4
    """Number of latents (future queries) that predict the embedding. They are not computed when the policy acts."""

    def __post_init__(self) -> None:
        """Checks what can be checked without reading files."""
        super().__post_init__()
        check_number("future_weight", self.future_weight)
        check_number("ahead", self.ahead, 1)
        check_number("queries", self.queries, 1, 64)
