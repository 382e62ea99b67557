"""What `agents.clone --policy latent` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from dream_env.agents.clone import transformer_arguments
from dream_env.checks import check_number


@dataclass(frozen=True)
class Arguments(transformer_arguments.Arguments):
    """Clones demonstrations into a VLA that learns to foresee the world model's embedding from all episodes."""

    future_weight: float = 0.5
    """Weight of the error of what is foreseen, on all recorded episodes; the error of actions, on demonstrations, has
    1. With 0 nothing is foreseen, and what comes out are the weights of `--policy transformer`: the control."""
    ahead: int = 8
    """Control steps to the embedding that is foreseen."""
    queries: int = 4
    """Future queries: latents that foresee, and that are left out in acting."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        super().__post_init__()
        check_number("future_weight", self.future_weight)
        check_number("ahead", self.ahead, 1)
        check_number("queries", self.queries, 1, 64)
