"""Arguments of `agents.clone --policy video`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dream_env.agents.clone import transformer_arguments
from dream_env.agents.policies.video import Feature
from dream_env.checks import check_choice, check_number


@dataclass(frozen=True)
class Arguments(transformer_arguments.Arguments):
    """Trains a policy that generates a future embedding and acts to reach it (a video policy in latent space)."""

    hindsight: float = 0.5
    """Share of every batch of the action stage, below 1, that is drawn from all recorded episodes, with the embedding
    --ahead steps later as the goal. The rest are demonstrations with generated goals."""
    ahead: int = 8
    """Control steps from the current embedding to the generated one."""
    end: bool = False
    """Also generates the embedding at the end of the episode, for display only."""
    videos: Literal["successes", "demonstrations"] = "successes"
    """Episodes that the generator is trained on, without their actions: "successes" (every episode that fulfils its
    instruction at the end) or "demonstrations". Failed episodes would teach it futures that the instruction does not
    ask for; they are used for hindsight only. If success was not recorded, demonstrations are used."""
    imagine_updates: int | None = None
    """Number of updates of the generator, which is trained first. By default as many as --updates."""
    steps: int = 4
    """Number of integration steps in which the generator (a flow) produces a future embedding."""
    feature: Feature = "full"
    """Goal of the action stage: "full" for the generated embedding, or "onepass" for one pass of the generator, which
    is faster and about the mean of the possible futures."""
    displaced: str | None = None
    """Vector of the observation whose change is the action, such as "proprio" for NICOL. Its next values are then
    generated as well, and the actions are computed from them instead of by an action head. By default an action head is
    trained."""

    def __post_init__(self) -> None:
        """Checks what can be checked without reading files."""
        super().__post_init__()
        check_choice("feature", self.feature, Feature)
        check_choice("videos", self.videos, ("successes", "demonstrations"))
        for name in ("ahead", "steps"):
            check_number(name, getattr(self, name), 1)
        if self.imagine_updates is not None:
            check_number("imagine_updates", self.imagine_updates, 1, beside="None, ")
        if self.hindsight == 1:
            raise ValueError("hindsight=1.0; accepted: less than 1, as some demonstrations are needed")
